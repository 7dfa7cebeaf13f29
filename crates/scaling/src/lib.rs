//! `coordinator bench scaling`: trains with several numbers of workers, and compares speed and bits.
//!
//! Every run is a real one: this program, started again as its own child with local workers. What is run stands in
//! `plan`, a run in `trial`, what follows from them in `verdict`, and how that looks in `table` and `plot`.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use lockstep_command_line::Signals;
use lockstep_command_line::exit::EXIT_DONE;
use lockstep_command_line::output::print;
use lockstep_command_line::runtime;
use lockstep_model::Cpu;
use lockstep_run_directory::{RunDirectory, compact_utc};
pub use plan::{Arguments, PlanError};
use plan::{Point, ScalingPlan};
use trial::TrialRunner;
use verdict::{Digests, Machine, Trial, Verdict};

mod figures;
mod plan;
mod plot;
mod table;
mod trial;
mod verdict;

/// Measures, prints the tables and writes them; the exit code is 0, or that of a signal.
///
/// # Errors
///
/// What cannot be measured ([`PlanError`]), a run that fails, weights that differ, or the system's refusals.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let plan = ScalingPlan::new(arguments)?;
    let unix_seconds =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since_1970| since_1970.as_secs());
    let machine = machine();
    let runtime = runtime::on_this_thread()?;
    let signals = {
        let _context = runtime.enter();
        Signals::new()?
    };
    let folder = Folder::create(arguments.out.as_deref(), unix_seconds)?;
    tracing::info!(
        "{} trials, each a run of one step and one of {}; everything is written to {}",
        plan.points.len() as u32 * plan.rounds,
        plan.steps,
        folder.path.display()
    );
    warn_of_shared_cores(&plan, machine.cores);
    let measured = runtime.block_on(measure(&plan, &folder.runs(), arguments.keep_runs, signals));
    let (trials, digests) = measured.inspect_err(|_| folder.discard_if_empty())?;
    let verdict = Verdict::new(&plan, compact_utc(unix_seconds), machine, trials, digests);
    let json = verdict.to_json()?;
    let markdown = table::markdown(&verdict);
    let with_plot = format!("{markdown}\n![Speed, and CPU time of the coordinator](scaling.svg)\n");
    let (csv, svg) = (table::csv(&verdict), plot::svg(&verdict));
    for (name, content) in [("json", &json), ("csv", &csv), ("md", &with_plot), ("svg", &svg)] {
        let path = folder.path.join(format!("scaling.{name}"));
        lockstep_checkpoint::write_atomically(&path, content.as_bytes())?;
    }
    let text = if arguments.json { json } else { markdown };
    print(&text)?;
    Ok(EXIT_DONE)
}

fn machine() -> Machine {
    let instructions = Cpu::detect().to_string();
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.trim_start().strip_prefix(':'));
    let processor = model.map_or(instructions.clone(), |model| format!("{}, {instructions}", model.trim()));
    let cores = thread::available_parallelism().map_or(1, NonZero::get) as u32;
    Machine { cores, processor }
}

fn warn_of_shared_cores(plan: &ScalingPlan, cores: u32) {
    let mut crowded: Vec<u32> = plan.points.iter().map(|point| point.workers).collect();
    crowded.retain(|workers| workers * plan.threads_per_worker > cores);
    crowded.sort_unstable();
    crowded.dedup();
    for workers in crowded {
        tracing::warn!(
            "{workers} workers have {} threads, and this machine has {cores} cores: they take turns",
            workers * plan.threads_per_worker
        );
    }
}

/// All rounds. A run that fails, or ends with other weights than one before, ends it at once: nothing that was measured
/// is worth anything then.
async fn measure(
    plan: &ScalingPlan,
    runs: &Path,
    keep_runs: bool,
    signals: Signals,
) -> Result<(Vec<Trial>, Digests)> {
    let mut runner = TrialRunner::new(runs, keep_runs, signals)?;
    let (mut trials, mut digests) = (Vec::new(), Digests::default());
    for round in 1..=plan.rounds {
        for point in plan.round(round) {
            let trial = trial(&mut runner, plan, point, round, &mut digests).await?;
            tracing::info!(
                "round {round} of {}: --workers {}, batch size {}: {:.0} examples/s",
                plan.rounds,
                point.workers,
                point.batch_size,
                trial.run.examples_per_second
            );
            trials.push(trial);
        }
    }
    // It stays if runs are kept.
    let _ = fs::remove_dir(runs);
    Ok((trials, digests))
}

