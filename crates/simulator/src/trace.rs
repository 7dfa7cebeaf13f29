//! The trace: the last observations of a cluster, or all of them as they happen.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::observed::Observed;

/// Observations that a failure prints.
const KEPT: usize = 120;

/// What is done with observations.
#[derive(Debug, Default)]
pub struct Trace {
    last: VecDeque<(u64, Observed)>,
    /// Every line so far, if they are wanted.
    all: Option<Vec<String>>,
    print: bool,
}

impl Trace {
    /// Keeps the last observations only.
    pub fn last() -> Self {
        Self::default()
    }

    /// Keeps every line.
    pub fn all() -> Self {
        Self { all: Some(Vec::new()), ..Self::default() }
    }

    /// Prints every line at once.
    pub fn printed() -> Self {
        Self { print: true, ..Self::default() }
    }

    /// Takes in an observation.
    #[expect(clippy::print_stdout, reason = "it was asked for")]
    pub fn push(&mut self, now_us: u64, observed: Observed) {
        if self.print {
            println!("{}", line(now_us, &observed));
        }
        if let Some(all) = &mut self.all {
            all.push(line(now_us, &observed));
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((now_us, observed));
    }

    /// Every line, if they were kept.
    pub fn into_lines(self) -> Vec<String> {
        self.all.unwrap_or_default()
    }

    /// The last lines.
    pub fn tail(&self) -> String {
        self.last.iter().fold(String::new(), |mut text, (now_us, observed)| {
            let _ = writeln!(text, "{}", line(*now_us, observed));
            text
        })
    }
}

fn line(now_us: u64, observed: &Observed) -> String {
    format!("{:>10.3} ms  {observed}", now_us as f64 / 1e3)
}
