//! The trace: the last facts of a cluster, or all of them as they happen.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::fact::Fact;

/// Facts that a failure prints.
const KEPT: usize = 120;

/// What is done with facts.
#[derive(Debug, Default)]
pub struct Trace {
    last: VecDeque<(u64, Fact)>,
    /// Every line so far, if they are wanted.
    all: Option<Vec<String>>,
    print: bool,
}

impl Trace {
    /// Keeps the last facts only.
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

    /// Takes in a fact.
    #[expect(clippy::print_stdout, reason = "it was asked for")]
    pub fn push(&mut self, now_us: u64, fact: Fact) {
        if self.print {
            println!("{}", line(now_us, &fact));
        }
        if let Some(all) = &mut self.all {
            all.push(line(now_us, &fact));
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((now_us, fact));
    }

    /// Every line, if they were kept.
    pub fn into_lines(self) -> Vec<String> {
        self.all.unwrap_or_default()
    }

    /// The last lines.
    pub fn tail(&self) -> String {
        self.last.iter().fold(String::new(), |mut text, (now_us, fact)| {
            let _ = writeln!(text, "{}", line(*now_us, fact));
            text
        })
    }
}

fn line(now_us: u64, fact: &Fact) -> String {
    format!("{:>10.3} ms  {fact}", now_us as f64 / 1e3)
}
