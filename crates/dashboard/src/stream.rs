//! Server-sent events: one bounded stream for each page, which tells it what it does not know yet.
//!
//! A page that does not read keeps one message and its place; what it missed meanwhile comes as one message, too. One
//! that never reads loses its place with its connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use lockstep_records::serialize_shared;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::Phase;
use super::digits::Predictions;
use super::history::{Cursor, View};
use super::site::Site;

/// Pages at once: more than a team has, and a bound on the messages that wait.
pub const MAX_PAGES: usize = 16;

/// The time between two messages: fluent for the eye.
const EVERY: Duration = Duration::from_millis(400);

/// A sign of life, so that whoever is between keeps the connection: proxies give it up after 60 s, some after 30.
const SILENCE: Duration = Duration::from_secs(10);

/// The data of a message.
#[derive(Serialize)]
struct Message {
    #[serde(flatten)]
    view: View,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "serialize_shared")]
    predictions: Option<Arc<Predictions>>,
}

/// `GET /api/stream`.
pub async fn stream(State(site): State<Arc<Site>>) -> Response {
    let Ok(place) = site.places.clone().try_acquire_owned() else {
        let sentence =
            format!("{MAX_PAGES} pages look at this run already, and it takes no more; close one\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], sentence).into_response();
    };
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(tell(site, sender, place));
    let body = Body::from_stream(ReceiverStream::new(receiver).map(Ok::<Bytes, Infallible>));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // Nobody between may wait for more of it, keep it, or compress it.
        (HeaderName::from_static("x-accel-buffering"), "no"),
        (header::CACHE_CONTROL, "no-store, no-transform"),
    ];
    (headers, body).into_response()
}

/// Sends messages until the page or the server is gone.
async fn tell(site: Arc<Site>, sender: mpsc::Sender<Bytes>, _place: OwnedSemaphorePermit) {
    let mut phase = site.phase.clone();
    let mut cursor = Cursor::default();
    let mut predictions_of = None;
    let mut silent_for = Duration::ZERO;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // An error means that the server ends without a word.
            changed = phase.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
        let now = *phase.borrow_and_update();
        // The message is made when there is room for it, and not before: it is never old.
        let Ok(room) = sender.reserve().await else { return };
        let first = predictions_of.is_none();
        let view = site.history.view(&mut cursor);
        let predictions = site.predictions().filter(|new| predictions_of != Some(new.revision));
        if let Some(predictions) = &predictions {
            predictions_of = Some(predictions.revision);
        } else if first {
            predictions_of = Some(0);
        }
        if !first && !view.has_news() && predictions.is_none() {
            silent_for += EVERY;
            if silent_for >= SILENCE {
                silent_for = Duration::ZERO;
                room.send(Bytes::from_static(b": still here\n\n"));
            }
        } else {
            silent_for = Duration::ZERO;
            // Numbers, strings and lists: there is nothing in them that JSON could not express.
            let data = serde_json::to_string(&Message { view, predictions }).unwrap_or_default();
            room.send(format!("data: {data}\n\n").into());
        }
        if now == Phase::Ends {
            return;
        }
    }
}
