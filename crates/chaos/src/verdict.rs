//! What a chaos run found out: a table for people, one JSON object for programs, and the verdict.
//!
//! Computes medians and nothing else; the figures come from `fault_runner`.

use std::fmt::Write;

use serde::Serialize;

use super::plan::Kind;
use super::process_usage::ProcessUsage;

/// Version of the shape of the JSON object.
const SCHEMA_VERSION: u32 = 1;

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    schema_version: u32,
    /// Whether every run ended with the expected digest.
    pub same_bits: bool,
    /// The digest of the undisturbed run, or of the plan.
    pub digest: String,
    /// The plan's seed.
    pub seed: u64,
    /// Faults that the plan has and that were not injected, as the training was over.
    pub faults_left: u64,
    /// The runs.
    pub runs: Vec<Run>,
    /// The faults, in the order of injection.
    pub faults: Vec<Injected>,
    /// Memory and descriptors of every process seen.
    pub processes: Vec<ProcessUsage>,
}

/// One training.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// From 1.
    pub run: u32,
    /// Its run directory.
    pub directory: String,
    /// From the start of its coordinator to its end.
    pub seconds: f64,
    /// Steps completed.
    pub steps: Option<u64>,
    /// The digest it ended with.
    pub digest: Option<String>,
    /// Why it has none.
    pub failure: Option<String>,
    /// Processes of the coordinator.
    pub coordinators: u32,
    /// Processes of workers.
    pub workers: u32,
    /// Processes that ended although nobody asked them to.
    pub unexpected_ends: Vec<String>,
}

/// One fault.
#[derive(Clone, Debug, Serialize)]
pub struct Injected {
    /// The run it happened to.
    pub run: u32,
    pub kind: Kind,
    /// To whom.
    pub target: String,
    /// When, counted over all runs.
    pub at_seconds: f64,
    /// How long it was to last.
    pub lasts_seconds: Option<f64>,
    /// The newest step in the log then.
    pub step: u64,
    /// Why it was not injected after all.
    pub skipped: Option<String>,
    /// What it cost; absent where no worker was dropped for it, or the record was lost with the coordinator.
    pub recovery: Option<Recovery>,
}

/// What a fault cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Recovery {
    /// The coordinator dropped the worker.
    Step {
        /// The slowest step from the fault to that.
        step: u64,
        /// How long it took.
        seconds: f64,
        /// The median of the steps around it.
        normal_seconds: f64,
    },
    /// A worker joined: from there to when its first node was counted.
    Join {
        seconds: f64,
        /// In steps; 1 if that was in the step under way.
        steps: u64,
    },
    /// The coordinator was killed: from the signal to the first step beyond the last one in the log before.
    Resume { seconds: f64 },
}

impl Recovery {
    fn seconds(self) -> f64 {
        match self {
            Self::Step { seconds, .. } | Self::Join { seconds, .. } | Self::Resume { seconds } => seconds,
        }
    }

    fn normal_steps(self) -> Option<f64> {
        match self {
            Self::Step { seconds, normal_seconds, .. } => Some(seconds / normal_seconds),
            Self::Join { steps, .. } => Some(steps as f64),
            Self::Resume { .. } => None,
        }
    }
}

impl Verdict {
    /// Compares the digests.
    pub fn new(
        digest: String,
        seed: u64,
        faults_left: u64,
        runs: Vec<Run>,
        faults: Vec<Injected>,
        processes: Vec<ProcessUsage>,
    ) -> Self {
        let same_bits = !runs.is_empty() && runs.iter().all(|run| run.digest.as_ref() == Some(&digest));
        Self { schema_version: SCHEMA_VERSION, same_bits, digest, seed, faults_left, runs, faults, processes }
    }

