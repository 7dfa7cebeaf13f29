//! A training run from its settings to its report: everything around the loop, in the order that loses nothing.
//!
//! What may fail for the user's sake (address, data, run directory) comes first and leaves nothing behind.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use lockstep_control::Outcome;
use lockstep_dataset::{Choice, Dataset, Source, validation_examples};
use lockstep_model::{Cpu, Digest, NUMERICS_VERSION, TENSORS};
use lockstep_proto::{
    Fence, LockstepServer, MAX_COORDINATOR_MESSAGE_BYTES, MAX_FRAME_BYTES, MAX_WORKER_MESSAGE_BYTES, RunId,
    Token,
};
use lockstep_telemetry::{
    ConsoleSink, EventsSink, MetricsSink, Recorder, SchemaVersion, Status, Summary, Terminal, TracingSink,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::batches::Batches;
use crate::cli::{EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_WORKERS_LOST};
use crate::local_workers::LocalWorkers;
use crate::run::{Results, Run, Signals};
use crate::run_directory::RunDirectory;
use crate::service::{Incoming, MAX_QUEUED_INCOMING, Service};
use crate::settings::{DatasetChoice, RunIdentity, Settings, SettingsError};
use crate::trainer::Trainer;

/// Local workers start within a moment; one that hangs there is not waited for longer.
const LOCAL_JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a run without members waits for external workers to come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long workers have to take in that the run is over, before local ones are killed.
const FAREWELL: Duration = Duration::from_millis(500);

/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The coordinator's fencing counter: every run is started once, and there is no resuming.
const TERM: u64 = 1;

/// Trains as the settings say and reports on standard output; returns the exit code.
///
/// # Errors
///
/// Whatever keeps the run from starting or its results from being written.
pub fn train(settings: &Settings, terminal: &Terminal) -> Result<u8> {
    let start = Instant::now();
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
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
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address with --listen", settings.listen)
    })?;
    let address = listener.local_addr()?;
    let dataset = load(settings, terminal)?;
    let run_id = RunId(random()?);
    let identity = identity(settings, &dataset);
    let fallback = dataset.fallback.is_some();
    // From here on there is something to leave in order; before, the system's default is the faster end.
    let mut signals = Signals::new()?;
    let directory = create_directory(settings, &identity, run_id)?;

    let batches = Batches::new(
        dataset,
        settings.seed,
        settings.batch_size.get(),
        settings.micro_shards.get(),
        settings.validation_split.get(),
    );
    let plan = batches.plan(settings.epochs.get(), settings.max_steps.map(|steps| steps.get()));
    warn_of_spares(settings);
    terminal.print_line(&format!(
        "training on {} {} examples in batches of {}, validating on {}, testing on {}; everything is written to {}",
        batches.train_examples(),
        identity.dataset,
        settings.batch_size,
        batches.validation_examples(),
        batches.test_examples(),
        directory.path().display()
    ));
    let control = lockstep_control::Settings {
        plan,
        expected_workers: settings.workers.get(),
        join_timeout: (!settings.external).then_some(LOCAL_JOIN_TIMEOUT),
        patience: if settings.external { PATIENCE } else { Duration::ZERO },
    };

    let fence = Fence { run_id, term: TERM };
    let token = match &settings.token {
        Some(token) => token.clone(),
        None => Token::from_random(random()?),
    };
    let (sender, mut incoming) = mpsc::channel(MAX_QUEUED_INCOMING);
    serve(
        listener,
        Service::new(fence, token.clone(), lockstep_model::join_test(Cpu::detect()), sender.clone()),
    );
    let mut local = None;
    if settings.external {
        invite(settings, address, &token, terminal);
    } else {
        let (count, threads) = (settings.workers.get(), settings.threads_per_worker.get());
        let url = format!("http://{}", reachable(address));
        let workers = LocalWorkers::start(count, threads, &url, &token, &directory.logs(), &sender).await;
        local = Some(workers.context("cannot start the local workers")?);
    }

    let recorder = recorder(settings, terminal, &directory, run_id, plan.steps)?;
    let trainer = Trainer::new(lockstep_model::initial_weights(settings.seed), settings.learning_rate.get());
    let mut run = Run::new(start, fence, control, batches, trainer, recorder);
    let outcome = run.drive(&mut incoming, &mut signals).await;
    wind_up(&mut run, outcome, &mut incoming, local).await;
    let (trainer, results) = run.into_results();
    terminal.detach();

    let report = Report { settings, identity: &identity, fallback, run_id, directory: &directory, outcome };
    report.write(&trainer, &results)
}

