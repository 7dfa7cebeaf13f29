//! How the process of a local worker ended, and what follows.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// The end of an attempt to have a local worker.
#[derive(Clone, Debug)]
pub struct Exit {
    /// The worker's name.
    pub name: String,
    /// How it ended.
    pub end: End,
    /// Whether it is started again.
    pub restart: Restart,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum End {
    /// There was a process.
    Exited {
        /// Its number.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its output.
        output_tail: Vec<String>,
    },
    /// The system gave no process, for this reason.
    NotStarted(String),
}

impl Exit {
    /// The process that ended, if there was one.
    pub fn pid(&self) -> Option<u32> {
        match self.end {
            End::Exited { pid, .. } => Some(pid),
            End::NotStarted(_) => None,
        }
    }
}

/// What follows the end of a local worker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It is started again after a pause.
    After {
        /// The pause.
        pause: Duration,
        /// Restart attempt in a row, from 1.
        attempt: u32,
        /// The most there may be.
        limit: u32,
    },
    /// It failed too often in a row.
    TooOften {
        /// The most there may be.
        limit: u32,
    },
    /// The run is over.
    Never,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            End::NotStarted(reason) => write!(f, "{} could not be started ({reason})", self.name)?,
            End::Exited { pid, status, .. } => {
                write!(f, "{} (process {pid}) ", self.name)?;
                match (status.code(), status.signal()) {
                    (Some(code), _) => write!(f, "exited with code {code}")?,
                    (None, Some(signal)) => {
                        write!(f, "was killed by signal {signal}{}", signal_name(signal))?
                    }
                    (None, None) => f.write_str("ended")?,
                }
            }
        }
        match self.restart {
            Restart::After { pause, attempt, limit } => write!(
                f,
                ", and is started again in {} ms ({attempt} of {limit} in a row)",
                pause.as_millis()
            )?,
            Restart::TooOften { limit: 0 } => f.write_str(", and is not started again (--max-restarts 0)")?,
            Restart::TooOften { limit } => {
                write!(f, ", and is not started again after {limit} times in a row (--max-restarts)")?
            }
            Restart::Never => {}
        }
        match &self.end {
            End::NotStarted(_) => Ok(()),
            End::Exited { output_tail, .. } if output_tail.is_empty() => f.write_str("; it left no output"),
            End::Exited { output_tail, .. } => write!(f, "; its last output: {}", output_tail.join(" | ")),
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL: an instruction that this CPU lacks)",
        6 => " (SIGABRT)",
        9 => " (SIGKILL: by hand, or out of memory)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_says_how() {
        let exit = |status, output_tail: &[&str], restart| {
            let output_tail = output_tail.iter().map(ToString::to_string).collect();
            let end = End::Exited { pid: 77, status: ExitStatus::from_raw(status), output_tail };
            Exit { name: "local-2".to_string(), end, restart }.to_string()
        };
        assert_eq!(
            exit(9, &[], Restart::After { pause: Duration::from_millis(50), attempt: 1, limit: 10 }),
            "local-2 (process 77) was killed by signal 9 (SIGKILL: by hand, or out of memory), and is started again \
             in 50 ms (1 of 10 in a row); it left no output"
        );
        assert_eq!(
            exit(0x100, &["a", "b"], Restart::Never),
            "local-2 (process 77) exited with code 1; its last output: a | b"
        );
    }
}
