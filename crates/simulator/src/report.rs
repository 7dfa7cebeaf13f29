//! What came of simulations: failures with the command that replays them, and the table at the end.

use std::collections::BTreeMap;
use std::fmt;

use crate::knobs::Knobs;

/// A broken invariant.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub invariant: &'static str,
    /// How.
    pub reason: String,
    /// When, in virtual microseconds.
    pub at_us: u64,
}

/// What happened in one cluster or many.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Clusters.
    pub seeds: u64,
    /// Virtual microseconds.
    pub simulated_us: u64,
    /// Happenings.
    pub events: u64,
    /// From the last fault to the end of a run, in its deadlines, at most.
    pub longest_end_deadlines: u64,
    /// The same, in percent of the bound that is checked.
    pub longest_end_percent: u64,
    /// Faults and what they led to, by class.
    pub faults: BTreeMap<&'static str, u64>,
    /// Where coordinators were killed.
    pub crashes: BTreeMap<String, u64>,
    /// Which calls of the disk have stalled.
    pub stalls: BTreeMap<String, u64>,
    /// How processes of the coordinator ended by themselves.
    pub outcomes: BTreeMap<&'static str, u64>,
}

impl Statistics {
    /// Adds those of other clusters.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.simulated_us += other.simulated_us;
        self.events += other.events;
        self.longest_end_deadlines = self.longest_end_deadlines.max(other.longest_end_deadlines);
        self.longest_end_percent = self.longest_end_percent.max(other.longest_end_percent);
        merge(&mut self.faults, &other.faults);
        merge(&mut self.crashes, &other.crashes);
        merge(&mut self.stalls, &other.stalls);
        merge(&mut self.outcomes, &other.outcomes);
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.simulated_us as f64 / 3.6e9;
        writeln!(
            f,
            "{:>12}  seeds\n{hours:>12.2}  simulated hours\n{:>12}  events",
            self.seeds, self.events
        )?;
        writeln!(
            f,
            "{:>12}  deadlines at most from the last fault to the end of a run, {} % of the bound",
            self.longest_end_deadlines, self.longest_end_percent
        )?;
        table(f, "faults and what came of them", &self.faults)?;
        table(f, "coordinators killed, by point", &self.crashes)?;
        table(f, "calls of the disk that stalled", &self.stalls)?;
        table(f, "coordinators ended by themselves", &self.outcomes)
    }
}

fn merge<K: Ord + Clone>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (name, count) in from {
        *into.entry(name.clone()).or_default() += count;
    }
}

fn table<K: fmt::Display>(f: &mut fmt::Formatter<'_>, title: &str, rows: &BTreeMap<K, u64>) -> fmt::Result {
    writeln!(f, "\n{:>12}  {title}", rows.values().sum::<u64>())?;
    rows.iter().try_for_each(|(name, count)| writeln!(f, "{count:>12}    {name}"))
}

/// The sentences that a failure is reported with.
pub fn failure_text(knobs: &Knobs, failure: &Failure, commit: &str, tail: &str) -> String {
    format!(
        "{tail}\ninvariant broken: {}\n  {}\n  at {:.3} ms\nseed {}, commit {commit}\n{knobs:?}\n\
         replay: cargo run --release -p lockstep-simulator --bin simulate -- --seed {} --trace",
        failure.invariant,
        failure.reason,
        failure.at_us as f64 / 1e3,
        knobs.seed,
        knobs.seed,
    )
}
