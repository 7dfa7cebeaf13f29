//! What `bench scaling` measures: its flags, and the runs that follow from them, checked before the first one starts.
//!
//! Starts nothing and touches no file.

use std::path::PathBuf;

use lockstep_dataset::DIGITS_TRAIN;
use lockstep_run_directory::micro_shards::{MicroShards, MicroShardsError};

/// Each worker is a process of this one machine: beyond this the scheduler and the limit of processes are measured.
const MAX_WORKERS: u32 = 256;

/// More threads in one process than this is a mistake.
const MAX_THREADS_PER_WORKER: u32 = 1024;

/// A median needs no more, and each round costs minutes.
const MAX_ROUNDS: u32 = 100;

/// The cost of a step is what a run of several steps takes beyond a run of one.
const MIN_STEPS: u32 = 2;

/// A run of an hour or so; its metrics are held in memory.
const MAX_STEPS: u32 = 1_000_000;

/// Arguments of `coordinator bench scaling`.
#[derive(clap::Args, Clone, Debug, Eq, PartialEq)]
pub struct Arguments {
    /// Numbers of workers to compare; efficiency is held against the smallest
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,4,8")]
    #[arg(allow_negative_numbers = true)]
    pub workers: Vec<u32>,

    /// Examples of one step, or several such numbers, each compared for itself
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "64")]
    #[arg(allow_negative_numbers = true)]
    pub batch_size: Vec<u32>,

    /// Weak scaling: --batch-size is what each worker gets, so a step has more examples with more workers
    #[arg(long)]
    pub weak: bool,

    /// How often each number of workers is measured; every round starts with another one
    #[arg(long, value_name = "N", default_value_t = 3, allow_negative_numbers = true)]
    pub rounds: u32,

    /// Steps of each run
    #[arg(long, value_name = "N", default_value_t = 500, allow_negative_numbers = true)]
    pub steps: u32,

    /// Threads of each worker; the same for every number of workers, so that twice the workers are twice the threads
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub threads_per_worker: u32,

    /// Parts a batch is cut into, a power of two, at least as many as workers
    #[arg(long, value_name = "N", default_value_t = 16, allow_negative_numbers = true)]
    pub micro_shards: u32,

    /// Train on the first N generated digits only [default: all 60,000]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub examples: Option<u32>,

    /// New or empty folder for the tables and the plot [default: a new one under runs/]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Keep the run directory of every run, below the folder of the tables
    #[arg(long)]
    pub keep_runs: bool,

    /// Print the report as one JSON object on standard output, and nothing else there
    #[arg(long)]
    pub json: bool,
}

/// What cannot be measured; always a matter of usage.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A number outside its bounds.
    #[error("--{flag} has {value}; it must be from {least} to {most}: {reason}")]
    OutOfRange {
        /// The flag, without its dashes.
        flag: &'static str,
        /// What was given.
        value: u32,
        /// The least value allowed.
        least: u32,
        /// The greatest value allowed.
        most: u32,
        /// Why there are bounds.
        reason: &'static str,
    },
    /// The same number twice.
    #[error("--{flag} has {value} twice; name it once, and raise --rounds to measure it more often")]
    Repeated {
        /// The flag, without its dashes.
        flag: &'static str,
        /// The number.
        value: u32,
    },
    /// Workers that would be measured doing nothing.
    #[error(
        "--workers has {workers}, but a batch is cut into {micro_shards} micro-shards, and the other workers would have \
         nothing to do; leave {workers} out, or set --micro-shards to {enough}, which changes the bits"
    )]
    Idle {
        /// The number of workers.
        workers: u32,
        /// `--micro-shards`.
        micro_shards: u32,
        /// The least that would do.
        enough: u32,
    },
    /// A batch larger than what there is.
    #[error(
        "a batch of {batch_size} examples{} is more than the {available} to train on; lower --batch-size{}",
        if *weak { format!(" ({workers} workers, --weak)") } else { String::new() },
        if *weak { ", or name fewer --workers" } else { "" }
    )]
    BatchBeyondExamples {
        /// Its size.
        batch_size: u64,
        /// With so many workers.
        workers: u32,
        /// `--weak`.
        weak: bool,
        /// Examples to train on.
        available: u32,
    },
    /// A number that no run can have.
    #[error(transparent)]
    MicroShards(#[from] MicroShardsError),
}

