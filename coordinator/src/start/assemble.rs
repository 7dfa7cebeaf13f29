//! Puts a run together from its settings, its directory and its inputs, up to the moment when workers may come.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lockstep_control::{ControlSettings, TaskOrder, heartbeat};
use lockstep_dashboard::{Dashboard, Digits, RunFiles};
use lockstep_dataset::Examples;
use lockstep_proto::Fence;
use lockstep_run_directory::identity::RunIdentity;
use lockstep_telemetry::{Recorder, Terminal};
use tokio::sync::mpsc;

use super::open_run::{OpenRun, ResumePoint};
use super::page::{self, PageContents};
use super::sinks::Sinks;
use super::workers::{WorkerService, warn_of_spares};
use super::{Inputs, page::Page};
use crate::batches::Batches;
use crate::journal::{JournalThread, SideFile};
use crate::observe::weight_norms::WeightProbe;
use crate::observe::{Observers, RunTotals};
use crate::run::Run;
use crate::settings::Settings;
use crate::trainer::Trainer;
use crate::transport::service::Incoming;

/// Local workers start within a moment; one that hangs there is not waited for longer.
const LOCAL_JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A run that waits for its workers.
pub(crate) struct ReadyRun {
    /// The run.
    pub run: Run,
    /// What its workers send.
    pub incoming: mpsc::Receiver<Incoming>,
    /// Where they join.
    pub service: WorkerService,
    /// Its live page, if it has one.
    pub dashboard: Option<Dashboard>,
    /// The first test digits, for pictures.
    pub digits: Examples,
    /// The term of this process.
    pub term: u64,
}

/// The settings of a start, for its parts.
struct Start<'a> {
    settings: &'a Settings,
    terminal: &'a Terminal,
    open: &'a OpenRun,
    identity: &'a RunIdentity,
    /// When the coordinator started.
    at: Instant,
}

impl ReadyRun {
    /// Opens sinks and journal, shows the page, and serves workers; `at` is when the coordinator started.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written, or the system refuses a thread.
    pub fn assemble(
        settings: &Settings,
        terminal: &Terminal,
        open: &OpenRun,
        inputs: Inputs,
        at: Instant,
    ) -> Result<Self> {
        let Inputs { page, listener, initial, dataset, identity, .. } = inputs;
        let start = Start { settings, terminal, open, identity: &identity, at };
        let (digits, fallback) = (dataset.test.sample(), dataset.fallback.is_some());
        let page_digits = page.as_ref().map(|_| Digits::of(&dataset.test));
        let batches = Batches::new(
            dataset,
            settings.seed,
            settings.batch_size.get(),
            settings.micro_shards.get(),
            settings.validation_split.get(),
        );
        let tasks = batches.task_order(settings.epochs.get(), settings.max_steps.map(|steps| steps.get()));
        start.announce(page.as_ref(), &batches);
        if settings.resume.is_some() && settings.init.is_some() {
            // They are the right ones; the copy may have been lost.
            initial.keep(&open.directory)?;
        }
        let page_digits = page_digits.map(|digits| (digits, initial.weights.clone()));
        let point = open.resume_point(settings, &identity, &tasks, initial.weights)?;
        let Sinks { mut recorder, files } = Sinks::open(settings, terminal, open, &point, &tasks, at)?;
        let dashboard = page.zip(page_digits).map(|(page, (digits, first_weights))| {
            let facts = page::facts(settings, &identity, open, &batches, &tasks, fallback);
            let files = start.served_files();
            let contents = PageContents { facts, files, digits, first_weights };
            page.follow(settings, open, contents, &page::run_facts(open, &point, &tasks), &mut recorder)
        });
        let control = start.control(tasks, &point);
        let fence = Fence { run_id: open.run_id, term: point.term };
        let (token, deadline) = (open.token(settings)?, settings.deadline);
        let (service, incoming) =
            WorkerService::start(listener, fence, token, deadline, heartbeat(deadline))?;
        let ResumePoint { journal, term, weights, totals, .. } = point;
        let journal = start.journal(journal, term, files, &mut recorder)?;
        let observers = start.observers(tasks, recorder, totals, &journal, digits.clone())?;
        let trainer = Trainer::new(&weights, settings.learning_rate.get());
        let run = Run::new(at, fence, control, batches, trainer, journal, observers);
        Ok(Self { run, incoming, service, dashboard, digits, term })
    }
}

impl Start<'_> {
    /// Prints where the page is and what will be trained on. An error that keeps the run from starting has come before:
    /// it is the only line then.
    fn announce(&self, page: Option<&Page>, batches: &Batches) {
        warn_of_spares(self.settings);
        if let Some(page) = page {
            self.terminal.print_line(&format!("dashboard {}", page.url()));
        }
        self.terminal.print_line(&format!(
            "training on {} {} examples in batches of {}, validating on {}, testing on {}; everything is written to {}",
            batches.train_examples(),
            self.identity.dataset,
            self.settings.batch_size,
            batches.validation_examples(),
            batches.test_examples(),
            self.open.directory.path().display()
        ));
    }

    fn served_files(&self) -> RunFiles {
        let local = if self.settings.external { 0 } else { self.settings.workers.get() };
        RunFiles::of(&self.open.directory, local)
    }

    fn control(&self, tasks: TaskOrder, point: &ResumePoint) -> ControlSettings {
        let Self { settings, .. } = self;
        ControlSettings {
            tasks,
            done: point.done,
            expected_workers: settings.workers.get(),
            local: !settings.external,
            join_timeout: (!settings.external).then_some(LOCAL_JOIN_TIMEOUT),
            patience: settings.patience,
            deadline: settings.deadline,
            checkpoint_every: settings.checkpoint_every,
        }
    }

    /// Starts the journal's thread, which takes the records for `files` as well.
    fn journal(
        &self,
        journal: lockstep_checkpoint::Journal,
        term: u64,
        files: Recorder,
        recorder: &mut Recorder,
    ) -> Result<JournalThread> {
        let identity = serde_json::to_value(self.identity).context("the identity as JSON")?;
        let has_files = !files.is_empty();
        let journal =
            JournalThread::start(journal, term, identity, files).context("cannot start the journal")?;
        if has_files {
            recorder.add(journal.sink());
        }
        Ok(journal)
    }

    /// The observers, with a timeline and a probe of the weights if the settings ask for them.
    fn observers(
        &self,
        tasks: TaskOrder,
        recorder: Recorder,
        totals: RunTotals,
        journal: &JournalThread,
        digits: Examples,
    ) -> Result<Observers> {
        let Self { settings, .. } = self;
        let mut observers = Observers::new(self.at, tasks, recorder, totals);
        if let Some(path) = &settings.timeline {
            let file = SideFile::create("timeline", path);
            let file = file.with_context(|| format!("cannot create the timeline {}", path.display()))?;
            observers.time_steps(path, journal.side_file(file), settings.timeline_every.get());
        }
        if settings.tensorboard {
            let probe = WeightProbe::start(&tasks, settings.learning_rate.get(), digits);
            observers.probe_weights(probe.context("cannot start the thread that measures the weights")?);
        }
        settings.timeline.iter().for_each(|path| self.open.created.add(path));
        Ok(observers)
    }
}
