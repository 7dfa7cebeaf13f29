//! `coordinator show`: the page of a run from its files, finished or not, until Ctrl-C.
//!
//! It only reads, and may run beside the coordinator that trains: then it shows what is written by now.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use axum::Router;
use clap::Args;
use lockstep_checkpoint::{Disk, History, LogHeader};
use lockstep_command_line::Signals;
use lockstep_command_line::exit::{EXIT_DONE, sentence};
use lockstep_command_line::runtime;
use lockstep_dashboard::{Dashboard, Digits, Facts, RunFiles};
use lockstep_dataset::{Dataset, validation_examples};
use lockstep_model::into_le_bytes;
use lockstep_proto::RunId;
use lockstep_records::{EvaluationKind, EvaluationRecord, Summary};
use lockstep_run_directory::newest_weights::Latest;
use lockstep_run_directory::stored_run::StoredRun;
use lockstep_run_directory::workers_file;
use lockstep_telemetry::{Sink, Terminal};

use crate::batches;
use crate::commands::settings_of;
use crate::settings::{HostName, Settings, address};
use crate::start::dataset;
use crate::start::initial_weights::Initial;

/// Which run to show, and where.
#[derive(Args)]
pub struct Arguments {
    /// Folder of the run
    #[arg(value_name = "RUN_DIR")]
    pub run_dir: PathBuf,
    /// Where the page is served; port 0 takes a free one
    #[arg(long, env = "LOCKSTEP_DASHBOARD", value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    #[arg(value_parser = address::parse)]
    pub dashboard: SocketAddr,
    /// A name of yours by which a browser or proxy asks for the page; several with commas
    #[arg(long, env = "LOCKSTEP_DASHBOARD_HOST", value_name = "NAME", value_delimiter = ',')]
    pub dashboard_host: Vec<HostName>,
    /// Allow --dashboard on an address that other machines reach
    #[arg(long, env = "LOCKSTEP_INSECURE")]
    pub insecure: bool,
    /// Folder of the data, for the test digits [default: where the run had them]
    #[arg(long, env = "LOCKSTEP_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Serves the page of a run until Ctrl-C; returns the exit code.
///
/// # Errors
///
/// If the run cannot be read or the address cannot be had.
pub fn run(arguments: &Arguments, terminal: &Terminal) -> Result<u8> {
    let Arguments { run_dir, dashboard, dashboard_host, insecure, data_dir } = arguments;
    Settings::check_dashboard(*dashboard, *insecure)?;
    let run = StoredRun::open(run_dir)?;
    let directory = &run.directory;
    let mut settings = settings_of(&run)?;
    settings.offline = true;
    settings.data_dir = data_dir.clone().or(settings.data_dir);
    let dashboard = Dashboard::start(*dashboard, dashboard_host.clone(), Router::new())?;
    let mut history = dashboard.history();
    history
        .restore(&[directory.metrics(), directory.events()], &RunId(run.stored.run_id).to_string())
        .with_context(|| format!("cannot read the records in {}", run_dir.display()))?;
    let steps = history.newest_step();
    if let Some(workers) = workers_file::read(directory, RunId(run.stored.run_id), steps) {
        history.workers(&workers);
    }
    let initial = Initial::find(&settings).map(|initial| initial.weights);
    let Latest { summary, weights } = Latest::read(directory, &run.stored.run_id, steps)?;
    match (weights, &initial) {
        (Ok(stored), _) => history.weights(stored.step.unwrap_or(steps), &into_le_bytes(stored.values)),
        // A run that has just begun.
        (Err(_), Ok(initial)) if steps == 0 && summary.is_none() => {
            history.weights(0, &into_le_bytes(initial.clone()));
        }
        (Err(flaw), _) => tracing::warn!("the page cannot look into the network: {flaw}"),
    }
    if let Some(test) = summary.as_ref().and_then(test_of) {
        history.evaluation(&test);
    }
    match gaps(&run, summary.as_ref()) {
        Ok(gaps) => history.log_says(&gaps),
        Err(error) => tracing::warn!("the page cannot show which steps have no record: {}", sentence(&error)),
    }
    let mut facts = facts(&run, &settings);
    // A run of an earlier version has it in its summary alone.
    facts.dataset_fallback |= summary.as_ref().is_some_and(|summary| summary.dataset_fallback);
    let digits = match data_of(&settings, terminal) {
        Ok(dataset) => {
            facts.test_examples = dataset.test.len() as u32;
            Some(Digits::of(&dataset.test))
        }
        Err(error) => {
            let flaw = format!("the page has no test digits: {}", sentence(&error));
            tracing::warn!("{flaw}");
            facts.no_digits = Some(flaw);
            None
        }
    };
    if let Err(error) = &initial {
        tracing::warn!("the page cannot show how the filters began: {}", sentence(error));
    }
    dashboard.prepare(facts, RunFiles::found(directory), digits, initial.ok());
    dashboard.stay(history.end_of_files(summary.as_ref()));

    let runtime = runtime::on_this_thread()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        terminal.print_line(&format!("dashboard {}", dashboard.url()));
        terminal.print_line(&format!("shows the run in {} until Ctrl-C", run_dir.display()));
        anyhow::Ok(signals.next().await)
    })?;
    dashboard.leave();
    Ok(EXIT_DONE)
}

