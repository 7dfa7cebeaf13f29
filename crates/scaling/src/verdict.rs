//! What `bench scaling` found out: the runs, a row for each point, the cost of the coordinator, and whether the bits
//! are the same. How it is shown is up to `table` and `plot`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::figures::{Line, Spread, median};
use super::plan::{Point, ScalingPlan};
use super::trial::{CpuSeconds, Outcome, StepMedians};

/// Version of the shape of the JSON object.
const SCHEMA_VERSION: u32 = 1;

/// A point, measured in one round.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// From 1.
    pub round: u32,
    /// Workers.
    pub workers: u32,
    /// Examples of a step.
    pub batch_size: u32,
    /// The run that counts.
    pub run: Outcome,
    /// A run of one step: what it costs to start, to evaluate and to end.
    pub one_step: Outcome,
}

impl Trial {
    /// How it is called in messages and as a directory.
    pub fn name(point: Point, round: u32) -> String {
        format!("round-{round}-workers-{}-batch-{}", point.workers, point.batch_size)
    }

    /// Processor time of a step, by the steps that one run has more than the other.
    fn cpu_seconds_per_step(&self) -> CpuSeconds {
        let steps = (self.run.steps - self.one_step.steps) as f64;
        let (run, one_step) = (self.run.cpu, self.one_step.cpu);
        CpuSeconds {
            coordinator: (run.coordinator - one_step.coordinator) / steps,
            workers: (run.workers - one_step.workers) / steps,
        }
    }
}

/// Two runs that should have ended with the same weights, and did not.
#[derive(Debug, thiserror::Error)]
#[error(
    "the weights after {steps} steps of batches of {batch_size} differ: {first} has {first_digest} and {second} has \
     {second_digest}, though neither the number of workers nor a repetition may change a bit; repeat it with \
     --keep-runs, and find the step with `coordinator verify` of both run directories"
)]
pub struct OtherBits {
    batch_size: u32,
    steps: u64,
    first: String,
    first_digest: String,
    second: String,
    second_digest: String,
}

/// The digest of each batch size and number of steps, as runs come in.
#[derive(Debug, Default)]
pub struct Digests(BTreeMap<(u32, u64), Digest>);

#[derive(Debug)]
struct Digest {
    digest: String,
    first: String,
    runs: u32,
}

impl Digests {
    /// Holds a run called `name` against the others.
    ///
    /// # Errors
    ///
    /// If it has another digest than the first one of its batch size and number of steps.
    pub fn add(&mut self, name: &str, batch_size: u32, outcome: &Outcome) -> Result<(), OtherBits> {
        let (steps, digest) = (outcome.steps, &outcome.weights_digest);
        let known = self.0.entry((batch_size, steps)).or_insert_with(|| Digest {
            digest: digest.clone(),
            first: name.to_string(),
            runs: 0,
        });
        known.runs += 1;
        if known.digest == *digest {
            return Ok(());
        }
        Err(OtherBits {
            batch_size,
            steps,
            first: known.first.clone(),
            first_digest: known.digest.clone(),
            second: name.to_string(),
            second_digest: digest.clone(),
        })
    }
}

/// Weights that several runs agree on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Weights {
    /// Examples of a step.
    pub batch_size: u32,
    /// Steps.
    pub steps: u64,
    /// SHA-256 of them.
    pub digest: String,
    /// Runs that ended with them.
    pub runs: u32,
}

/// A line of the table: a point, over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Workers.
    pub workers: u32,
    /// Threads of all of them together.
    pub threads: u32,
    /// Whether those are more than there are cores.
    pub oversubscribed: bool,
    /// Examples of a step.
    pub batch_size: u32,
    /// The batch size as named; rows that share it are held against each other.
    pub named_batch_size: u32,
    /// Of the training loop.
    pub examples_per_second: Spread,
    /// The share of what so many workers would do if each did what it does at the smallest number of workers.
    pub efficiency: f64,
    /// Medians over rounds of the medians over steps.
    pub step: StepMedians,
    /// Of whole runs, with start and evaluation.
    pub cpu_seconds: CpuSeconds,
    /// Of a step alone.
    pub cpu_seconds_per_step: CpuSeconds,
    /// The final weights.
    pub weights_digest: String,
}

/// What a step costs the coordinator, as a function of the number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CoordinatorCost {
    /// The batch size as named.
    pub named_batch_size: u32,
    /// Processor seconds a step; absent if there is one number of workers only.
    pub seconds: Option<Line>,
}

/// Where it was measured.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: u32,
    /// The processor and its instruction set.
    pub processor: String,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    schema_version: u32,
    /// The command that measures the same again.
    pub command: String,
    /// When it began, as `20261123T181530Z`.
    pub began: String,
    /// Version of the program.
    pub version: &'static str,
    /// Where.
    pub machine: Machine,
    /// Whether the batch grew with the workers.
    pub weak: bool,
    /// How often each point was measured.
    pub rounds: u32,
    /// Steps of each run.
    pub steps: u32,
    /// By batch size as named, then by workers.
    pub rows: Vec<Row>,
    /// One for each batch size as named.
    pub coordinator_costs: Vec<CoordinatorCost>,
    /// All the weights there were, runs of one step included.
    pub weights: Vec<Weights>,
    /// In the order of time.
    pub trials: Vec<Trial>,
}

