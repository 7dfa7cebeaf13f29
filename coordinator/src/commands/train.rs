//! A training run from its settings to its report: everything around the loop, in the order that loses nothing.
//!
//! What may fail for the user's sake (address, data, run directory) comes first and leaves nothing behind.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use lockstep_control::{Plan, Signal};
use lockstep_dataset::{Choice, Dataset, Examples, Source, validation_examples};
use lockstep_model::{Cpu, Digest, NUMERICS_VERSION};
use lockstep_proto::{Fence, Token};
use lockstep_telemetry::{
    ConsoleSink, EventsSink, MetricsSink, PrometheusSink, Readiness, Recorder, RunFacts, Session,
    TensorBoardSink, Terminal, TracingSink,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::server::TcpIncoming;

use crate::batches::Batches;
use crate::cli::EXIT_DONE;
use crate::dashboard::metrics_routes::{self, MetricsState};
use crate::dashboard::{Dashboard, DashboardError, Digits, Facts, RunFiles, restore};
use crate::finish::Remains;
use crate::finish::report::{self, Report};
use crate::journal::{Journal, SideFile};
use crate::local_workers::socket::LocalSocket;
use crate::local_workers::{LocalWorkers, Recipe};
use crate::observe::weight_norms::{self, Gauge};
use crate::run::{Run, Signals, exit_code};
use crate::run_directory::RunDirectory;
use crate::run_directory::path_error;
use crate::run_directory::user_file;
use crate::runtime;
use crate::settings::{DatasetChoice, HostName, RunIdentity, Settings, SettingsError};
use crate::start::initial_weights::Initial;
use crate::start::open_run::{Place, Standing};
use crate::trainer::Trainer;
use crate::transport::server::serve;
use crate::transport::service::{Incoming, MAX_QUEUED_INCOMING, Pulse, Service};

/// Local workers start within a moment; one that hangs there is not waited for longer.
const LOCAL_JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A worker gives a silent coordinator so many deadlines: it has nowhere else to go.
const WORKER_DEADLINES: u32 = 5;

/// Trains as the settings say and reports on standard output; returns the exit code.
///
/// # Errors
///
/// Whatever keeps the run from starting or its results from being written.
pub fn train(settings: &Settings, terminal: &Terminal) -> Result<u8> {
    let start = Instant::now();
    raise_descriptor_limit();
    lockstep_failpoints::crash::arm("coordinator");
    let runtime = runtime::on_this_thread()?;
    let code = runtime.block_on(train_on(settings, terminal, start));
    runtime.shutdown_background();
    code
}

/// A worker takes up to three descriptors here, and the usual limit of 1,024 is far below the usual maximum.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("the limit of descriptors stays as it is: {error}");
    }
}