/// A number of workers and a batch size: measured together, a line of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Point {
    /// Workers.
    pub workers: u32,
    /// Examples of a step.
    pub batch_size: u32,
    /// The batch size that was named: with `weak`, that of one worker. Points that share it are compared.
    pub named_batch_size: u32,
}

/// What is to be measured; nothing in it can be wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScalingPlan {
    /// Each measured in every round; by batch size as named, then by number of workers.
    pub points: Vec<Point>,
    /// Whether the batch grows with the workers.
    pub weak: bool,
    /// How often each point is measured.
    pub rounds: u32,
    /// Steps of each run, at least 2.
    pub steps: u32,
    /// Threads of each worker.
    pub threads_per_worker: u32,
    /// Leaves of the reduction tree.
    pub micro_shards: u32,
    /// Only the first so many examples.
    pub examples: Option<u32>,
}

impl ScalingPlan {
    /// Checks the arguments.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn new(arguments: &Arguments) -> Result<Self, PlanError> {
        let Arguments { rounds, steps, threads_per_worker, micro_shards, examples, weak, .. } = *arguments;
        let digits = DIGITS_TRAIN as u32;
        let available = examples.unwrap_or(digits);
        within("rounds", rounds, 1, MAX_ROUNDS, "each costs a run of every number of workers")?;
        let reason = "the cost of a step is what such a run takes beyond a run of one step";
        within("steps", steps, MIN_STEPS, MAX_STEPS, reason)?;
        within(
            "threads-per-worker",
            threads_per_worker,
            1,
            MAX_THREADS_PER_WORKER,
            "they are of one process",
        )?;
        within("examples", available, 1, digits, "so many digits there are")?;
        MicroShards::try_from(micro_shards)?;
        let workers = each("workers", &arguments.workers, MAX_WORKERS, "each is a process of this machine")?;
        let batch_sizes = each("batch-size", &arguments.batch_size, available, "so many examples there are")?;
        let mut points = Vec::new();
        for &named_batch_size in &batch_sizes {
            for &workers in &workers {
                if workers > micro_shards {
                    return Err(PlanError::Idle {
                        workers,
                        micro_shards,
                        enough: workers.next_power_of_two(),
                    });
                }
                let batch_size = u64::from(named_batch_size) * if weak { workers.into() } else { 1 };
                if batch_size > available.into() {
                    return Err(PlanError::BatchBeyondExamples { batch_size, workers, weak, available });
                }
                points.push(Point { workers, batch_size: batch_size as u32, named_batch_size });
            }
        }
        Ok(Self { points, weak, rounds, steps, threads_per_worker, micro_shards, examples })
    }

    /// The points in the order of a round, from 1: all of them, and each round starts elsewhere, so that a machine that
    /// gets slower or faster meanwhile does not do so to the same point each time.
    pub fn round(&self, round: u32) -> impl Iterator<Item = Point> {
        let stride = (self.points.len() / self.rounds as usize).max(1);
        let first = (round as usize - 1) * stride % self.points.len();
        let (later, earlier) = self.points.split_at(first);
        earlier.iter().chain(later).copied()
    }

    /// The command that measures the same again.
    pub fn command(&self) -> String {
        let mut workers: Vec<u32> = self.points.iter().map(|point| point.workers).collect();
        let mut batch_sizes: Vec<u32> = self.points.iter().map(|point| point.named_batch_size).collect();
        for numbers in [&mut workers, &mut batch_sizes] {
            numbers.sort_unstable();
            numbers.dedup();
        }
        let list = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let mut command = format!(
            "coordinator bench scaling --workers {} --batch-size {}{} --rounds {} --steps {} --threads-per-worker {} \
             --micro-shards {}",
            list(&workers),
            list(&batch_sizes),
            if self.weak { " --weak" } else { "" },
            self.rounds,
            self.steps,
            self.threads_per_worker,
            self.micro_shards
        );
        if let Some(examples) = self.examples {
            command.push_str(&format!(" --examples {examples}"));
        }
        command
    }
}

fn within(
    flag: &'static str,
    value: u32,
    least: u32,
    most: u32,
    reason: &'static str,
) -> Result<(), PlanError> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(PlanError::OutOfRange { flag, value, least, most, reason }),
    }
}

