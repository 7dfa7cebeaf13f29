//! How a run ended, as the page says it.

use lockstep_control::Outcome;
use lockstep_telemetry::{Status, Summary};
use serde::Serialize;

use super::history::EventView;
use crate::observe::sentences::END;

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ended {
    /// A few words.
    pub how: String,
    /// Whether all of it was trained.
    pub well: bool,
}

impl Ended {
    /// The end that the loop has come to.
    pub fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self { how: "done".to_string(), well: true },
            other => Self { how: format!("ended: {other}"), well: false },
        }
    }

    fn of_summary(summary: &Summary) -> Self {
        let how = match summary.status {
            Status::Done => return Self { how: "done".to_string(), well: true },
            Status::Diverged => "ended: training diverged".to_string(),
            Status::Interrupted => {
                format!("interrupted by {}", summary.interrupted_by.as_deref().unwrap_or("a signal"))
            }
        };
        Self { how, well: false }
    }

    /// The end that the files of a run tell of: its summary, if it is about the end, and its last `events`.
    pub fn of_files(summary: Option<&Summary>, events: &[EventView]) -> Self {
        let unfinished = || Self { how: "not finished; shown as its files have it".to_string(), well: false };
        summary.map(Self::of_summary).or_else(|| last_words(events)).unwrap_or_else(unfinished)
    }
}

/// How a run without a summary ended by its own decision, unless it was taken up again since.
fn last_words(events: &[EventView]) -> Option<Ended> {
    let since = events.iter().rev().take_while(|event| event.kind != "worker_joined");
    let finish = since.into_iter().find(|event| event.kind == "finish")?;
    // Versions before wrote it as the control plane says it.
    let how = [END, "finish: "].iter().find_map(|prefix| finish.reason.strip_prefix(prefix));
    let how = how.unwrap_or(&finish.reason);
    Some(Ended { how: format!("ended: {how}"), well: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_a_summary_ended_as_it_said_unless_it_went_on() {
        let event = |kind: &'static str, reason: &str| EventView {
            seconds: 1.0,
            step: 1,
            kind: kind.into(),
            worker: None,
            reason: reason.to_string(),
        };
        for last in [&format!("{END}no worker is left"), "finish: no worker is left"] {
            let events = [event("finish", last), event("process_ended", "local-1 ended")];
            assert_eq!(Ended::of_files(None, &events).how, "ended: no worker is left");
        }
        let mut events = vec![event("finish", "finish: no worker is left")];
        events.push(event("worker_joined", "worker 3 joined"));
        assert!(Ended::of_files(None, &events).how.starts_with("not finished"));
    }
}