async fn train_on(settings: &Settings, terminal: &Terminal, start: Instant) -> Result<u8> {
    let resumed = settings.resume.as_ref().map(Place::resume).transpose()?;
    if let Some(summary) = resumed.as_ref().map(|place| place.finished(settings)).transpose()?.flatten() {
        terminal.detach();
        return report::print(&report::shown(settings, &summary)).map(|()| EXIT_DONE);
    }
    let page =
        settings.dashboard.map(|address| Page::start(address, &settings.dashboard_hosts)).transpose()?;
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address with --listen", settings.listen)
    })?;
    settings.timeline.as_deref().map(refuse_timeline).transpose()?;
    let socket = (!settings.external).then(LocalSocket::bind).transpose();
    let socket = socket.context("cannot listen for local workers")?;
    let initial = Initial::find(settings)?;
    let dataset = load(settings, terminal)?;
    let identity = identity(settings, &dataset, &initial);
    let fallback = dataset.fallback.clone();
    if let (Some(reason), Some(_)) = (&fallback, &settings.resume) {
        tracing::warn!("TRAINING ON GENERATED DIGITS, NOT ON MNIST, as this run began: {reason}");
    }
    if let Some(resume) = &settings.resume {
        resume.stored.check(&identity)?;
    }
    // From here on there is something to leave in order; before, the system's default is the faster end.
    let mut signals = Signals::new()?;
    let place = match resumed {
        Some(place) => place,
        None => Place::new(settings, &identity, fallback.clone(), &initial)?,
    };
    let Place { directory, run_id, .. } = &place;

    let sample = weight_norms::sample(&dataset.test);
    let shown = sample.clone();
    let digits = page.as_ref().map(|_| Digits::of(&dataset.test));
    let batches = Batches::new(
        dataset,
        settings.seed,
        settings.batch_size.get(),
        settings.micro_shards.get(),
        settings.validation_split.get(),
    );
    let plan = batches.plan(settings.epochs.get(), settings.max_steps.map(|steps| steps.get()));
    warn_of_spares(settings);
    // First of all, but not before an error that keeps the run from starting: that is one line.
    if let Some(page) = &page {
        terminal.print_line(&format!("dashboard {}", page.dashboard.url()));
    }
    terminal.print_line(&format!(
        "training on {} {} examples in batches of {}, validating on {}, testing on {}; everything is written to {}",
        batches.train_examples(),
        identity.dataset,
        settings.batch_size,
        batches.validation_examples(),
        batches.test_examples(),
        directory.path().display()
    ));
    if settings.resume.is_some() && settings.init.is_some() {
        // They are the right ones; the copy may have been lost.
        initial.keep(directory)?;
    }
    let first_weights = page.as_ref().map(|_| initial.weights.clone());
    let standing = place.standing(settings, &identity, &plan, initial.weights)?;
    let (mut recorder, files) = recorders(settings, terminal, &place, &standing, &plan, start)?;
    let dashboard = page.map(|page| {
        let facts = facts(settings, &identity, &place).with_data(&batches, &plan);
        let facts = Facts { dataset_fallback: fallback.is_some(), ..facts };
        let local = if settings.external { 0 } else { settings.workers.get() };
        let files = RunFiles::of(directory, local);
        page.dashboard.prepare(facts, files, digits, first_weights);
        page.follow(settings, &place, run_facts(&place, &standing, &plan), &mut recorder)
    });
    let control = lockstep_control::Settings {
        plan,
        done: standing.done,
        expected_workers: settings.workers.get(),
        local: !settings.external,
        join_timeout: (!settings.external).then_some(LOCAL_JOIN_TIMEOUT),
        patience: settings.patience,
        deadline: settings.deadline,
        checkpoint_every: settings.checkpoint_every,
    };

    let fence = Fence { run_id: *run_id, term: standing.term };
    let (sender, mut incoming) = mpsc::channel(MAX_QUEUED_INCOMING);
    let token = place.token(settings)?;
    let address = listener.local_addr()?;
    let pulse = Pulse { heartbeat: control.heartbeat(), silence: settings.deadline * WORKER_DEADLINES };
    let join_test = lockstep_model::join_test(Cpu::detect());
    let service = Arc::new(Service::new(fence, token.clone(), join_test, pulse, sender.clone()));
    serve(TcpIncoming::from(listener).with_nodelay(Some(true)), Arc::clone(&service));
    let Standing { journal, term, weights, results, .. } = standing;
    let identity_json = serde_json::to_value(&identity).context("the identity as JSON")?;
    let records = !files.is_empty();
    let journal = Journal::start(journal, term, identity_json, files).context("cannot start the journal")?;
    if records {
        recorder.add(journal.sink());
    }
    let trainer = Trainer::new(&weights, settings.learning_rate.get());
    let mut run = Run::new(start, fence, control, batches, trainer, recorder, journal, results);
    measure(&mut run, settings, &plan, sample, start)?;
    settings.timeline.iter().for_each(|path| place.created.add(path));
    if settings.resume.is_some() {
        place.write_config(settings, &identity)?;
    }
    // Whoever was told to end by now has not begun anything, and leaves nothing.
    if let Some(signal) = come(&mut signals).await {
        return Ok(exit_code(signal));
    }
    if settings.resume.is_some() {
        place.discard_report();
    }
    let begun = place.created.when_kept();
    let local = match socket {
        Some(socket) => {
            let begun = Arc::clone(&begun);
            Some(start_local_workers(settings, socket, service, token, directory, begun, &sender))
        }
        None => {
            invite(settings, address, &token, terminal);
            place.created.keep();
            None
        }
    };
    let outcome = run.drive(&mut incoming, &mut signals).await;
    let fallback = fallback.is_some();
    let begun = begun.load(Ordering::Relaxed);
    let report =
        Report { settings, identity: &identity, fallback, run_id: *run_id, term, directory, outcome, begun };
    Remains { run, incoming, local, signals, report, digits: shown, dashboard, terminal }.finish().await
}

/// The page, and what machines ask beside it.
struct Page {
    dashboard: Dashboard,
    prometheus: PrometheusSink,
    readiness: Readiness,
}

