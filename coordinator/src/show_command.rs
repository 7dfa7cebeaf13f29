//! `coordinator show`: the page of a run from its files, finished or not, until Ctrl-C.
//!
//! It only reads, and may run beside the coordinator that trains: then it shows what is written by now.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use axum::Router;
use lockstep_dataset::Dataset;
use lockstep_model::into_le_bytes;
use lockstep_proto::RunId;
use lockstep_telemetry::{EvaluationKind, EvaluationRecord, Sink, Summary, Terminal};

use crate::batches::Batches;
use crate::cli::EXIT_DONE;
use crate::dashboard::{Dashboard, Digits, Ended, Facts, RunFiles, restore};
use crate::initial::Initial;
use crate::latest::Latest;
use crate::run::Signals;
use crate::run_directory::RunDirectory;
use crate::settings::Settings;
use crate::train;
use crate::verify_command::settings_of;
use crate::workers_file;

/// Serves the page of the run in `run_dir` on `address`; the data, for its test digits, are looked for in `data_dir`,
/// else where the run had them. Returns the exit code.
///
/// # Errors
///
/// If the run cannot be read or the address cannot be had.
pub fn show(
    run_dir: &Path,
    address: SocketAddr,
    data_dir: Option<PathBuf>,
    terminal: &Terminal,
) -> Result<u8> {
    let mut settings = settings_of(run_dir)?;
    settings.offline = true;
    settings.data_dir = data_dir.or(settings.data_dir);
    let directory = RunDirectory::open(run_dir)?;
    let dashboard = Dashboard::start(address, Router::new())?;
    let mut shared = dashboard.shared();
    restore(&mut shared, &directory.metrics(), &directory.events())
        .with_context(|| format!("cannot read the records in {}", run_dir.display()))?;
    let run_id = settings.resume.as_ref().map(|resume| resume.stored.run_id).unwrap_or_default();
    if let Some(workers) = workers_file::read(&directory, RunId(run_id), shared.newest_step()) {
        shared.workers(&workers);
    }
    let Latest { summary, weights } = Latest::read(&directory, &run_id, shared.newest_step())?;
    let (step, weights) = match weights {
        Some(latest) => latest,
        None => (0, Initial::find(&settings)?.weights),
    };
    shared.weights(step, &into_le_bytes(weights));
    if let Some(test) = summary.as_ref().and_then(test_of) {
        shared.evaluation(&test);
    }
    let (facts, digits) = with_data(facts(&directory, &settings)?, &settings, terminal);
    // However many workers there were, and have logs.
    dashboard.prepare(facts, RunFiles::of(&directory, settings.workers.get()), digits, settings.seed);
    dashboard.stay(summary.as_ref().map_or_else(Ended::unfinished, Ended::of_summary));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        terminal.print_line(&format!("dashboard {}", dashboard.url()));
        terminal.print_line(&format!("shows the run in {} until Ctrl-C", run_dir.display()));
        anyhow::Ok(signals.next().await)
    })?;
    dashboard.leave();
    Ok(EXIT_DONE)
}

fn facts(directory: &RunDirectory, settings: &Settings) -> Result<Facts> {
    let path = directory.config();
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let stored = settings.resume.as_ref().map(|resume| &resume.stored);
    let facts = Facts {
        run_id: stored.map(|stored| RunId(stored.run_id).to_string()).unwrap_or_default(),
        directory: directory.path().display().to_string(),
        dataset: stored.map(|stored| stored.identity.dataset.clone()).unwrap_or_default(),
        epochs: settings.epochs.get(),
        micro_shards: settings.micro_shards.get(),
        from_files: true,
        ..Facts::default()
    };
    Ok(facts.with_configuration(&text))
}

/// With the data of the run there are test digits, and it is known how many steps were planned.
fn with_data(facts: Facts, settings: &Settings, terminal: &Terminal) -> (Facts, Option<Digits>) {
    let dataset = match data_of(settings, terminal) {
        Ok(dataset) => dataset,
        Err(error) => {
            tracing::warn!(
                "the page has no test digits: {error:#}; name the folder of the data with --data-dir"
            );
            return (facts, None);
        }
    };
    let digits = Digits::of(&dataset.test);
    let (batch_size, micro_shards) = (settings.batch_size.get(), settings.micro_shards.get());
    let batches =
        Batches::new(dataset, settings.seed, batch_size, micro_shards, settings.validation_split.get());
    let plan = batches.plan(settings.epochs.get(), settings.max_steps.map(|steps| steps.get()));
    (facts.with_data(&batches, &plan), Some(digits))
}

/// The data of a run that has been, if they are those of then.
///
/// # Errors
///
/// If they cannot be had, or are others.
pub(crate) fn data_of(settings: &Settings, terminal: &Terminal) -> Result<Dataset> {
    let dataset = train::load(settings, terminal)?;
    if let Some(resume) = &settings.resume {
        resume.stored.check(&train::identity(settings, &dataset, &Initial::find(settings)?))?;
    }
    Ok(dataset)
}

fn test_of(summary: &Summary) -> Option<EvaluationRecord> {
    Some(EvaluationRecord {
        of: EvaluationKind::Test,
        step: summary.steps,
        loss: summary.test_loss?,
        accuracy: summary.test_accuracy?,
        confusion: summary.confusion_matrix.as_ref()?.concat(),
    })
}
