//! What machines ask a coordinator over HTTP: `/metrics`, `/healthz`, `/readyz`, `/version`.
//!
//! Routes only, to be merged into whatever serves them. They read what sinks keep up to date, on the server's own
//! thread; nothing here is asked of the training loop, and nothing can be changed through it.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use lockstep_model::NUMERICS_VERSION;
use lockstep_proto::PROTOCOL_VERSION;
use lockstep_telemetry::{Exposition, Phase, Readiness};

/// What the routes show.
#[derive(Clone)]
pub struct MetricsState {
    /// The metrics.
    pub exposition: Exposition,
    /// Whether the run trains.
    pub readiness: Readiness,
}

/// The routes; all are `GET`.
pub fn router(state: MetricsState) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get("ok\n"))
        .route("/readyz", get(ready))
        .route("/version", get(version))
        .with_state(state)
}

/// OpenMetrics for whoever takes it or does not say, and Prometheus' older format for whoever wants plain text.
async fn metrics(State(state): State<MetricsState>, headers: HeaderMap) -> impl IntoResponse {
    let accepts = |kind: &str| {
        let mut accepted = headers.get_all(header::ACCEPT).iter();
        accepted.any(|value| value.to_str().is_ok_and(|value| value.contains(kind)))
    };
    let (kind, text) = if accepts("text/plain") && !accepts("application/openmetrics-text") {
        (Exposition::PLAIN_TEXT, state.exposition.plain_text())
    } else {
        (Exposition::OPEN_METRICS, state.exposition.open_metrics())
    };
    ([(header::CONTENT_TYPE, kind)], text)
}

async fn ready(State(state): State<MetricsState>) -> impl IntoResponse {
    match state.readiness.phase() {
        Phase::Training => (StatusCode::OK, "training\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "before the first step\n"),
        Phase::Waiting => (StatusCode::SERVICE_UNAVAILABLE, "waiting for a worker\n"),
        Phase::Ended => (StatusCode::SERVICE_UNAVAILABLE, "the run is over\n"),
    }
}

async fn version() -> impl IntoResponse {
    let versions = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "numerics_version": NUMERICS_VERSION,
        "protocol_version": PROTOCOL_VERSION,
    });
    ([(header::CONTENT_TYPE, "application/json")], format!("{versions}\n"))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use lockstep_records::{EventRecord, examples};
    use lockstep_telemetry::{PrometheusSink, Sink};
    use tower::ServiceExt;

    use super::*;

    struct Answer {
        status: StatusCode,
        kind: String,
        text: String,
    }

    fn state() -> (PrometheusSink, MetricsState) {
        let (sink, exposition) = PrometheusSink::new();
        (sink, MetricsState { exposition, readiness: Readiness::default() })
    }

    fn ask(state: &MetricsState, method: &str, path: &str, accept: Option<&str>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(accept) = accept {
            request = request.header(header::ACCEPT, accept);
        }
        let request = request.body(Body::empty()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let response = router(state.clone()).oneshot(request).await.unwrap();
            let kind = response.headers().get(header::CONTENT_TYPE);
            let kind = kind.map_or(String::new(), |kind| kind.to_str().unwrap().to_string());
            let status = response.status();
            let text = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            Answer { status, kind, text: String::from_utf8(text.to_vec()).unwrap() }
        })
    }

    #[test]
    fn metrics_come_in_the_format_that_is_asked_for() {
        let (mut sink, state) = state();
        sink.step(&examples::step());
        let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let prometheus =
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for accept in [None, Some("*/*"), Some(prometheus)] {
            let answer = ask(&state, "GET", "/metrics", accept);
            assert_eq!((answer.status, &answer.kind[..]), (StatusCode::OK, open));
            assert!(answer.text.contains("\nlockstep_loss 2.25\n"), "{}", answer.text);
            assert!(answer.text.ends_with("# EOF\n"));
        }
        let answer = ask(&state, "GET", "/metrics", Some("text/plain"));
        assert_eq!(answer.kind, "text/plain; version=0.0.4; charset=utf-8");
        assert!(answer.text.contains("\nlockstep_loss 2.25\n") && !answer.text.contains("# EOF"));
    }

    #[test]
    fn probes_say_whether_it_lives_and_whether_it_trains() {
        let (_sink, state) = state();
        let mut readiness = state.readiness.clone();
        let ready = || {
            let answer = ask(&state, "GET", "/readyz", None);
            assert_eq!(
                ask(&state, "GET", "/healthz", None).status,
                StatusCode::OK,
                "it lives in every phase"
            );
            (answer.status, answer.text)
        };
        assert_eq!(ready(), (StatusCode::SERVICE_UNAVAILABLE, "before the first step\n".to_string()));
        readiness.step(&examples::step());
        assert_eq!(ready(), (StatusCode::OK, "training\n".to_string()));
        readiness.event(&EventRecord {
            seconds: 1.0,
            step: 1,
            kind: "waiting".into(),
            worker: None,
            reason: "the last one left".to_string(),
        });
        assert_eq!(ready(), (StatusCode::SERVICE_UNAVAILABLE, "waiting for a worker\n".to_string()));
    }

    #[test]
    fn the_versions_are_those_that_peers_compare() {
        let (_sink, state) = state();
        let answer = ask(&state, "GET", "/version", None);
        assert_eq!((answer.status, &answer.kind[..]), (StatusCode::OK, "application/json"));
        let versions: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(versions["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(versions["numerics_version"], NUMERICS_VERSION);
        assert_eq!(versions["protocol_version"], PROTOCOL_VERSION);
    }

    #[test]
    fn nothing_can_be_changed() {
        let (_sink, state) = state();
        for path in ["/metrics", "/healthz", "/readyz", "/version"] {
            for method in ["POST", "PUT", "DELETE", "PATCH"] {
                assert_eq!(
                    ask(&state, method, path, None).status,
                    StatusCode::METHOD_NOT_ALLOWED,
                    "{method} {path}"
                );
            }
        }
    }
}