impl Page {
    fn start(address: SocketAddr, vouched: &[HostName]) -> Result<Self, DashboardError> {
        let (prometheus, exposition) = PrometheusSink::new();
        let readiness = Readiness::default();
        let routes = metrics_routes::router(MetricsState { exposition, readiness: readiness.clone() });
        Ok(Self { dashboard: Dashboard::start(address, vouched.to_vec(), routes)?, prometheus, readiness })
    }

    /// Has it told what the run's earlier processes have recorded, and from now on what this one does.
    fn follow(
        self,
        settings: &Settings,
        place: &Place,
        facts: RunFacts,
        recorder: &mut Recorder,
    ) -> Dashboard {
        let mut shared = self.dashboard.shared();
        if settings.resume.is_some()
            && let Err(error) = restore(&mut shared, &place.directory, place.run_id)
        {
            tracing::warn!("the dashboard has no records of the steps before: {error}");
        }
        recorder.add(shared);
        self.prometheus.describe(&facts);
        recorder.add(self.prometheus);
        recorder.add(self.readiness);
        self.dashboard
    }
}

fn start_local_workers(
    settings: &Settings,
    socket: LocalSocket,
    service: Arc<Service>,
    token: Token,
    directory: &RunDirectory,
    begun: Arc<AtomicBool>,
    sender: &mpsc::Sender<Incoming>,
) -> LocalWorkers {
    let url = socket.url();
    serve(socket.connections(), service);
    let recipe = Recipe {
        threads: settings.threads_per_worker.get(),
        url,
        token,
        logs: directory.logs(),
        max_restarts: settings.max_restarts,
        begun,
    };
    LocalWorkers::start(settings.workers.get(), recipe, sender)
}

/// Has some steps timed, and the weights measured now and then, as the settings say; `sample` are digits to show.
fn measure(run: &mut Run, settings: &Settings, plan: &Plan, sample: Examples, start: Instant) -> Result<()> {
    if let Some(path) = &settings.timeline {
        let file = SideFile::create("timeline", path);
        let file = file.with_context(|| format!("cannot create the timeline {}", path.display()))?;
        run.time(path, file, settings.timeline_every.get(), start);
    }
    if settings.tensorboard {
        let gauge = Gauge::start(plan, settings.learning_rate.get(), sample);
        run.measure(gauge.context("cannot start the thread that measures the weights")?);
    }
    Ok(())
}

/// What the dashboard shows of a run besides its data.
fn facts(settings: &Settings, identity: &RunIdentity, place: &Place) -> Facts {
    let facts = Facts {
        run_id: place.run_id.to_string(),
        directory: place.directory.path().display().to_string(),
        dataset: identity.dataset.clone(),
        epochs: settings.epochs.get(),
        ..Facts::default()
    };
    facts.with_configuration(&settings.to_toml(&place.stored(identity)))
}

/// The data set that the settings ask for.
///
/// # Errors
///
/// If it cannot be had, or does not fit the settings.
pub fn load(settings: &Settings, terminal: &Terminal) -> Result<Dataset> {
    let mut source = Source::new(match settings.dataset {
        DatasetChoice::Auto => Choice::Auto,
        DatasetChoice::Mnist => Choice::Mnist,
        DatasetChoice::Digits => Choice::Digits,
    });
    source.data_dir.clone_from(&settings.data_dir);
    source.offline = settings.offline;
    source.examples = settings.examples.map(|examples| examples.get() as usize);
    let mut display = crate::commands::data::DownloadDisplay::new(terminal);
    let loaded = lockstep_dataset::load(&source, &mut |progress| display.show(progress));
    let mut dataset = loaded.map_err(|error| match error {
        lockstep_dataset::Error::Examples { requested: examples, available, origin } => {
            SettingsError::TooManyExamples { examples, available, origin }.into()
        }
        other => anyhow::Error::from(other),
    })?;
    display.finish();
    if let Some(reason) = &dataset.fallback {
        tracing::warn!("TRAINING ON GENERATED DIGITS, NOT ON MNIST: {reason}");
    }
    for note in &dataset.notes {
        tracing::warn!("{note}");
    }
    if let Some(resume) = &settings.resume {
        // It has asked for digits ever since; nobody else has.
        dataset.fallback = dataset.fallback.or_else(|| resume.stored.fallback.clone());
    }
    let all = dataset.train.len();
    settings.check_against(all - validation_examples(all, settings.validation_split.get()))?;
    if dataset.test.is_empty() {
        bail!("the test set is empty; a run ends with an evaluation on it");
    }
    Ok(dataset)
}

