//! `coordinator chaos`: trains with real processes, injects faults by a plan, and compares the bits.
//!
//! Runs the undisturbed training first, then the disturbed ones, and gives the verdict. What a fault is stands in
//! `plan`, how it is done in `fault_runner`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use lockstep_command_line::exit::{EXIT_DONE, EXIT_FAILED};
use lockstep_command_line::output::print;
use lockstep_command_line::{Signals, exit_code, runtime};
use lockstep_records::Summary;
use lockstep_run_directory::RunDirectory;

use fault_runner::{FaultRunner, PendingFaults, Progress};
use plan::{FaultPlan, Until};
use verdict::Verdict;

mod draw;
mod fault_runner;
mod plan;
mod process_usage;
mod processes;
mod proxy;
pub(crate) mod records;
mod verdict;

pub use plan::PlanError;

/// A training that is over before its faults is run again, but not for ever.
const MAX_RUNS: u32 = 1000;

/// How often the end of the undisturbed run is looked for.
const TICK: Duration = Duration::from_millis(20);

/// Arguments of `coordinator chaos`.
#[derive(clap::Args, Clone, Debug, Eq, PartialEq)]
pub struct Arguments {
    /// What to train and which faults to inject; docs/chaos-example.toml shows every kind
    #[arg(long, value_name = "FILE.toml")]
    plan: PathBuf,

    /// New folder for the runs, their logs and report.json [default: a new one under runs/]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,

    /// Print the report as one JSON object on standard output, and nothing else there
    #[arg(long)]
    json: bool,
}

/// Carries the plan out and prints the report; a plan may set the `training_flags`, named without dashes. The exit code is 0 for the same bits, and 1 otherwise.
///
/// # Errors
///
/// A plan that cannot be carried out ([`PlanError`]), an undisturbed run that fails, or the system's refusals.
pub fn run(arguments: Arguments, training_flags: &[String]) -> Result<u8> {
    let plan = FaultPlan::read(&arguments.plan, training_flags)?;
    let runtime = runtime::on_this_thread()?;
    let (folder, verdict) = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let folder = folder(arguments.run_dir)?;
        let verdict = tokio::select! {
            verdict = run_all(&plan, &folder) => Ok(verdict?),
            // Processes are killed when they are dropped.
            signal = signals.next() => Err(exit_code(signal)),
        };
        anyhow::Ok((folder, verdict))
    })?;
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(code) => return Ok(code),
    };
    let json = verdict.to_json()?;
    lockstep_checkpoint::write_atomically(&folder.join("report.json"), json.as_bytes())?;
    let text = if arguments.json { json } else { verdict.to_text() };
    print(&text)?;
    Ok(if verdict.same_bits { EXIT_DONE } else { EXIT_FAILED })
}

/// Makes the folder of everything.
fn folder(named: Option<PathBuf>) -> Result<PathBuf> {
    let path = named.unwrap_or_else(|| {
        let unix_seconds =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since_1970| since_1970.as_secs());
        let process = std::process::id().to_be_bytes();
        let mut distinct = [0; 16];
        distinct[..2].copy_from_slice(&process[2..]);
        let mut name = RunDirectory::default_path(unix_seconds, &distinct).into_os_string();
        name.push("-chaos");
        name.into()
    });
    Ok(RunDirectory::create(&path)?.path().to_path_buf())
}

/// All runs of the plan.
async fn run_all(plan: &FaultPlan, folder: &Path) -> Result<Verdict> {
    tracing::info!("plan with seed {}; everything is in {}", plan.seed, folder.display());
    let digest = match &plan.digest {
        Some(digest) => digest.clone(),
        None => undisturbed(plan, folder).await?,
    };
    tracing::info!("undisturbed weights {digest}");
    let mut pending: PendingFaults = plan.faults_in_order().peekable();
    let mut progress = Progress::default();
    loop {
        let number = progress.runs.len() as u32 + 1;
        if number > MAX_RUNS {
            bail!(
                "the training was run {MAX_RUNS} times and faults are left; make it longer, with more `epochs` in \
                 the plan's [training]"
            );
        }
        let name = format!("run-{number}");
        let logs = folder.join(format!("{name}-logs"));
        std::fs::create_dir(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        FaultRunner::begin(plan, number, folder.join(name), logs, &mut pending, &mut progress)?.run().await?;
        let run = progress.runs.last();
        if let Some(run) = run {
            tracing::info!(
                "run {number} {}",
                match (&run.failure, &run.digest) {
                    (Some(failure), _) => format!("failed: {failure}"),
                    (None, found) if found.as_ref() == Some(&digest) =>
                        "ended with the same bits".to_string(),
                    _ => "ended with OTHER BITS".to_string(),
                }
            );
        }
        // One that went wrong says enough; more of them would bury it.
        let wrong = run.is_none_or(|run| run.digest.as_ref() != Some(&digest));
        if wrong || plan.until == Until::Done || pending.peek().is_none() {
            break;
        }
    }
    let left = pending.count() as u64;
    let processes = progress.usages.all().to_vec();
    Ok(Verdict::new(digest, plan.seed, left, progress.runs, progress.faults, processes))
}

/// The digest of the training with one worker and no fault.
async fn undisturbed(plan: &FaultPlan, folder: &Path) -> Result<String> {
    tracing::info!("training undisturbed, with one worker");
    let directory = folder.join("undisturbed");
    let mut process = processes::start_undisturbed(plan, &directory, folder)?;
    let begin = Instant::now();
    let ended = loop {
        if let Some((_, ended)) = process.ended()? {
            break ended;
        }
        if begin.elapsed() > plan.limit {
            bail!("the undisturbed run took longer than the plan's `limit`; raise it, or train for less");
        }
        tokio::time::sleep(TICK).await;
    };
    if !ended.status.success() {
        bail!("the undisturbed run failed: {ended}; its whole output is {}", process.log().display());
    }
    let summary = Summary::read(&directory.join("summary.json"))
        .with_context(|| format!("no summary of the undisturbed run in {}", directory.display()))?;
    Ok(summary.weights_digest)
}
