//! The routes of the page, and what every answer has: its headers, and a refusal for who comes by a foreign name.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::{Semaphore, watch};

use super::Phase;
use super::activations::{self, RateLimit};
use super::connections::MAX_CONNECTIONS;
use super::digits::{Digits, Predictions};
use super::files::{self, RunFiles};
use super::history::SharedHistory;
use super::hosts::Hosts;
use super::stream::{self, MAX_PAGES};

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/dashboard.css");
const SCRIPT: &str = include_str!("page/dashboard.js");

/// Four bars in step.
const ICON: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="#1f5fbf"><rect x="1" y="3" width="2.6" height="10" rx="1"/><rect x="4.8" y="3" width="2.6" height="10" rx="1"/><rect x="8.6" y="3" width="2.6" height="10" rx="1"/><rect x="12.4" y="3" width="2.6" height="10" rx="1"/></g></svg>"##;

/// Everything comes from here, nothing may be inserted, and nobody may frame it.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the routes share.
pub struct Site {
    /// The run, as the loop tells it.
    pub history: SharedHistory,
    /// Whether the server goes on.
    pub phase: watch::Receiver<Phase>,
    /// Places for pages.
    pub places: Arc<Semaphore>,
    /// Of the requests for activations.
    pub rate_limit: RateLimit,
    /// The names that it answers to.
    hosts: Hosts,
    /// Once they are there.
    prepared: Mutex<Prepared>,
}

#[derive(Default)]
struct Prepared {
    files: Option<Arc<RunFiles>>,
    digits: Option<Digits>,
    /// The weights before the first step.
    first_weights: Option<Arc<[f32]>>,
}

impl Site {
    /// A site without a run yet.
    pub fn new(history: SharedHistory, phase: watch::Receiver<Phase>, hosts: Hosts) -> Self {
        let places = Arc::new(Semaphore::new(MAX_PAGES));
        Self { history, phase, places, rate_limit: RateLimit::default(), hosts, prepared: Mutex::default() }
    }

    /// Takes what there is once the data are loaded and the directory is made.
    pub fn prepare(&self, files: RunFiles, digits: Option<Digits>, first_weights: Option<Arc<[f32]>>) {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        *prepared = Prepared { files: Some(Arc::new(files)), digits, first_weights };
    }

    /// The files that are served.
    pub fn files(&self) -> Option<Arc<RunFiles>> {
        self.with_prepared(|prepared| prepared.files.clone())
    }

    /// The weights before the first step.
    pub fn first_weights(&self) -> Option<Arc<[f32]>> {
        self.with_prepared(|prepared| prepared.first_weights.clone())
    }

    /// What the newest weights make of test digits, not older than it has to be.
    pub fn predictions(&self) -> Option<Arc<Predictions>> {
        let weights = self.history.newest_weights()?;
        let urgent = self.history.is_over();
        self.with_prepared(|prepared| prepared.digits.as_mut()?.predict(Instant::now(), weights, urgent))
    }

    /// Uses the test digits.
    pub fn with_digits<T>(&self, use_them: impl FnOnce(&mut Digits) -> T) -> Option<T> {
        self.with_prepared(|prepared| prepared.digits.as_mut().map(use_them))
    }

    fn with_prepared<T>(&self, use_it: impl FnOnce(&mut Prepared) -> T) -> T {
        use_it(&mut self.prepared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All routes. Those of `others` (for probes and programs) stand beside them, with the same headers.
pub fn router(site: Arc<Site>, others: Router) -> Router {
    let routes = Router::new()
        .route("/", get(|| async { text("text/html; charset=utf-8", PAGE) }))
        .route("/dashboard.css", get(|| async { text("text/css; charset=utf-8", STYLE) }))
        .route("/dashboard.js", get(|| async { text("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/icon.svg", get(|| async { text("image/svg+xml", ICON) }))
        .route("/api/stream", get(stream::stream))
        .route("/api/look", post(activations::of_drawing))
        .route("/api/look/{index}", get(activations::of_digit))
        .route("/api/filters", get(activations::filters))
        .route("/api/digits", get(activations::digits))
        .route("/files/{*name}", get(files::file))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is nothing of this name here\n") })
        .with_state(Arc::clone(&site))
        .merge(others);
    guarded(site, routes)
}

/// Routes whose every answer has passed the guard, whole: the router adds the methods of a route at last.
fn guarded(site: Arc<Site>, routes: Router) -> Router {
    Router::new().fallback_service(routes).layer(from_fn_with_state(site, guard))
}

/// What a connection beyond the limit gets, and only once: the routes of `others`, so that no page keeps a probe out, and
/// else a refusal.
pub fn overflow(site: Arc<Site>, others: Router) -> Router {
    let refusal =
        format!("the dashboard has {MAX_CONNECTIONS} connections, and takes no more; close some pages\n");
    guarded(site, others.fallback(|| async { (StatusCode::SERVICE_UNAVAILABLE, refusal) })).layer(
        map_response(|mut response: Response| async {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }),
    )
}

fn text(content_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// Refuses a request that a page of another name made, says which methods a route has, and sets the headers.
async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let asks_for_methods = request.method() == Method::OPTIONS;
    let mut response = match site.hosts.refusal(request.uri(), request.headers()) {
        Some(sentence) => (StatusCode::MISDIRECTED_REQUEST, sentence).into_response(),
        None if request.uri().path() == "*" && asks_for_methods => {
            (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET,HEAD,POST")]).into_response()
        }
        None => next.run(request).await,
    };
    // The router knows the methods of each route, and that this is none of them.
    if asks_for_methods
        && response.status() == StatusCode::METHOD_NOT_ALLOWED
        && let Some(allowed) = response.headers_mut().remove(header::ALLOW)
    {
        let allowed = format!("{},OPTIONS", allowed.to_str().unwrap_or_default());
        response = (StatusCode::NO_CONTENT, [(header::ALLOW, allowed)]).into_response();
    }
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        // The report is allowed other things than the page.
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_nothing_inline_and_nothing_from_elsewhere() {
        for (name, text) in [("page", PAGE), ("style", STYLE), ("script", SCRIPT)] {
            for forbidden in ["http:", "https:", " style=", " onclick=", " onload=", "@import", "eval("] {
                let allowed = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!allowed.contains(forbidden), "{name} has {forbidden}");
            }
        }
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert!(PAGE.contains("<script src=\"dashboard.js\" defer></script>"), "its only script is a file");
        assert!(!PAGE.contains("<style"));
    }

    /// Behind a path of somebody else's server an address from the root is that server's.
    #[test]
    fn every_address_of_the_page_is_relative() {
        for (name, text) in [("page", PAGE), ("style", STYLE), ("script", SCRIPT)] {
            for quote in ['"', '\'', '`', '(', '='] {
                let absolute = format!("{quote}/");
                let found = text.find(&absolute).map(|at| &text[at..text.len().min(at + 40)]);
                assert_eq!(found, None, "{name}");
            }
        }
        for address in
            ["'api/stream'", "'api/digits'", "'api/look'", "'api/filters'", "`api/look/${", "`files/${"]
        {
            assert!(SCRIPT.contains(address), "{address}");
        }
    }
}