/// What decides the bits of a run with these settings on this data, from these weights.
pub fn identity(settings: &Settings, dataset: &Dataset, initial: &Initial) -> RunIdentity {
    RunIdentity {
        seed: settings.seed,
        dataset: dataset.kind.to_string(),
        dataset_sha256: Digest(dataset.digest).to_string(),
        examples: dataset.train.len() as u64,
        validation_split: settings.validation_split.get(),
        batch_size: settings.batch_size.get(),
        micro_shards: settings.micro_shards.get(),
        learning_rate: settings.learning_rate.get(),
        numerics_version: NUMERICS_VERSION,
        initial_weights: initial.digest.map(|digest| digest.to_string()),
    }
}

/// A timeline is refused before anything is done for the run.
fn refuse_timeline(path: &Path) -> Result<()> {
    if user_file::is_standard_output(path) {
        bail!(
            "a timeline grows while the run goes on, and takes a new file of its own; name one with --timeline"
        );
    }
    if path.exists() {
        bail!("the timeline {} exists already and is never overwritten; name another file", path.display());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(Err(error)) = folder.map(|folder| folder.join(".").metadata()) {
        bail!("cannot create the timeline {}: {}", path.display(), path_error::reason(path, &error));
    }
    Ok(())
}

/// The operator's signal that has come already, if one has.
async fn come(signals: &mut Signals) -> Option<Signal> {
    tokio::select! {
        biased;
        signal = signals.next() => Some(signal),
        // The runtime looks at what the system has, once.
        () = tokio::task::yield_now() => None,
    }
}

fn warn_of_spares(settings: &Settings) {
    let (workers, shards) = (settings.workers.get(), settings.micro_shards.get());
    if workers > shards {
        tracing::warn!(
            "{} of {workers} workers are spares: a batch has {shards} micro-shards (raise --micro-shards, which \
             changes the run's bits)",
            workers - shards
        );
    }
}

/// Tells the operator how external workers join.
fn invite(settings: &Settings, address: SocketAddr, token: &Token, terminal: &Terminal) {
    let port = address.port();
    let address = if address.ip().is_unspecified() { format!("HOST:{port}") } else { address.to_string() };
    let (workers, each) = if settings.workers.get() == 1 { ("worker", "it") } else { ("workers", "each") };
    terminal.print_line(&format!(
        "waiting for {} {workers}; start {each} with\n  worker --coordinator http://{address} --token {}",
        settings.workers,
        if settings.token.is_some() { "…" } else { token.reveal() },
    ));
}

/// Who takes records: at once, and on the thread that writes files.
fn recorders(
    settings: &Settings,
    terminal: &Terminal,
    place: &Place,
    standing: &Standing,
    plan: &Plan,
    start: Instant,
) -> Result<(Recorder, Recorder)> {
    let (mut recorder, mut files) = (Recorder::default(), Recorder::default());
    let restored = standing.restored(plan);
    recorder.add(TracingSink);
    let (epochs, progress) = (settings.epochs.get(), settings.progress);
    let mut console = ConsoleSink::new(terminal.clone(), epochs, plan.steps_per_epoch, plan.steps, progress);
    if settings.metrics {
        let run_id = place.run_id.to_string();
        let (metrics, events) = (place.directory.metrics(), place.directory.events());
        if settings.resume.is_some() {
            let (metrics, epoch) = MetricsSink::resume(&metrics, &run_id, restored)?;
            console.resume(epoch);
            files.add(metrics);
            files.add(EventsSink::resume(&events, &run_id, restored)?);
        } else {
            files.add(MetricsSink::create(&metrics, &run_id)?);
            files.add(EventsSink::create(&events, &run_id)?);
        }
    }
    recorder.add(console);
    if settings.tensorboard {
        let earlier_seconds = standing.results.earlier_seconds;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let session = Session {
            term: standing.term,
            restored: settings.resume.is_some().then_some(restored),
            began: now.saturating_sub(start.elapsed()).as_secs_f64() - earlier_seconds,
            earlier_seconds,
            steps: plan.steps,
        };
        files.add(TensorBoardSink::create(&place.directory.tensorboard(), session)?);
    }
    Ok((recorder, files))
}

/// What Prometheus is told of the run.
fn run_facts(place: &Place, standing: &Standing, plan: &Plan) -> RunFacts {
    RunFacts {
        run_id: place.run_id.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        numerics_version: NUMERICS_VERSION,
        steps: plan.steps,
        done: standing.results.steps,
    }
}