fn facts(run: &StoredRun, settings: &Settings) -> Facts {
    let identity = &run.stored.identity;
    let all = u32::try_from(identity.examples).unwrap_or(u32::MAX);
    let train_examples = all - validation_examples(all as usize, identity.validation_split) as u32;
    let max_steps = settings.max_steps.map(NonZeroU64::get);
    let (steps_per_epoch, steps) =
        batches::steps(train_examples, identity.batch_size, settings.epochs.get(), max_steps);
    let facts = Facts {
        run_id: RunId(run.stored.run_id).to_string(),
        directory: run.directory.path().display().to_string(),
        dataset: identity.dataset.clone(),
        epochs: settings.epochs.get(),
        steps,
        steps_per_epoch,
        train_examples,
        from_files: true,
        ..Facts::default()
    };
    facts.with_configuration(&run.configuration)
}

/// The steps that the run's log has no record of. At its end they are missing only if the run is over.
///
/// # Errors
///
/// If the log cannot be read.
fn gaps(run: &StoredRun, summary: Option<&Summary>) -> Result<Vec<RangeInclusive<u64>>> {
    let StoredRun { directory, stored, .. } = run;
    let header = LogHeader::new(stored.run_id, &serde_json::to_string(&stored.identity)?);
    let history = History::read(Arc::new(Disk), &directory.steps_log(), &header)?;
    let mut gaps = history.gaps().to_vec();
    if let Some(summary) = summary.filter(|summary| summary.steps > history.last_step()) {
        gaps.push(history.last_step() + 1..=summary.steps);
    }
    Ok(gaps)
}

/// The data of a run that has been, if they are those of then.
///
/// # Errors
///
/// If they cannot be had, or are others.
pub(crate) fn data_of(settings: &Settings, terminal: &Terminal) -> Result<Dataset> {
    const REMEDY: &str = "name the folder of the run's data with --data-dir";
    let dataset =
        dataset::load(settings, terminal).map_err(|error| anyhow!("{}; {REMEDY}", sentence(&error)))?;
    let Some(resume) = &settings.resume else { return Ok(dataset) };
    let identity = dataset::identity(settings, &dataset, &Initial::find(settings)?);
    if let Some((key, stored, now)) = resume.stored.identity.difference(&identity) {
        bail!(
            "the run's {key} is {stored}, and here it is {now}; {REMEDY}, or use the program that trained it"
        );
    }
    Ok(dataset)
}

fn test_of(summary: &Summary) -> Option<EvaluationRecord> {
    Some(EvaluationRecord {
        of: EvaluationKind::Test,
        step: summary.steps,
        // In a summary a loss that is not finite is absent, and the accuracy is not.
        loss: summary.test_loss.unwrap_or(f32::NAN),
        accuracy: summary.test_accuracy?,
        confusion: summary.confusion_matrix.as_ref()?.concat(),
    })
}
