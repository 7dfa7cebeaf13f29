//! How a run ended, in a few words: by its summary, or by the last that its events tell.

use serde::Serialize;

use crate::{EventRecord, Status, Summary};

/// How the reason of a `finish` event begins; the rest says why the run ends.
pub const FINISH_PREFIX: &str = "the run ends: ";

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ended {
    /// A few words.
    pub how: String,
    /// Whether all of it was trained.
    pub well: bool,
}

impl Ended {
    /// All of it was trained.
    pub fn done() -> Self {
        Self { how: "done".to_string(), well: true }
    }

    /// It ended before, for this reason.
    pub fn early(reason: &str) -> Self {
        Self { how: format!("ended: {reason}"), well: false }
    }

    fn of_summary(summary: &Summary) -> Self {
        let how = match summary.status {
            Status::Done => return Self::done(),
            Status::Diverged => return Self::early("training diverged"),
            Status::Interrupted => {
                format!("interrupted by {}", summary.interrupted_by.as_deref().unwrap_or("a signal"))
            }
        };
        Self { how, well: false }
    }

    /// The end that the files of a run tell of: its summary, if it is about the end, and its last `events`.
    pub fn of_files<'a>(
        summary: Option<&Summary>,
        events: impl DoubleEndedIterator<Item = &'a EventRecord>,
    ) -> Self {
        let unfinished = || Self { how: "not finished; shown as its files have it".to_string(), well: false };
        summary.map(Self::of_summary).or_else(|| last_decision(events)).unwrap_or_else(unfinished)
    }
}

/// How a run without a summary ended by its own decision, unless it was taken up again since.
fn last_decision<'a>(events: impl DoubleEndedIterator<Item = &'a EventRecord>) -> Option<Ended> {
    let mut since = events.rev().take_while(|event| event.kind != "worker_joined");
    let finish = since.find(|event| event.kind == "finish")?;
    // Versions before wrote it as the control plane says it.
    let how = [FINISH_PREFIX, "finish: "].iter().find_map(|prefix| finish.reason.strip_prefix(prefix));
    let how = how.unwrap_or(&finish.reason);
    Some(Ended::early(how))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_a_summary_ended_as_it_said_unless_it_went_on() {
        let event = |kind: &'static str, reason: &str| EventRecord {
            seconds: 1.0,
            step: 1,
            kind: kind.into(),
            worker: None,
            reason: reason.to_string(),
        };
        for last in [&format!("{FINISH_PREFIX}no worker is left"), "finish: no worker is left"] {
            let events = [event("finish", last), event("process_ended", "local-1 ended")];
            assert_eq!(Ended::of_files(None, events.iter()).how, "ended: no worker is left");
        }
        let mut events = vec![event("finish", "finish: no worker is left")];
        events.push(event("worker_joined", "worker 3 joined"));
        assert!(Ended::of_files(None, events.iter()).how.starts_with("not finished"));
    }
}
