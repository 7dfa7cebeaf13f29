//! What a run found out, as its results are written and said at the end.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use lockstep_checkpoint::write_atomically_on;
use lockstep_control::Outcome;
use lockstep_proto::RunId;
use lockstep_telemetry::{SchemaVersion, Status, Summary};

use crate::cli::{EXIT_DONE, EXIT_FAILED, EXIT_WORKERS_LOST};
use crate::crashing_disk::CrashingDisk;
use crate::finish::Piece;
use crate::run::exit_code;
use crate::run::totals::Results;
use crate::run_directory::RunDirectory;
use crate::run_directory::model_file;
use crate::settings::{RunIdentity, Settings};
use crate::trainer::Trainer;

/// How a run ended, for who reads.
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
    /// A worker was started, or could come: else nothing is kept of the start.
    pub begun: bool,
}

/// What there is to write and to print at the end.
pub struct Ending {
    /// Absent where there is nothing to sum up.
    pub summary: Option<Summary>,
    /// What is to be kept, in the order in which it is written.
    pub files: Vec<Piece>,
    /// The exit code, if all of it is kept.
    pub code: u8,
}

/// A summary as the settings ask for it.
pub fn shown(settings: &Settings, summary: &Summary) -> String {
    if settings.json { format!("{}\n", summary.to_json()) } else { summary.to_text() }
}

/// Prints what [`shown`] gives.
///
/// # Errors
///
/// If standard output cannot be written, unless whoever read it wants no more.
pub fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Who closed the pipe wants no more.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the summary to standard output")
        }
        _ => Ok(()),
    }
}

impl Report<'_> {
    /// What there is to write and to print; nothing is written yet.
    pub fn ending(&self, trainer: &Trainer, results: &Results) -> Ending {
        let (status, code) = match self.outcome {
            Outcome::Done => (Status::Done, EXIT_DONE),
            Outcome::Diverged { .. } => (Status::Diverged, EXIT_FAILED),
            Outcome::Interrupted { signal } => (Status::Interrupted, exit_code(signal)),
            Outcome::NotJoined { .. } | Outcome::LostWorkers { .. } | Outcome::NoProgress { .. } => {
                let files = self.begun.then(|| self.model(trainer));
                return Ending { summary: None, files: files.into_iter().collect(), code: EXIT_WORKERS_LOST };
            }
            // What is in the directory is the other coordinator's, or contradicts itself: nothing is added to it.
            Outcome::Superseded { .. } | Outcome::Contradicted { .. } => {
                return Ending { summary: None, files: Vec::new(), code: EXIT_FAILED };
            }
        };
        let summary = self.summary(status, trainer, results);
        let (path, json) = (self.directory.summary(), format!("{}\n", summary.to_json()));
        let write = move || Ok(write_atomically_on(&CrashingDisk::of_results(), &path, json.as_bytes())?);
        let file = Piece { path: self.directory.summary(), write: Box::new(write) };
        // The model first: a run with a summary is finished, and has its model.
        let files = if self.begun { vec![self.model(trainer), file] } else { Vec::new() };
        Ending { summary: Some(summary), files, code }
    }

    fn model(&self, trainer: &Trainer) -> Piece {
        let metadata = serde_json::to_string(self.identity).context("the identity as JSON");
        let (path, weights) = (self.directory.model(), trainer.weights().to_vec());
        let write =
            move || Ok(model_file::write_on(&CrashingDisk::of_results(), &path, &weights, &metadata?)?);
        Piece { path: self.directory.model(), write: Box::new(write) }
    }

    /// Says how the run ended, beyond what the summary says, and what of it is not kept.
    pub fn explain(&self, failures: &[String], results: &Results) {
        match self.outcome {
            Outcome::Done | Outcome::Interrupted { .. } => {}
            Outcome::Diverged { step } => tracing::error!("{}", self.divergence(step, failures, results)),
            Outcome::NotJoined { .. } | Outcome::LostWorkers { .. } | Outcome::NoProgress { .. } => {
                self.mourn(results)
            }
            Outcome::Superseded { .. } | Outcome::Contradicted { .. } => {
                tracing::error!("{}, after {} steps of the run", self.outcome, results.steps);
            }
        }
        let directory = self.directory.path().display();
        if !failures.is_empty() {
            tracing::error!(
                "what this run found out is not all kept: {}; once the disk is well, `coordinator --resume {directory}` \
                 writes it again",
                failures.join("; ")
            );
        } else if self.begun
            && let Outcome::Interrupted { .. } = self.outcome
        {
            tracing::info!("go on with `coordinator --resume {directory}`");
        }
    }

    /// Whether the directory is this process' to write to.
    pub fn belongs_here(&self) -> bool {
        self.begun && !matches!(self.outcome, Outcome::Superseded { .. } | Outcome::Contradicted { .. })
    }

    fn divergence(&self, step: u64, failures: &[String], results: &Results) -> String {
        let rate = self.settings.learning_rate.get();
        // An evaluation comes after its step, a step that diverged is none of the run's.
        let evaluated = results.steps >= step;
        let what = if evaluated {
            format!(
                "training diverged by step {step}: the weights after it are finite, but so large that the loss of their \
                 evaluation is not, at learning rate {rate:?}"
            )
        } else {
            format!(
                "training diverged in step {step}: loss or weights are no longer finite at learning rate {rate:?}"
            )
        };
        let remedy = match (step, &self.identity.initial_weights) {
            // Before the first update no learning rate is at fault.
            (1, Some(_)) if !evaluated => "name other weights with --init",
            _ => "lower --learning-rate",
        };
        let mut sentence = format!("{what}; {remedy}");
        if failures.is_empty() {
            sentence.push_str(&format!(
                " (the last finite weights, after step {}, are in {})",
                results.steps,
                self.directory.model().display()
            ));
        }
        sentence
    }

    /// Says how the workers ended.
    fn mourn(&self, results: &Results) {
        tracing::error!("{}, after {} steps", self.outcome, results.steps);
        for exit in &results.exits {
            tracing::error!("{exit}");
        }
        if !self.begun {
            return tracing::error!(
                "no worker could be started: the run has not begun, and leaves nothing behind"
            );
        }
        tracing::error!(
            "the workers' output is in {}; go on with `coordinator --resume {}`",
            self.directory.logs().display(),
            self.directory.path().display()
        );
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
            log_ends_early: results.log_ends_early.clone(),
        }
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
