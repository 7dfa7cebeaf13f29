//! One membership: messages in, signs of life out, until the run is over or the stream breaks. The nodes go out from
//! the computing thread.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use lockstep_proto::{Encoded, Fence, FromWorker, Heartbeat, MAX_HELD_ASSIGNMENTS, ToWorker};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};

use crate::compute::SessionJob;
use crate::engine::ComputeError;
use crate::environment::Inboxes;
use crate::error::WorkerError;
use crate::inbox::{Inbox, TooMany};
use crate::join::{Broken, Joined};

/// Serves a coordinator until its run is over; returns its reason. `silence` is what it may keep silent for.
pub(crate) async fn session(
    url: &str,
    joined: Joined,
    silence: Option<Duration>,
    sessions: &SyncSender<SessionJob>,
    inboxes: &Inboxes,
) -> Result<String, Broken> {
    let Joined { welcome, mut inbound, outbound } = joined;
    let inbox = OpenInbox::default();
    inboxes.add(&inbox.0);
    let (end, mut ended) = oneshot::channel();
    let job = SessionJob { inbox: Arc::clone(&inbox.0), outbound: outbound.clone(), ended: end };
    sessions.try_send(job).map_err(|_| Broken::Lost("the computing thread is busy elsewhere".to_string()))?;

    let mut heartbeats = tokio::time::interval(welcome.heartbeat);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut silence = Silence { limit: silence, slack: welcome.heartbeat, heard: Instant::now() };
    loop {
        let message = tokio::select! {
            // Signs of life first: however much comes in, they go out.
            biased;
            _ = heartbeats.tick() => {
                // With a full queue the network is stuck, and one more message would tell nobody.
                let alive = Heartbeat { fence: welcome.fence, progress: inbox.0.progress() };
                let _ = outbound.try_send(Encoded::from(FromWorker::Heartbeat(alive)));
                continue;
            }
            message = inbound.receive() => message?,
            result = &mut ended => return Err(computing_ended(url, result)),
            () = silence.limit_reached() => {
                if let Some(cause) = silence.verdict(Instant::now()) {
                    return Err(Broken::Lost(cause));
                }
                continue;
            }
        };
        if belongs(&message, welcome.fence) {
            silence.heard = Instant::now();
            if let Some(reason) = take(url, &inbox.0, message)? {
                return Ok(reason);
            }
        }
    }
}

/// Puts work into the inbox; returns the reason if the run is over.
fn take(url: &str, inbox: &Inbox, message: ToWorker) -> Result<Option<String>, Broken> {
    let violation = |cause: String| Broken::Final(WorkerError::Protocol { url: url.to_string(), cause });
    match message {
        ToWorker::Finish(finish) => return Ok(Some(finish.reason)),
        ToWorker::Weights(weights) => inbox.put_weights(weights),
        ToWorker::Assignment(assignment) => inbox
            .put_assignment(assignment)
            .map_err(|TooMany| violation(format!("more than {MAX_HELD_ASSIGNMENTS} assignments ahead")))?,
        ToWorker::Revoke(revoke) => inbox.revoke(revoke.assignment_id),
        ToWorker::Heartbeat(_) => {}
        ToWorker::Welcome(_) => return Err(violation("a second welcome".to_string())),
    }
    Ok(None)
}

fn belongs(message: &ToWorker, fence: Fence) -> bool {
    let same = message.fence() == fence;
    if !same {
        let actual = message.fence();
        tracing::warn!(expected = ?fence, ?actual, "ignored a message of another run or term");
    }
    same
}

/// What the end of the computing means, which lasts as long as the session unless something is wrong.
fn computing_ended(url: &str, result: Result<Result<(), ComputeError>, oneshot::error::RecvError>) -> Broken {
    match result {
        // It heard of the broken stream first.
        Ok(Ok(())) => Broken::Lost("the stream takes no more nodes".to_string()),
        // Sent anew, they may arrive whole.
        Ok(Err(error @ ComputeError::Checksum { .. })) => Broken::Lost(error.to_string()),
        Ok(Err(error @ ComputeError::Interval)) => {
            Broken::Final(WorkerError::Protocol { url: url.to_string(), cause: error.to_string() })
        }
        Err(_) => Broken::Final(WorkerError::Compute("the computing thread panicked".to_string())),
    }
}

/// The session's inbox; it is closed when the session ends, however it does.
#[derive(Default)]
struct OpenInbox(Arc<Inbox>);

impl Drop for OpenInbox {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// For how long nothing was heard.
struct Silence {
    /// The coordinator is gone after so long; `None`: never.
    limit: Option<Duration>,
    /// A verdict that comes later than this was delayed by this process' own standstill.
    slack: Duration,
    heard: Instant,
}

impl Silence {
    async fn limit_reached(&self) {
        match self.limit {
            Some(limit) => tokio::time::sleep_until(self.heard + limit).await,
            None => std::future::pending().await,
        }
    }

    /// The sentence that says that the coordinator is gone, if it is.
    fn verdict(&mut self, now: Instant) -> Option<String> {
        let limit = self.limit?;
        let late = now.checked_duration_since(self.heard + limit)?;
        if late > self.slack {
            // A process that was stopped has not listened: what was said meanwhile is still to be read.
            self.heard = now;
            return None;
        }
        Some(format!("it said nothing for {} ms", limit.as_millis()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_has_a_limit_but_not_for_a_process_that_stood_still() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut silence = Silence { limit: Some(ms(1000)), slack: ms(250), heard: start };
        assert_eq!(silence.verdict(start + ms(999)), None);
        assert_eq!(silence.verdict(start + ms(1000)).unwrap(), "it said nothing for 1000 ms");
        assert_eq!(silence.verdict(start + ms(7000)), None, "stopped for six seconds");
        assert_eq!(silence.verdict(start + ms(7999)), None);
        assert!(silence.verdict(start + ms(8100)).is_some(), "and again nothing for one");
        let mut endless = Silence { limit: None, ..silence };
        assert_eq!(endless.verdict(start + ms(8100)), None);
    }
}
