//! How a run ended, as the page says it.

use lockstep_control::Outcome;
use lockstep_telemetry::{Status, Summary};
use serde::Serialize;

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

    /// The end that a summary tells of.
    pub fn of_summary(summary: &Summary) -> Self {
        let how = match summary.status {
            Status::Done => return Self { how: "done".to_string(), well: true },
            Status::Diverged => "ended: training diverged".to_string(),
            Status::Interrupted => {
                format!("interrupted by {}", summary.interrupted_by.as_deref().unwrap_or("a signal"))
            }
        };
        Self { how, well: false }
    }

    /// Files without a summary.
    pub fn unfinished() -> Self {
        Self { how: "not finished; shown as its files have it".to_string(), well: false }
    }
}