impl Verdict {
    /// Puts it together; `trials` has at least one for each point of the plan.
    pub fn new(
        plan: &ScalingPlan,
        began: String,
        machine: Machine,
        trials: Vec<Trial>,
        digests: Digests,
    ) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for &point in &plan.points {
            let first = rows.iter().find(|row| row.named_batch_size == point.named_batch_size);
            rows.extend(row(plan, point, first, machine.cores, &trials));
        }
        let mut named: Vec<u32> = rows.iter().map(|row| row.named_batch_size).collect();
        named.dedup();
        let coordinator_costs = named.into_iter().map(|named| coordinator_cost(named, &rows)).collect();
        let weights = digests.0.into_iter().map(|((batch_size, steps), Digest { digest, runs, .. })| {
            Weights { batch_size, steps, digest, runs }
        });
        Self {
            schema_version: SCHEMA_VERSION,
            command: plan.command(),
            began,
            version: env!("CARGO_PKG_VERSION"),
            machine,
            weak: plan.weak,
            rounds: plan.rounds,
            steps: plan.steps,
            rows,
            coordinator_costs,
            weights: weights.collect(),
            trials,
        }
    }

    /// One JSON object on one line, with its line break.
    ///
    /// # Errors
    ///
    /// None that finite numbers have.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|json| json + "\n")
    }
}

/// The row of a point; `first` is the one with the fewest workers that it is held against, if there is one before it.
fn row(plan: &ScalingPlan, point: Point, first: Option<&Row>, cores: u32, trials: &[Trial]) -> Option<Row> {
    let Point { workers, batch_size, named_batch_size } = point;
    let of_point = trials.iter().filter(|trial| (trial.workers, trial.batch_size) == (workers, batch_size));
    let over = |figure: fn(&Trial) -> f64| median(of_point.clone().map(figure));
    let examples_per_second = Spread::of(of_point.clone().map(|trial| trial.run.examples_per_second))?;
    let steps: Vec<StepMedians> = of_point.clone().map(|trial| trial.run.step).collect();
    let threads = workers * plan.threads_per_worker;
    Some(Row {
        workers,
        threads,
        oversubscribed: threads > cores,
        batch_size,
        named_batch_size,
        examples_per_second,
        efficiency: first.map_or(1.0, |first| {
            let times = f64::from(workers) / f64::from(first.workers);
            examples_per_second.median / (times * first.examples_per_second.median)
        }),
        step: StepMedians::of(&steps)?,
        cpu_seconds: CpuSeconds {
            coordinator: over(|trial| trial.run.cpu.coordinator)?,
            workers: over(|trial| trial.run.cpu.workers)?,
        },
        cpu_seconds_per_step: CpuSeconds {
            coordinator: over(|trial| trial.cpu_seconds_per_step().coordinator)?,
            workers: over(|trial| trial.cpu_seconds_per_step().workers)?,
        },
        weights_digest: of_point.clone().next()?.run.weights_digest.clone(),
    })
}

