//! The command line of the simulator: one seed with its trace, or many seeds and a table.

#![expect(clippy::print_stdout, reason = "its results go there")]

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use clap::Parser;
use lockstep_simulator::knobs::Knobs;
use lockstep_simulator::report::{Statistics, failure_text};
use lockstep_simulator::simulate;
use lockstep_simulator::trace::Trace;

/// Seeds of a run without any flag: what a change is checked with.
const DEFAULT_SEEDS: &str = "0..2000";

/// Simulates faulty clusters by seed and checks that every one of them trains the bits of one undisturbed worker.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// One cluster; its knobs and its end are printed.
    #[arg(long, conflicts_with_all = ["seeds", "until_failure"])]
    seed: Option<u64>,
    /// Print everything that happens in it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Clusters FROM..TO, the last one not included.
    #[arg(long, value_name = "FROM..TO", value_parser = seeds, default_value = DEFAULT_SEEDS)]
    seeds: Range<u64>,
    /// Go on without an end, from the first of the seeds.
    #[arg(long)]
    until_failure: bool,
    /// Clusters at once.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parse = || {
        let (from, to) = text.split_once("..")?;
        let range = from.parse().ok()?..to.parse().ok()?;
        (!Range::is_empty(&range)).then_some(range)
    };
    parse().ok_or_else(|| format!("{text} is not like 0..2000"))
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        return Ok(one(seed, arguments.trace));
    }
    let Range { start, end } = arguments.seeds;
    many(start..if arguments.until_failure { u64::MAX } else { end }, arguments.jobs)
}

fn one(seed: u64, trace: bool) -> ExitCode {
    let simulated = simulate(Knobs::draw(seed), if trace { Trace::printed() } else { Trace::last() });
    match simulated.failure {
        Some(failure) => {
            let tail = if trace { String::new() } else { simulated.trace.tail() };
            println!("{}", failure_text(&simulated.knobs, &failure, &commit(), &tail));
            ExitCode::FAILURE
        }
        None => {
            println!("{:?}\n\n{}", simulated.knobs, simulated.statistics);
            ExitCode::SUCCESS
        }
    }
}

fn many(seeds: Range<u64>, jobs: usize) -> anyhow::Result<ExitCode> {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    let total = Mutex::new(Statistics::default());
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let simulated = simulate(Knobs::draw(seed), Trace::last());
            total.lock().unwrap_or_else(PoisonError::into_inner).add(&simulated.statistics);
            if let Some(failure) = simulated.failure
                && !failed.swap(true, Ordering::Relaxed)
            {
                let text = failure_text(&simulated.knobs, &failure, &commit(), &simulated.trace.tail());
                println!("{text}\n");
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| ()))
    })
    .ok()
    .context("the simulator itself panicked")?;
    println!("{}", total.into_inner().unwrap_or_else(PoisonError::into_inner));
    let failed = failed.into_inner();
    println!("{}", if failed { "FAILED" } else { "no invariant was broken" });
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The commit that is checked out, for the report.
fn commit() -> String {
    let output = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = output.ok().filter(|output| output.status.success());
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    commit.unwrap_or_else(|| "unknown".to_string())
}