fn random() -> Result<[u8; 16]> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).context("the system has no random bits")?;
    Ok(bits)
}

fn load(settings: &Settings, terminal: &Terminal) -> Result<Dataset> {
    let mut source = Source::new(match settings.dataset {
        DatasetChoice::Auto => Choice::Auto,
        DatasetChoice::Mnist => Choice::Mnist,
        DatasetChoice::Digits => Choice::Digits,
    });
    source.data_dir.clone_from(&settings.data_dir);
    source.offline = settings.offline;
    source.examples = settings.examples.map(|examples| examples.get() as usize);
    let mut display = crate::data_command::DownloadDisplay::new(terminal);
    let loaded = lockstep_dataset::load(&source, &mut |progress| display.show(progress));
    let dataset = loaded.map_err(|error| match error {
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
    let all = dataset.train.len();
    settings.check_against(all - validation_examples(all, settings.validation_split.get()))?;
    if dataset.test.is_empty() {
        bail!("the test set is empty; a run ends with an evaluation on it");
    }
    Ok(dataset)
}

fn identity(settings: &Settings, dataset: &Dataset) -> RunIdentity {
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
    }
}

fn create_directory(settings: &Settings, identity: &RunIdentity, run_id: RunId) -> Result<RunDirectory> {
    let path = settings.run_dir.clone().unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        RunDirectory::default_path(now.as_secs(), &run_id.0)
    });
    let directory = RunDirectory::create(&path)?;
    let prepared =
        lockstep_checkpoint::write_atomically(&directory.config(), settings.to_toml(identity).as_bytes())
            .map_err(anyhow::Error::from)
            .and_then(|()| std::fs::create_dir(directory.logs()).context("cannot create the folder of logs"));
    if let Err(error) = prepared {
        directory.discard_if_empty();
        return Err(error);
    }
    Ok(directory)
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
    terminal.print_line(&format!(
        "waiting for {} workers; start each with\n  worker --coordinator http://{address} --token {}",
        settings.workers,
        if settings.token.is_some() { "…" } else { token.reveal() },
    ));
}

/// The address that a local worker dials.
fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback = match address {
        SocketAddr::V4(_) => SocketAddr::from(([127, 0, 0, 1], address.port())),
        SocketAddr::V6(_) => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port())),
    };
    if address.ip().is_unspecified() { loopback } else { address }
}

