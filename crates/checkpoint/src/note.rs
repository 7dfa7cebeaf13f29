//! What the journal has to tell while it goes on: one sentence each, with the remedy. Decides nothing.

use std::{fmt, ops::RangeInclusive, path::PathBuf};

use crate::Error;

/// Something that went wrong, or became well again, while training goes on. Its `Display` is one sentence for people.
#[derive(Debug)]
pub enum Note {
    /// The log takes no more records for now. Told once until it goes on.
    LogFailed {
        /// What failed.
        error: Error,
    },
    /// The log goes on after it had failed.
    LogGoesOn {
        /// Where it is written now.
        segment: PathBuf,
        /// The next step that gets a record.
        step: u64,
    },
    /// Steps have no record, and recording goes on behind them.
    Gap {
        /// These steps.
        missing: RangeInclusive<u64>,
    },
    /// The record that a replayed step is to be held against cannot be read. Told once.
    Unreadable {
        /// The step.
        step: u64,
        /// What failed.
        error: Error,
    },
    /// An old checkpoint stays where it is.
    NotRemoved(Error),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogFailed { error } => write!(
                f,
                "{error}; training goes on, and each time the state is saved the log is tried again in a further file: \
                 see that the disk has room and no errors"
            ),
            Self::LogGoesOn { segment, step } => {
                write!(
                    f,
                    "the log is written again: recording goes on with step {step} in {}",
                    segment.display()
                )
            }
            Self::Gap { missing } if missing.start() == missing.end() => {
                let step = missing.start();
                write!(
                    f,
                    "step {step} has no record, because the disk did not keep up; recording goes on with step {}",
                    step + 1
                )
            }
            Self::Gap { missing } => write!(
                f,
                "steps {} to {} have no record, because the disk did not keep up; recording goes on with step {}",
                missing.start(),
                missing.end(),
                missing.end() + 1
            ),
            Self::Unreadable { step, error } => {
                write!(
                    f,
                    "{error}; step {step} and those after it are not held against the log while that is so"
                )
            }
            Self::NotRemoved(error) => {
                write!(f, "{error}; an old checkpoint stays, which harms nothing but takes room")
            }
        }
    }
}