    /// One JSON object on one line, with its line break.
    ///
    /// # Errors
    ///
    /// None that finite numbers have.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|json| json + "\n")
    }

    /// The same for people; the last line is the verdict.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        self.write_faults(&mut text);
        self.write_processes(&mut text);
        text.push('\n');
        for run in &self.runs {
            let steps = run.steps.map_or_else(String::new, |steps| format!(", {steps} steps"));
            let _ = writeln!(
                text,
                "run {}: {:.1} s{steps}; processes: {} of the coordinator, {} of workers",
                run.run, run.seconds, run.coordinators, run.workers
            );
            for end in &run.unexpected_ends {
                let _ = writeln!(text, "  nobody asked for: {end}");
            }
            if let Some(failure) = &run.failure {
                let _ = writeln!(text, "  failed: {failure}");
            }
            if let Some(other) = run.digest.as_ref().filter(|digest| **digest != self.digest) {
                let _ = writeln!(text, "  weights {other}");
            }
        }
        let _ = writeln!(text, "seed {}", self.seed);
        let _ = writeln!(text, "undisturbed weights {}", self.digest);
        text.push_str(match self.same_bits {
            true => "same bits\n",
            false
                if self.runs.iter().any(|run| run.digest.as_ref().is_some_and(|run| *run != self.digest)) =>
            {
                "OTHER BITS\n"
            }
            false => "FAILED: a run did not end\n",
        });
        text
    }

    fn write_faults(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "{:<17} {:>6} {:>8}   {:^29}   {:^26}",
            "fault", "count", "measured", "recovery: median, p99, max", "in normal steps"
        );
        for kind in Kind::ALL {
            let done = self.faults.iter().filter(|fault| fault.kind == kind && fault.skipped.is_none());
            let count = done.clone().count();
            if count == 0 {
                continue;
            }
            let recoveries: Vec<Recovery> = done.filter_map(|fault| fault.recovery).collect();
            let seconds = recoveries.iter().map(|recovery| recovery.seconds()).collect();
            let steps = recoveries.iter().filter_map(|recovery| recovery.normal_steps()).collect();
            let line = format!(
                "{kind:<17} {count:>6} {:>8}   {}   {}",
                recoveries.len(),
                spread(seconds, " s"),
                spread(steps, "x")
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let skipped = self.faults.iter().filter(|fault| fault.skipped.is_some()).count();
        let _ = write!(text, "{:<17} {:>6}", "together", self.faults.len() - skipped);
        let _ = match (skipped, self.faults_left) {
            (0, 0) => writeln!(text),
            (skipped, left) => {
                writeln!(text, "   ({skipped} skipped, {left} left when the training was done)")
            }
        };
    }

    fn write_processes(&self, text: &mut String) {
        for (role, is_coordinator) in [("coordinator", true), ("worker", false)] {
            let of_role =
                self.processes.iter().filter(|usage| (usage.name == "coordinator") == is_coordinator);
            let life = |usage: &&ProcessUsage| usage.last_seconds - usage.first_seconds;
            let Some(longest) = of_role.clone().max_by(|a, b| life(a).total_cmp(&life(b))) else { continue };
            let max_memory = of_role.clone().map(|usage| usage.memory_bytes.max).max().unwrap_or_default();
            let max_descriptors =
                of_role.clone().map(|usage| usage.descriptors.max).max().unwrap_or_default();
            let _ = writeln!(
                text,
                "\n{role}: the one seen longest, for {:.0} s: memory {} at first, {} at last; descriptors {}, {}\n\
                 {:indent$}all {}: memory {} at most, descriptors {max_descriptors} at most",
                life(&longest),
                megabytes(longest.memory_bytes.first),
                megabytes(longest.memory_bytes.last),
                longest.descriptors.first,
                longest.descriptors.last,
                "",
                of_role.count(),
                megabytes(max_memory),
                indent = role.len() + 2,
            );
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Median, 99th percentile and maximum by nearest rank, in columns.
fn spread(mut values: Vec<f64>, unit: &str) -> String {
    if values.is_empty() {
        return String::new();
    }
    values.sort_by(f64::total_cmp);
    let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
    [rank(50), rank(99), rank(100)].map(|value| format!("{:>9}", format!("{value:.3}{unit}"))).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(digest: Option<&str>) -> Run {
        Run {
            run: 1,
            directory: "chaos/run-1".to_string(),
            seconds: 12.5,
            steps: digest.map(|_| 100),
            digest: digest.map(str::to_string),
            failure: digest.is_none().then(|| "the coordinator exited with code 1".to_string()),
            coordinators: 2,
            workers: 5,
            unexpected_ends: Vec::new(),
        }
    }

    fn fault(kind: Kind, recovery: Option<Recovery>) -> Injected {
        Injected {
            run: 1,
            kind,
            target: "w1".to_string(),
            at_seconds: 1.5,
            lasts_seconds: Some(0.5),
            step: 10,
            skipped: None,
            recovery,
        }
    }

    fn verdict_of(runs: Vec<Run>, faults: Vec<Injected>) -> Verdict {
        Verdict::new("ab".repeat(32), 7, 0, runs, faults, Vec::new())
    }

    fn verdict(runs: Vec<Run>) -> (bool, String) {
        let verdict = verdict_of(runs, Vec::new());
        (verdict.same_bits, verdict.to_text().lines().last().unwrap().to_string())
    }

    #[test]
    fn the_verdict_needs_every_digest() {
        let (same, other) = ("ab".repeat(32), "cd".repeat(32));
        let whole = |digest: &str| run(Some(digest));
        assert_eq!(verdict(vec![whole(&same), whole(&same)]), (true, "same bits".to_string()));
        assert_eq!(verdict(vec![whole(&same), whole(&other)]), (false, "OTHER BITS".to_string()));
        let (same_bits, text) = verdict(vec![whole(&same), run(None)]);
        assert!(!same_bits && text.starts_with("FAILED"), "{text}");
        assert!(!verdict(Vec::new()).0, "no run proves nothing");
    }

    #[test]
    fn the_table_counts_by_kind_and_leaves_out_what_was_skipped() {
        let kill =
            |seconds| fault(Kind::Kill, Some(Recovery::Step { step: 11, seconds, normal_seconds: 0.01 }));
        let mut faults: Vec<Injected> = (1..=100).map(|n| kill(f64::from(n) / 1000.0)).collect();
        faults.push(fault(Kind::KillCoordinator, Some(Recovery::Resume { seconds: 1.25 })));
        faults.push(fault(Kind::Slow, None));
        faults.push(Injected { skipped: Some("it has left".to_string()), ..fault(Kind::Stop, None) });
        let text = verdict_of(vec![run(Some("ef"))], faults).to_text();
        let line = |name: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_else(|| panic!("{name} in {text}"));
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("kill "), "kill 100 100 0.050 s 0.099 s 0.100 s 5.000x 9.900x 10.000x");
        assert_eq!(line("kill-coordinator"), "kill-coordinator 1 1 1.250 s 1.250 s 1.250 s");
        assert_eq!(line("slow"), "slow 1 0");
        assert_eq!(line("together"), "together 102 (1 skipped, 0 left when the training was done)");
        assert!(!text.contains("\nstop"), "{text}");
    }

    #[test]
    fn the_json_has_every_fault() {
        let recovery = Recovery::Step { step: 11, seconds: 0.25, normal_seconds: 0.125 };
        let json =
            verdict_of(vec![run(Some("ef"))], vec![fault(Kind::CutUp, Some(recovery))]).to_json().unwrap();
        let expected = concat!(
            r#""faults":[{"run":1,"kind":"cut-up","target":"w1","at_seconds":1.5,"lasts_seconds":0.5,"step":10,"#,
            r#""skipped":null,"recovery":{"step":11,"seconds":0.25,"normal_seconds":0.125}}]"#
        );
        assert!(json.contains(expected), "{json}");
        assert!(json.ends_with("}\n") && json.matches('\n').count() == 1);
    }
}
