//! What is wrong with a segment of a step log, as facts and as one sentence for people. Decides nothing about it.

use std::{fmt, path::PathBuf};

use crate::RecordFlaw;

/// What was wrong with a segment of a log. Its `Display` is one sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub log: PathBuf,
    /// The first record that is damaged, counted from 1 in each segment; 0 is the header.
    pub record: u64,
    /// The first damaged byte, counted from 0.
    pub offset: u64,
    /// What is wrong there.
    pub flaw: RecordFlaw,
    /// Bytes from there to the end of what counts.
    pub bytes: u64,
    /// Records these bytes may hold at most, the damaged one included.
    pub records_at_most: u64,
    /// The last step before it whose record is intact.
    pub last_step: u64,
    /// The next segment that is there; absent if this is the end of the log.
    pub followed_by: Option<PathBuf>,
    /// Where these bytes are kept now; absent if the log was only looked at, or goes on behind them.
    pub set_aside: Option<PathBuf>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, record, offset, flaw, bytes, records_at_most, last_step, followed_by, set_aside } =
            self;
        if matches!(flaw, RecordFlaw::Missing { .. }) {
            write!(f, "{} {flaw}", log.display())?;
        } else {
            match record {
                0 => write!(f, "{}: the header {flaw}", log.display())?,
                _ => write!(f, "{}: record {record}, at byte {offset}, {flaw}", log.display())?,
            }
            write!(f, "; {bytes} bytes from there on, at most {records_at_most} records, are ")?;
            match set_aside {
                Some(path) => write!(f, "set aside in {}", path.display())?,
                None if *bytes == 0 || matches!(flaw, RecordFlaw::Cut { .. }) => write!(f, "lost")?,
                None => write!(f, "left out")?,
            }
        }
        match followed_by {
            Some(next) => write!(f, ", and after step {last_step} the log goes on in {}", next.display()),
            None => write!(f, ", and the log ends with step {last_step}"),
        }
    }
}
