//! `coordinator verify`: computes steps of a run again, compares the weights' digests with all that the run's directory
//! says of them, and says what it did not see.
//!
//! It only reads, and may run beside the coordinator that writes.

mod findings;
mod kept;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, value_parser};
use lockstep_checkpoint::{Digests, Disk, FileSystem, History, LogHeader, list_checkpoints, load_checkpoint};
use lockstep_command_line::exit::{EXIT_DONE, EXIT_FAILED};
use lockstep_command_line::output::print;
use lockstep_model::{Digest, digest};
use lockstep_run_directory::RunDirectory;
use lockstep_run_directory::model_file::weights_of;
use lockstep_run_directory::stored_run::StoredRun;
use lockstep_telemetry::Terminal;

use self::findings::{Findings, Log, Verdict};
use self::kept::Kept;
use crate::commands::settings_of;
use crate::settings::{SettingsError, processors};
use crate::single_process::SingleProcess;
use crate::start::dataset;
use crate::start::initial_weights::Initial;

/// Which steps of which run to recompute.
#[derive(Args)]
pub struct Arguments {
    /// Folder of the run
    #[arg(value_name = "RUN_DIR")]
    pub run_dir: PathBuf,
    /// First step to recompute
    #[arg(long, value_name = "STEP", default_value_t = 1, allow_negative_numbers = true)]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    pub from: u64,
    /// Last step to recompute [default: the last one that the run has got to]
    #[arg(long, value_name = "STEP", allow_negative_numbers = true)]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    pub to: Option<u64>,
    /// Folder of the data [default: where the run had them]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Threads to compute with [default: processors]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

/// Computes the steps again and says what came of it; returns the exit code.
///
/// # Errors
///
/// If the run, its data or its log cannot be read.
pub fn run(request: &Arguments, terminal: &Terminal) -> Result<u8> {
    if let Some(to) = request.to.filter(|to| *to < request.from) {
        return Err(SettingsError::StepsReversed { from: request.from, to }.into());
    }
    let run = StoredRun::open(&request.run_dir)?;
    let mut settings = settings_of(&run)?;
    if request.data_dir.is_some() {
        settings.data_dir.clone_from(&request.data_dir);
    }
    let run_id = run.stored.run_id;
    let initial = Initial::find(&settings)?;
    let dataset = dataset::load(&settings, terminal)?;
    let identity = dataset::identity(&settings, &dataset, &initial);
    run.stored.check(&identity)?;
    let identity = serde_json::to_string(&identity)?;
    let directory = &run.directory;
    // What is saved while the run goes on has its record already: so the log is read last.
    let kept = Kept::read(directory, &run_id, &identity)?;
    let (path, header) = (directory.steps_log(), LogHeader::new(run_id, &identity));
    let history = History::read(Arc::new(Disk), &path, &header)?;
    let damages = history.damages().iter().map(ToString::to_string).collect();
    let log = Log { last_step: history.last_step(), damages };
    let end = log.last_step.max(kept.last_step());
    let (from, to) = (request.from, request.to.unwrap_or(end));
    if to > end || from > to {
        bail!("the run has got to step {end}; there is nothing to compare {from} to {to} with");
    }

    let begin = Begin::find(directory, run_id, from, initial.weights)?;
    let mut records = Digests::open(Arc::new(Disk), &path, &header)?;
    if let Some(difference) = begin.difference(records.of(begin.step)?.map(Digest)) {
        print(&difference)?;
        return Ok(EXIT_FAILED);
    }
    let threads = request.threads.and_then(NonZeroU32::new).unwrap_or_else(processors);
    let mut replay = SingleProcess::of_run(&settings, dataset, &begin.weights, threads.get())
        .context("cannot start the threads")?;
    let mut findings = Findings::new(&kept, from..=to);
    for step in begin.step + 1..=to {
        if replay.step(step).is_err() {
            bail!("step {step} gives loss or weights that are not finite");
        }
        if step < from {
            continue;
        }
        if let Err(difference) = findings.take(step, replay.trainer().digest(), records.of(step)?.map(Digest))
        {
            print(&format!("{difference}\n"))?;
            return Ok(EXIT_FAILED);
        }
    }
    let Verdict { mut lines, sound } = findings.conclude(&log);
    lines.extend(begin.taken_for_granted());
    lines.push(String::new());
    print(&lines.join("\n"))?;
    Ok(if sound { EXIT_DONE } else { EXIT_FAILED })
}

/// The newest state before the first step that is compared.
struct Begin {
    step: u64,
    weights: Box<[f32]>,
    /// The checkpoint; nothing, if these are the initial weights.
    checkpoint: Option<PathBuf>,
}

impl Begin {
    fn find(directory: &RunDirectory, run_id: [u8; 16], from: u64, initial: Box<[f32]>) -> Result<Self> {
        let files: Arc<dyn FileSystem> = Arc::new(Disk);
        let folder = directory.checkpoints();
        // A run that was ended early may have no such folder.
        for name in list_checkpoints(&*files, &folder)
            .unwrap_or_default()
            .iter()
            .rev()
            .filter(|name| name.step < from)
        {
            let digest_of = |model: &_| Ok(digest(&weights_of(model)?).0);
            // One that is not valid is no reason to fail: an older one does as well.
            if let Ok((manifest, model)) = load_checkpoint(&*files, &folder, name, &run_id, &digest_of) {
                let weights = weights_of(&model).map_err(anyhow::Error::msg)?;
                return Ok(Self {
                    step: manifest.step,
                    weights,
                    checkpoint: Some(folder.join(name.manifest())),
                });
            }
        }
        Ok(Self { step: 0, weights: initial, checkpoint: None })
    }

    /// Says how it differs from its record, if it does.
    fn difference(&self, logged: Option<Digest>) -> Option<String> {
        let (path, logged) = (self.checkpoint.as_ref()?, logged?);
        let actual = digest(&self.weights);
        (actual != logged)
            .then(|| format!("{} has weights of the digest {actual}, the log has {logged}\n", path.display()))
    }

    /// What was not computed again, for people.
    fn taken_for_granted(&self) -> Option<String> {
        let path = self.checkpoint.as_ref()?;
        Some(format!(
            "not seen: steps 1 to {} were not computed again; {} was taken as it is",
            self.step,
            path.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_without_a_step_is_refused_before_anything_is_read() {
        let run_dir = PathBuf::from("absent");
        let arguments = Arguments { run_dir, from: 4, to: Some(3), data_dir: None, threads: None };
        let refused = run(&arguments, &Terminal::stderr()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "--from is 4 but --to is 3; the first step must not come after the last one"
        );
        assert!(refused.downcast_ref::<SettingsError>().is_some(), "wrong usage");
    }
}