/// The numbers of a list in ascending order, each within its bounds and different from the others.
fn each(flag: &'static str, values: &[u32], most: u32, reason: &'static str) -> Result<Vec<u32>, PlanError> {
    for &value in values {
        within(flag, value, 1, most, reason)?;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(PlanError::Repeated { flag, value: pair[0] }),
        None => Ok(sorted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn plan(flags: &str) -> Result<ScalingPlan, PlanError> {
        let line = std::iter::once("scaling").chain(flags.split_whitespace());
        let Line { arguments } = clap::Parser::parse_from(line);
        ScalingPlan::new(&arguments)
    }

    fn refusal(flags: &str) -> String {
        plan(flags).unwrap_err().to_string()
    }

    fn points(plan: &ScalingPlan) -> Vec<(u32, u32, u32)> {
        plan.points.iter().map(|point| (point.workers, point.batch_size, point.named_batch_size)).collect()
    }

    #[test]
    fn every_batch_size_meets_every_number_of_workers() {
        let strong = plan("--workers 4,1 --batch-size 320,64").unwrap();
        assert_eq!(points(&strong), [(1, 64, 64), (4, 64, 64), (1, 320, 320), (4, 320, 320)]);
        let weak = plan("--workers 4,1 --batch-size 64 --weak").unwrap();
        assert_eq!(points(&weak), [(1, 64, 64), (4, 256, 64)]);
    }

    #[test]
    fn every_round_has_every_point_and_another_one_first() {
        let plan = plan("--workers 1,2,4,8 --batch-size 64,320 --rounds 3").unwrap();
        let mut firsts = Vec::new();
        for round in 1..=3 {
            let mut points: Vec<Point> = plan.round(round).collect();
            firsts.push((points[0].workers, points[0].batch_size));
            points.sort_by_key(|point| (point.batch_size, point.workers));
            assert_eq!(points, plan.points, "round {round}");
        }
        assert_eq!(firsts, [(1, 64), (4, 64), (1, 320)]);
    }

    #[test]
    fn more_rounds_than_points_begin_again() {
        let plan = plan("--workers 1,2 --rounds 5").unwrap();
        let firsts: Vec<u32> = (1..=5).map(|round| plan.round(round).next().unwrap().workers).collect();
        assert_eq!(firsts, [1, 2, 1, 2, 1]);
    }

    #[test]
    fn the_command_measures_the_same_again() {
        for flags in
            ["", "--workers 3,2 --batch-size 8,4 --weak --rounds 2 --steps 9 --examples 100 --micro-shards 4"]
        {
            let first = plan(flags).unwrap();
            let command = first.command();
            let again = plan(command.strip_prefix("coordinator bench scaling ").unwrap()).unwrap();
            assert_eq!(again, first, "{command}");
        }
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_the_reason() {
        let cases = [
            ("--workers 0", "--workers has 0; it must be from 1 to 256: each is a process of this machine"),
            ("--workers 1,257", "--workers has 257; it must be from 1 to 256"),
            ("--workers 2,4,2", "--workers has 2 twice; name it once, and raise --rounds"),
            ("--batch-size 0", "--batch-size has 0; it must be from 1 to 60000"),
            ("--batch-size 64,64", "--batch-size has 64 twice"),
            ("--rounds 0", "--rounds has 0; it must be from 1 to 100"),
            ("--steps 1", "--steps has 1; it must be from 2 to 1000000: the cost of a step"),
            ("--threads-per-worker 0", "--threads-per-worker has 0; it must be from 1 to 1024"),
            ("--examples 60001", "--examples has 60001; it must be from 1 to 60000"),
            ("--micro-shards 12", "--micro-shards is 12"),
            ("--workers 1,20", "--workers has 20, but a batch is cut into 16 micro-shards"),
            ("--workers 1,20", "leave 20 out, or set --micro-shards to 32"),
            (
                "--workers 8 --batch-size 100 --weak --examples 500",
                "a batch of 800 examples (8 workers, --weak) is more than the 500 to train on; lower --batch-size, or \
                 name fewer --workers",
            ),
        ];
        for (flags, part) in cases {
            let message = refusal(flags);
            assert!(message.contains(part), "{flags}: {message}");
        }
    }
}