fn coordinator_cost(named_batch_size: u32, rows: &[Row]) -> CoordinatorCost {
    let points: Vec<(f64, f64)> = rows
        .iter()
        .filter(|row| row.named_batch_size == named_batch_size)
        .map(|row| (f64::from(row.workers), row.cpu_seconds_per_step.coordinator))
        .collect();
    CoordinatorCost { named_batch_size, seconds: Line::through(&points) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn outcome(steps: u64, digest: &str, examples_per_second: f64, coordinator: f64) -> Outcome {
        Outcome {
            steps,
            weights_digest: digest.to_string(),
            examples_per_second,
            step: StepMedians {
                seconds: 0.003,
                send_seconds: 0.0005,
                compute_seconds_median: 0.001,
                wait_seconds: 0.0015,
                reduce_seconds: 0.000_25,
                update_seconds: 0.000_008,
                bytes_sent: 531_104.0,
                bytes_received: 132_776.0,
            },
            cpu: CpuSeconds { coordinator, workers: 10.0 * coordinator },
        }
    }

    fn plan(points: &[(u32, u32, u32)], weak: bool) -> ScalingPlan {
        let point =
            |&(workers, batch_size, named_batch_size)| Point { workers, batch_size, named_batch_size };
        let points = points.iter().map(point).collect();
        ScalingPlan {
            points,
            weak,
            rounds: 3,
            steps: 101,
            threads_per_worker: 1,
            micro_shards: 16,
            examples: None,
        }
    }

    /// Of each point three trials with about the speed given; a step costs the coordinator 100 us, and 50 us for each
    /// worker.
    fn verdict_of(plan: &ScalingPlan, speeds: &[f64]) -> Verdict {
        let (mut trials, mut digests) = (Vec::new(), Digests::default());
        for round in 1..=3 {
            for (point, speed) in plan.points.iter().zip(speeds) {
                let start_seconds = 0.2 + 0.125 * f64::from(round);
                let step_seconds = 1e-4 + 5e-5 * f64::from(point.workers);
                let speed = speed + 1000.0 * (f64::from(round) - 2.0);
                let run = outcome(101, &"ab".repeat(32), speed, start_seconds + 101.0 * step_seconds);
                let one_step = outcome(1, &"cd".repeat(32), speed, start_seconds + step_seconds);
                let name = Trial::name(*point, round);
                digests.add(&name, point.batch_size, &run).unwrap();
                digests.add(&name, point.batch_size, &one_step).unwrap();
                let Point { workers, batch_size, .. } = *point;
                trials.push(Trial { round, workers, batch_size, run, one_step });
            }
        }
        let machine = Machine { cores: 2, processor: "a processor".to_string() };
        Verdict::new(plan, "20261123T181530Z".to_string(), machine, trials, digests)
    }

    /// Strong scaling of batches of 64 with 1, 2 and 4 workers on 2 cores.
    pub(crate) fn strong() -> Verdict {
        verdict_of(&plan(&[(1, 64, 64), (2, 64, 64), (4, 64, 64)], false), &[20_000.0, 30_000.0, 32_000.0])
    }

    #[test]
    fn efficiency_is_held_against_the_fewest_workers() {
        let verdict = strong();
        let efficiencies: Vec<f64> = verdict.rows.iter().map(|row| row.efficiency).collect();
        assert_eq!(efficiencies, [1.0, 0.75, 0.4]);
        assert_eq!(
            verdict.rows[1].examples_per_second,
            Spread { median: 30_000.0, min: 29_000.0, max: 31_000.0 }
        );
        // Two workers are the fewest here, and a second batch size has its own.
        let points = [(2, 64, 64), (4, 64, 64), (2, 320, 320), (4, 320, 320)];
        let verdict = verdict_of(&plan(&points, false), &[30_000.0, 45_000.0, 40_000.0, 80_000.0]);
        let efficiencies: Vec<f64> = verdict.rows.iter().map(|row| row.efficiency).collect();
        assert_eq!(efficiencies, [1.0, 0.75, 1.0, 1.0]);
    }

    #[test]
    fn weak_rows_are_held_against_each_other_though_their_batches_differ() {
        let verdict = verdict_of(&plan(&[(1, 64, 64), (4, 256, 64)], true), &[20_000.0, 40_000.0]);
        assert_eq!(verdict.rows[1].efficiency, 0.5);
        assert_eq!((verdict.rows[1].batch_size, verdict.coordinator_costs.len()), (256, 1));
    }

    #[test]
    fn more_threads_than_cores_are_marked() {
        let marked: Vec<bool> = strong().rows.iter().map(|row| row.oversubscribed).collect();
        assert_eq!(marked, [false, false, true]);
    }

    #[test]
    fn a_step_costs_what_more_steps_cost_more() {
        let verdict = strong();
        for (row, expected) in verdict.rows.iter().zip([1.5e-4, 2e-4, 3e-4]) {
            let cost = row.cpu_seconds_per_step;
            assert!((cost.coordinator - expected).abs() < 1e-9, "{row:?}");
            assert!((cost.workers - 10.0 * expected).abs() < 1e-8, "{row:?}");
        }
        let line = verdict.coordinator_costs[0].seconds.unwrap();
        assert!((line.slope - 5e-5).abs() < 1e-9 && (line.at_zero - 1e-4).abs() < 1e-9, "{line:?}");
        let alone = verdict_of(&plan(&[(2, 64, 64)], false), &[20_000.0]);
        assert_eq!(alone.coordinator_costs[0].seconds, None);
    }

    #[test]
    fn a_digest_that_differs_is_an_error_that_names_both_runs() {
        let (one, other) = ("ab".repeat(32), "cd".repeat(32));
        let mut digests = Digests::default();
        digests.add("round-1-workers-1-batch-64", 64, &outcome(100, &one, 1.0, 1.0)).unwrap();
        digests.add("round-1-workers-2-batch-64", 64, &outcome(100, &one, 1.0, 1.0)).unwrap();
        // Another batch size and another number of steps have their own bits.
        digests.add("round-1-workers-2-batch-32", 32, &outcome(100, &other, 1.0, 1.0)).unwrap();
        digests.add("round-1-workers-2-batch-64", 64, &outcome(1, &other, 1.0, 1.0)).unwrap();
        let planted = digests.add("round-2-workers-4-batch-64", 64, &outcome(100, &other, 1.0, 1.0));
        let message = planted.unwrap_err().to_string();
        for part in [
            "after 100 steps of batches of 64 differ",
            &format!("round-1-workers-1-batch-64 has {one}"),
            &format!("round-2-workers-4-batch-64 has {other}"),
        ] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
    }

    #[test]
    fn the_weights_are_counted() {
        let verdict = strong();
        let weights: Vec<(u32, u64, u32)> =
            verdict.weights.iter().map(|weights| (weights.batch_size, weights.steps, weights.runs)).collect();
        assert_eq!(weights, [(64, 1, 9), (64, 101, 9)]);
        assert_eq!(verdict.rows[0].weights_digest, "ab".repeat(32));
    }
}
