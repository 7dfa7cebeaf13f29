//! The results of a run that ended: its model, its summary, and the sentences about its end.

use std::path::Path;

use anyhow::{Context, Result};
use lockstep_checkpoint::write_atomically_on;
use lockstep_command_line::exit::{EXIT_DONE, EXIT_FAILED, EXIT_WORKERS_LOST};
use lockstep_command_line::exit_code;
use lockstep_command_line::output;
use lockstep_control::Outcome;
use lockstep_proto::RunId;
use lockstep_records::{SchemaVersion, Status, Summary};
use lockstep_run_directory::RunDirectory;
use lockstep_run_directory::identity::RunIdentity;
use lockstep_run_directory::model_file;

use super::ResultFile;
use crate::crashing_disk::CrashingDisk;
use crate::observe::RunTotals;
use crate::settings::Settings;
use crate::trainer::Trainer;

/// A run that ended, and all that its results say besides its totals.
pub(crate) struct EndedRun<'a> {
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
    /// The control plane's word on its end.
    pub outcome: Outcome,
    /// A worker was started, or could join. Otherwise nothing is kept of the start.
    pub begun: bool,
}

/// What there is to write and to print at the end.
pub(super) struct Results {
    /// Absent where there is nothing to sum up.
    pub summary: Option<Summary>,
    /// The files to keep, in the order in which they are written.
    pub files: Vec<ResultFile>,
    /// The exit code, if all of it is kept.
    pub code: u8,
}

/// A summary as text or as JSON, as the settings say.
pub(crate) fn summary_text(settings: &Settings, summary: &Summary) -> String {
    if settings.json { format!("{}\n", summary.to_json()) } else { summary.to_text() }
}

/// Prints a summary.
///
/// # Errors
///
/// If standard output cannot be written, unless its reader has closed it.
pub(crate) fn print(text: &str) -> Result<()> {
    output::write(text.as_bytes()).context("cannot write the summary to standard output")
}

impl EndedRun<'_> {
    /// What there is to write and to print; nothing is written yet.
    pub(super) fn results(&self, trainer: &Trainer, totals: &RunTotals) -> Results {
        let (status, code) = match self.outcome {
            Outcome::Done => (Status::Done, EXIT_DONE),
            Outcome::Diverged { .. } => (Status::Diverged, EXIT_FAILED),
            Outcome::Interrupted { signal } => (Status::Interrupted, exit_code(signal)),
            Outcome::NotJoined { .. } | Outcome::LostWorkers { .. } | Outcome::NoProgress { .. } => {
                let files = self.begun.then(|| self.model(trainer));
                return Results {
                    summary: None,
                    files: files.into_iter().collect(),
                    code: EXIT_WORKERS_LOST,
                };
            }
            // What is in the directory is the other coordinator's, or contradicts itself: nothing is added to it.
            Outcome::Superseded { .. } | Outcome::Contradicted { .. } => {
                return Results { summary: None, files: Vec::new(), code: EXIT_FAILED };
            }
        };
        let summary = self.summary(status, trainer, totals);
        let (path, json) = (self.directory.summary(), format!("{}\n", summary.to_json()));
        let write = move || Ok(write_atomically_on(&CrashingDisk::of_results(), &path, json.as_bytes())?);
        let file = ResultFile { path: self.directory.summary(), write: Box::new(write) };
        // The model first: a run with a summary is finished, and has its model.
        let files = if self.begun { vec![self.model(trainer), file] } else { Vec::new() };
        Results { summary: Some(summary), files, code }
    }

    fn model(&self, trainer: &Trainer) -> ResultFile {
        let metadata = serde_json::to_string(self.identity).context("the identity as JSON");
        let (path, weights) = (self.directory.model(), trainer.weights().to_vec());
        let write =
            move || Ok(model_file::write_on(&CrashingDisk::of_results(), &path, &weights, &metadata?)?);
        ResultFile { path: self.directory.model(), write: Box::new(write) }
    }

    /// Logs how the run ended, beyond what the summary says, and what of it is not kept.
    pub(super) fn explain(&self, failures: &[String], totals: &RunTotals) {
        match self.outcome {
            Outcome::Done | Outcome::Interrupted { .. } => {}
            Outcome::Diverged { step } => tracing::error!("{}", self.divergence(step, failures, totals)),
            Outcome::NotJoined { .. } | Outcome::LostWorkers { .. } | Outcome::NoProgress { .. } => {
                self.log_lost_workers(totals)
            }
            Outcome::Superseded { .. } | Outcome::Contradicted { .. } => {
                tracing::error!("{}, after {} steps of the run", self.outcome, totals.steps);
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

    /// Whether this process may still write to the directory.
    pub(super) fn may_write(&self) -> bool {
        self.begun && !matches!(self.outcome, Outcome::Superseded { .. } | Outcome::Contradicted { .. })
    }

    fn divergence(&self, step: u64, failures: &[String], totals: &RunTotals) -> String {
        let rate = self.settings.learning_rate.get();
        // An evaluation comes after its step, a step that diverged is none of the run's.
        let evaluated = totals.steps >= step;
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
                totals.steps,
                self.directory.model().display()
            ));
        }
        sentence
    }

    /// Logs how the workers ended.
    fn log_lost_workers(&self, totals: &RunTotals) {
        tracing::error!("{}, after {} steps", self.outcome, totals.steps);
        for exit in &totals.exits {
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

    fn summary(&self, status: Status, trainer: &Trainer, totals: &RunTotals) -> Summary {
        let Self { settings, identity, .. } = self;
        let rate = totals.examples as f64 / totals.train_seconds;
        Summary {
            schema_version: SchemaVersion,
            run_id: self.run_id.to_string(),
            status,
            weights_digest: trainer.digest().to_string(),
            test_loss: totals.test.map(|(means, _)| means.loss),
            test_accuracy: totals.test.map(|(means, _)| means.accuracy),
            val_loss: totals.validation.map(|means| means.loss),
            val_accuracy: totals.validation.map(|means| means.accuracy),
            epochs: totals.epochs,
            steps: totals.steps,
            examples: totals.examples,
            train_seconds: totals.train_seconds,
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
            confusion_matrix: totals
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
            faults: totals.faults,
            log_ends_early: totals.log_ends_early.clone(),
        }
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