/// Serves until the process ends.
fn serve(listener: TcpListener, service: Service) {
    let service = LockstepServer::new(service)
        .max_decoding_message_size(MAX_WORKER_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_COORDINATOR_MESSAGE_BYTES);
    let server = Server::builder()
        .max_frame_size(MAX_FRAME_BYTES)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(service);
    let connections = TcpIncoming::from(listener).with_nodelay(Some(true)).then(|connection| async {
        if let Err(error) = &connection {
            // Without descriptors, accepting would fail again at once, and for ever.
            tracing::warn!("cannot accept a connection: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        connection
    });
    tokio::spawn(async move {
        if let Err(error) = server.serve_with_incoming(connections).await {
            tracing::error!("the gRPC server ended: {error}");
        }
    });
}

fn recorder(
    settings: &Settings,
    terminal: &Terminal,
    directory: &RunDirectory,
    run_id: RunId,
    steps: u64,
) -> Result<Recorder> {
    let mut recorder = Recorder::default();
    recorder.add(TracingSink);
    recorder.add(ConsoleSink::new(terminal.clone(), settings.epochs.get(), steps, settings.progress));
    if settings.metrics {
        let run_id = run_id.to_string();
        recorder.add(MetricsSink::create(&directory.metrics(), &run_id)?);
        recorder.add(EventsSink::create(&directory.events(), &run_id)?);
    }
    Ok(recorder)
}

/// Lets the workers go; kills local ones that do not.
async fn wind_up(
    run: &mut Run,
    outcome: Outcome,
    incoming: &mut mpsc::Receiver<Incoming>,
    local: Option<LocalWorkers>,
) {
    run.dismiss(outcome);
    let Some(mut local) = local else {
        let farewell = async {
            while run.has_members()
                && let Some(incoming) = incoming.recv().await
            {
                run.wind_up(incoming);
            }
        };
        // Whoever does not go by then finds the stream ended.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        return;
    };
    let kill = tokio::time::sleep(FAREWELL);
    tokio::pin!(kill);
    let mut killed = false;
    loop {
        tokio::select! {
            Some(incoming) = incoming.recv() => {
                run.wind_up(incoming);
            }
            () = local.ended() => break,
            () = &mut kill, if !killed => {
                local.kill();
                killed = true;
            }
        }
    }
    while let Ok(incoming) = incoming.try_recv() {
        run.wind_up(incoming);
    }
}

/// What is written and said at the end.
struct Report<'a> {
    settings: &'a Settings,
    identity: &'a RunIdentity,
    fallback: bool,
    run_id: RunId,
    directory: &'a RunDirectory,
    outcome: Outcome,
}

impl Report<'_> {
    fn write(&self, trainer: &Trainer, results: &Results) -> Result<u8> {
        let (status, code) = match self.outcome {
            Outcome::Done => (Status::Done, EXIT_DONE),
            Outcome::Diverged { .. } => (Status::Diverged, EXIT_FAILED),
            Outcome::Interrupted { signal: lockstep_control::Signal::Interrupt } => {
                (Status::Interrupted, EXIT_INTERRUPTED)
            }
            Outcome::Interrupted { signal: lockstep_control::Signal::Terminate } => {
                (Status::Interrupted, EXIT_TERMINATED)
            }
            Outcome::NotJoined { .. } | Outcome::LostWorkers { .. } => {
                self.mourn(results);
                self.write_model(trainer)?;
                return Ok(EXIT_WORKERS_LOST);
            }
        };
        let model = self.write_model(trainer);
        let summary = self.summary(status, trainer, results);
        let json = summary.to_json();
        lockstep_checkpoint::write_atomically(&self.directory.summary(), format!("{json}\n").as_bytes())?;
        let text = if self.settings.json { format!("{json}\n") } else { summary.to_text() };
        match std::io::stdout().write_all(text.as_bytes()) {
            // Who closed the pipe wants no more.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(error).context("cannot write the summary to standard output");
            }
            _ => {}
        }
        model?;
        if let Outcome::Diverged { step } = self.outcome {
            tracing::error!(
                "training diverged in step {step}: loss or weights are no longer finite at learning rate {:?}; lower \
                 --learning-rate (the last finite weights, after step {}, are in {})",
                self.settings.learning_rate.get(),
                step - 1,
                self.directory.model().display()
            );
        }
        Ok(code)
    }

    /// Says how the workers ended.
    fn mourn(&self, results: &Results) {
        tracing::error!("{}, after {} steps", self.outcome, results.steps);
        for exit in &results.exits {
            tracing::error!("{exit}");
        }
        tracing::error!(
            "what was written is in {}, the workers' output in {}",
            self.directory.path().display(),
            self.directory.logs().display()
        );
    }

    fn write_model(&self, trainer: &Trainer) -> Result<()> {
        let weights = trainer.weights();
        let tensors = TENSORS
            .each_ref()
            .map(|tensor| (tensor.name, tensor.shape, &weights[tensor.offset..tensor.offset + tensor.len()]));
        let metadata = serde_json::to_string(self.identity).context("the identity as JSON")?;
        lockstep_checkpoint::write_model(&self.directory.model(), &tensors, &metadata)?;
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
        }
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