/// A point in a round: the run of one step, and the one that counts, their weights held against the others'.
async fn trial(
    runner: &mut TrialRunner<'_>,
    plan: &ScalingPlan,
    point: Point,
    round: u32,
    digests: &mut Digests,
) -> Result<Trial> {
    let Point { workers, batch_size, .. } = point;
    let name = Trial::name(point, round);
    let short_name = format!("{name}-one-step");
    let one_step = runner.run(&short_name, plan, point, 1).await?;
    digests.add(&short_name, batch_size, &one_step)?;
    let run = runner.run(&name, plan, point, plan.steps).await?;
    digests.add(&name, batch_size, &run)?;
    Ok(Trial { round, workers, batch_size, run, one_step })
}

/// Where the tables go, and the runs while they last.
struct Folder {
    path: PathBuf,
    /// Whether this process made it, and may take it away again.
    made_here: bool,
}

impl Folder {
    /// Makes it, or takes an empty one that is there; `unix_seconds` name one that is not named.
    fn create(named: Option<&Path>, unix_seconds: u64) -> Result<Self> {
        let path = named.map_or_else(|| default_path(unix_seconds), Path::to_path_buf);
        let made_here = !path.exists();
        let refused =
            || format!("cannot write to {}; choose a place you may write to with --out", path.display());
        let found = match made_here {
            true => None,
            false => RunDirectory::content(&path).with_context(refused)?,
        };
        if let Some(found) = found {
            bail!(
                "the folder {} has {} in it, and nothing is overwritten; name a new or empty one with --out",
                path.display(),
                Path::new(&found).display()
            );
        }
        // Also the proof that it can be written to.
        fs::create_dir_all(path.join("runs")).with_context(refused)?;
        Ok(Self { path, made_here })
    }

    fn runs(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// Takes away what [`Folder::create`] made, if nothing is in it.
    fn discard_if_empty(&self) {
        // `remove_dir` refuses a folder that holds anything, which is all the check this needs.
        let _ = fs::remove_dir(self.runs());
        if self.made_here {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// `runs/<UTC time>-<4 hex digits of this process>-scaling`.
fn default_path(unix_seconds: u64) -> PathBuf {
    let process = std::process::id().to_be_bytes();
    let mut distinct = [0; 16];
    distinct[..2].copy_from_slice(&process[2..]);
    let mut name = RunDirectory::default_path(unix_seconds, &distinct).into_os_string();
    name.push("-scaling");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_new_or_empty() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("deep/results");
        let made = Folder::create(Some(&path), 0).unwrap();
        assert!(made.runs().is_dir());
        made.discard_if_empty();
        assert!(!path.exists());

        fs::create_dir(&path).unwrap();
        let taken = Folder::create(Some(&path), 0).unwrap();
        taken.discard_if_empty();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "what was there stays, as it was");

        fs::create_dir(path.join("lost+found")).unwrap();
        Folder::create(Some(&path), 0).unwrap().discard_if_empty();

        fs::write(path.join("scaling.csv"), "").unwrap();
        let full = Folder::create(Some(&path), 0).err().unwrap().to_string();
        assert!(full.contains("has scaling.csv in it, and nothing is overwritten"), "{full}");
        let below_a_file = path.join("scaling.csv/results");
        let refused = Folder::create(Some(&below_a_file), 0).err().unwrap().to_string();
        assert!(refused.contains("cannot write to") && refused.contains("--out"), "{refused}");
        let a_file = Folder::create(Some(&path.join("scaling.csv")), 0).err().unwrap().to_string();
        assert!(a_file.contains("cannot write to"), "{a_file}");
    }

    #[test]
    fn the_default_folder_says_when_and_what() {
        let path = default_path(0);
        let name = path.to_str().unwrap();
        assert!(name.starts_with("runs/19700101T000000Z-") && name.ends_with("-scaling"), "{name}");
    }
}
