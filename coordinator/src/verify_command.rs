//! `coordinator verify`: computes logged steps of a run again and compares the weights' digests with the log.
//!
//! It only reads, and may run beside the coordinator that writes.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use lockstep_checkpoint::{Digests, Disk, Files, History, LogHeader, list_checkpoints, load_checkpoint};
use lockstep_control::{AssignmentId, Task, TaskKind, WorkerId};
use lockstep_model::{Cpu, Digest, digest};
use lockstep_proto::{Fence, RunId};
use lockstep_reduction::Node;
use lockstep_telemetry::Terminal;
use lockstep_worker::Recomputer;

use crate::batches::Batches;
use crate::cli::{EXIT_DONE, EXIT_FAILED};
use crate::initial::Initial;
use crate::model_commands::say;
use crate::past_run::PastRun;
use crate::prepare::weights_of;
use crate::run_directory::RunDirectory;
use crate::trainer::Trainer;
use crate::{messages, train};

/// Recomputes the steps `from..=to` (the last one logged if absent) of the run in `run_dir` with `threads` threads;
/// returns the exit code.
///
/// # Errors
///
/// If the run, its data or its log cannot be read.
pub fn verify(
    run_dir: &Path,
    from: u64,
    to: Option<u64>,
    threads: NonZeroU32,
    terminal: &Terminal,
) -> Result<u8> {
    let run = PastRun::open(run_dir)?;
    let settings = run.settings()?;
    let run_id = run.stored.run_id;
    let initial = Initial::find(&settings)?;
    let dataset = train::load(&settings, terminal)?;
    let identity = train::identity(&settings, &dataset, &initial);
    run.stored.check(&identity)?;
    let header = LogHeader::new(run_id, &serde_json::to_string(&identity)?);
    let directory = &run.directory;
    let history = History::read(Arc::new(Disk), &directory.steps_log(), &header)?;
    for damage in history.damages() {
        tracing::warn!("{damage}");
    }
    let to = to.unwrap_or(history.last_step());
    if to > history.last_step() || from > to {
        bail!(
            "the log has steps up to {}; there is nothing to compare {from} to {to} with",
            history.last_step()
        );
    }

    let (start, weights) = start(directory, run_id, from, initial.weights)?;
    let mut replay = Replay {
        batches: Batches::new(
            dataset,
            settings.seed,
            settings.batch_size.get(),
            settings.micro_shards.get(),
            settings.validation_split.get(),
        ),
        trainer: Trainer::new(&weights, settings.learning_rate.get()),
        recomputer: Recomputer::new(Cpu::detect(), threads.get()).context("cannot start the threads")?,
        shards: settings.micro_shards.get(),
    };
    let mut digests = Digests::open(Arc::new(Disk), &directory.steps_log(), &header)?;
    let mut compared = 0;
    for step in start + 1..=to {
        let actual = replay.step(step)?;
        let Some(logged) = digests.of(step)?.filter(|_| step >= from) else { continue };
        if actual.0 != logged {
            let sentence = format!(
                "step {step} differs: computed again, its weights have the digest {actual}, the log has {}\n",
                Digest(logged)
            );
            say(&sentence)?;
            return Ok(EXIT_FAILED);
        }
        compared += 1;
    }
    let missing = to - from + 1 - compared;
    let gaps = if missing > 0 { format!(" ({missing} have no record)") } else { String::new() };
    say(&format!("steps {from} to {to}: {compared} digests computed again, all as logged{gaps}\n"))?;
    Ok(EXIT_DONE)
}

/// The newest state before the step `from`: a checkpoint, or the initial weights.
fn start(
    directory: &RunDirectory,
    run_id: [u8; 16],
    from: u64,
    initial: Box<[f32]>,
) -> Result<(u64, Box<[f32]>)> {
    let files: Arc<dyn Files> = Arc::new(Disk);
    let folder = directory.checkpoints();
    // A run that was ended early may have no such folder.
    for name in
        list_checkpoints(&*files, &folder).unwrap_or_default().iter().rev().filter(|name| name.step < from)
    {
        let digest_of = |model: &_| Ok(digest(&weights_of(model)?).0);
        // One that is not valid is no reason to fail: an older one does as well.
        if let Ok((manifest, model)) = load_checkpoint(&*files, &folder, name, &run_id, &digest_of) {
            return Ok((manifest.step, weights_of(&model).map_err(anyhow::Error::msg)?));
        }
    }
    Ok((0, initial))
}

/// A training without workers, on the trainer and the kernels of any run.
struct Replay {
    batches: Batches,
    trainer: Trainer,
    recomputer: Recomputer,
    shards: u32,
}

impl Replay {
    /// Trains the step and gives the digest of the weights after it.
    fn step(&mut self, step: u64) -> Result<Digest> {
        let fence = Fence { run_id: RunId([0; 16]), term: 0 };
        let task = Task { kind: TaskKind::Train, step };
        let weights = messages::weights(fence, step - 1, self.trainer.weights_as_bytes());
        let data = self.batches.leaves(task, 0..self.shards);
        let assignment = messages::assignment(fence, AssignmentId(1), task, 0, data);
        for result in self.recomputer.answer(&weights, &assignment) {
            let node = Node::new(result.level, result.index).context("a node of the tree")?;
            self.trainer.combine(task, self.shards, WorkerId(1), node, result.value);
        }
        if self.trainer.step(task).is_err() {
            bail!("step {step} gives loss or weights that are not finite");
        }
        Ok(self.trainer.digest())
    }
}
