//! What is written and said at the end of a run.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use lockstep_control::Outcome;
use lockstep_proto::RunId;
use lockstep_telemetry::{SchemaVersion, Status, Summary};

use crate::cli::{EXIT_DONE, EXIT_FAILED, EXIT_WORKERS_LOST};
use crate::model_file;
use crate::results::Results;
use crate::run::exit_code;
use crate::run_directory::RunDirectory;
use crate::settings::{RunIdentity, Settings};
use crate::trainer::Trainer;

/// What is written and said at the end.
pub struct Report<'a> {
    /// As resolved.
    pub settings: &'a Settings,
    /// Of this run.
    pub identity: &'a RunIdentity,
    /// Digits stood in for MNIST.
    pub fallback: bool,
    /// The run.
    pub run_id: RunId,
    /// The process of the run.
    pub term: u64,
    /// Where everything is written.
    pub directory: &'a RunDirectory,
    /// How it ended.
    pub outcome: Outcome,
}

/// Prints a summary as the settings ask for it.
///
/// # Errors
///
/// If standard output cannot be written, unless whoever read it wants no more.
pub fn show(settings: &Settings, summary: &Summary) -> Result<()> {
    let text = if settings.json { format!("{}\n", summary.to_json()) } else { summary.to_text() };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Who closed the pipe wants no more.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the summary to standard output")
        }
        _ => Ok(()),
    }
}

impl Report<'_> {
    /// Writes the model and the summary, says how the run ended, and returns the exit code.
    ///
    /// # Errors
    ///
    /// If the disk or standard output refuses.
    pub fn write(&self, trainer: &Trainer, results: &Results) -> Result<u8> {
        let (status, code) = match self.outcome {
            Outcome::Done => (Status::Done, EXIT_DONE),
            Outcome::Diverged { .. } => (Status::Diverged, EXIT_FAILED),
            Outcome::Interrupted { signal } => (Status::Interrupted, exit_code(signal)),
            Outcome::NotJoined { .. } | Outcome::LostWorkers { .. } => {
                self.mourn(results);
                self.write_model(trainer)?;
                return Ok(EXIT_WORKERS_LOST);
            }
            // What is in the directory is the other coordinator's, or contradicts itself: nothing is added to it.
            Outcome::Superseded { .. } | Outcome::Contradicted { .. } => {
                tracing::error!("{}, after {} steps of this process", self.outcome, results.steps);
                return Ok(EXIT_FAILED);
            }
        };
        // First: a run with a summary is finished, and has its model.
        self.write_model(trainer)?;
        let summary = self.summary(status, trainer, results);
        let json = summary.to_json();
        lockstep_checkpoint::write_atomically(&self.directory.summary(), format!("{json}\n").as_bytes())?;
        show(self.settings, &summary)?;
        if let Outcome::Diverged { step } = self.outcome {
            // Before the first update no learning rate is at fault.
            let remedy = match (step, &self.identity.initial_weights) {
                (1, Some(_)) => "name other weights with --init",
                _ => "lower --learning-rate",
            };
            tracing::error!(
                "training diverged in step {step}: loss or weights are no longer finite at learning rate {:?}; {remedy} \
                 (the last finite weights, after step {}, are in {})",
                self.settings.learning_rate.get(),
                step - 1,
                self.directory.model().display()
            );
        }
        if let Outcome::Interrupted { .. } = self.outcome {
            tracing::info!("go on with `coordinator --resume {}`", self.directory.path().display());
        }
        Ok(code)
    }

    /// Whether the directory is this process' to write to.
    pub fn belongs_here(&self) -> bool {
        !matches!(self.outcome, Outcome::Superseded { .. } | Outcome::Contradicted { .. })
    }

    /// Says how the workers ended.
    fn mourn(&self, results: &Results) {
        tracing::error!("{}, after {} steps", self.outcome, results.steps);
        for exit in &results.exits {
            tracing::error!("{exit}");
        }
        tracing::error!(
            "the workers' output is in {}; go on with `coordinator --resume {}`",
            self.directory.logs().display(),
            self.directory.path().display()
        );
    }

    fn write_model(&self, trainer: &Trainer) -> Result<()> {
        let metadata = serde_json::to_string(self.identity).context("the identity as JSON")?;
        model_file::write(&self.directory.model(), trainer.weights(), &metadata)?;
        Ok(())
    }

    fn summary(&self, status: Status, trainer: &Trainer, results: &Results) -> Summary {
        let Self { settings, identity, .. } = self;
        let rate = results.examples as f64 / results.train_seconds;
        Summary {
            schema_version: SchemaVersion,
            run_id: self.run_id.to_string(),
            status,
            weights_digest: trainer.digest().to_string(),
            test_loss: results.test.map(|(means, _)| means.loss),
            test_accuracy: results.test.map(|(means, _)| means.accuracy),
            val_loss: results.validation.map(|means| means.loss),
            val_accuracy: results.validation.map(|means| means.accuracy),
            epochs: results.epochs,
            steps: results.steps,
            examples: results.examples,
            train_seconds: results.train_seconds,
            examples_per_second: rate.is_finite().then_some(rate),
            workers: settings.workers.get(),
            threads_per_worker: (!settings.external).then(|| settings.threads_per_worker.get()),
            dataset: identity.dataset.clone(),
            dataset_fallback: self.fallback,
            dataset_sha256: identity.dataset_sha256.clone(),
            seed: identity.seed,
            batch_size: identity.batch_size,
            micro_shards: identity.micro_shards,
            learning_rate: identity.learning_rate,
            numerics_version: identity.numerics_version,
            run_dir: display(self.directory.path()),
            confusion_matrix: results
                .test
                .map(|(_, confusion)| confusion.chunks_exact(10).map(<[u32]>::to_vec).collect()),
            interrupted_by: match self.outcome {
                Outcome::Interrupted { signal } => Some(signal.to_string()),
                _ => None,
            },
            diverged_at_step: match self.outcome {
                Outcome::Diverged { step } => Some(step),
                _ => None,
            },
            terms: self.term,
            faults: results.faults,
        }
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
