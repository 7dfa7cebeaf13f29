//! What runs on the simulated hosts: a coordinator and workers, as their binaries put them together.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lockstep_checkpoint::{FileSystem, JournalPaths, LastTask, LogHeader, Opened};
use lockstep_command_line::Signals;
use lockstep_control::{Outcome, Task, TaskKind, heartbeat};
use lockstep_coordinator::batches::Batches;
use lockstep_coordinator::journal::JournalThread;
use lockstep_coordinator::observe::{Observers, RunTotals};
use lockstep_coordinator::run::Run;
use lockstep_coordinator::trainer::Trainer;
use lockstep_coordinator::transport::admission::{Connection, Strangers};
use lockstep_coordinator::transport::server::serve;
use lockstep_coordinator::transport::service::{KeepAlive, MAX_QUEUED_INCOMING, Service};
use lockstep_dataset::{Dataset, Kind, digits_test, digits_train};
use lockstep_model::{Cpu, Digest, digest, initial_weights, join_test};
use lockstep_proto::{Fence, RunId, Token};
use lockstep_run_directory::model_file::weights_of;
use lockstep_telemetry::Recorder;
use lockstep_worker::{Config, Environment, Inboxes, run_in};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use turmoil::net::TcpListener;

use crate::network::{Dialler, Resets, connections};
use crate::world::Notes;

pub const COORDINATOR: &str = "coordinator";
const PORT: u16 = 4400;
const RUN: RunId = RunId([7; 16]);
const SEED: u64 = 11;
const IDENTITY: &str = "{}";

/// As a coordinator's command line has it.
const WORKER_DEADLINES: u32 = 5;
const EXIT_GRACE: Duration = Duration::from_millis(500);

/// What the scenarios differ in.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub steps: u64,
    /// Workers that the first step waits for.
    pub expected_workers: u32,
    pub deadline: Duration,
    pub patience: Duration,
    /// For how long a worker tries to reach a coordinator.
    pub connect_timeout: Duration,
    /// Of every message, one way.
    pub latency: Duration,
}

/// How a coordinator's process ended.
#[derive(Clone, Debug)]
pub struct End {
    pub term: u64,
    pub outcome: Outcome,
    pub digest: Digest,
    pub results: RunTotals,
}

/// A coordinator's process: it goes on with what the directory has of the run.
pub async fn coordinate(
    setup: Setup,
    directory: &Path,
    files: Arc<dyn FileSystem>,
    notes: &Notes,
) -> turmoil::Result<()> {
    let start = tokio::time::Instant::now().into_std();
    let batches = Batches::new(dataset().clone(), SEED, 8, 4, 0.05);
    let tasks = batches.task_order(1, Some(setup.steps));
    let Opened { journal, term, restored, .. } = open_journal(directory, files)?;
    let mut done = None;
    let (mut weights, mut totals) = (initial_weights(SEED), RunTotals::default());
    if let Some((manifest, model)) = &restored {
        weights = weights_of(model)?;
        totals = RunTotals::resumed(manifest);
        let kind = match manifest.last_task {
            LastTask::Step => TaskKind::Train,
            LastTask::Validation => TaskKind::Validate,
        };
        done = Some(Task { kind, step: manifest.step });
    }
    let control = lockstep_control::ControlSettings {
        tasks,
        done,
        expected_workers: setup.expected_workers,
        local: false,
        join_timeout: None,
        patience: setup.patience,
        deadline: setup.deadline,
        checkpoint_every: Duration::from_millis(50),
    };
    let fence = Fence { run_id: RUN, term };
    let (sender, mut incoming) = mpsc::channel(MAX_QUEUED_INCOMING);
    let keep_alive =
        KeepAlive { heartbeat: heartbeat(setup.deadline), silence: setup.deadline * WORKER_DEADLINES };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    let service = Service::new(fence, token(), join_test_digest(), keep_alive, sender);
    let strangers = Strangers::none();
    let connections = connections(listener)
        .map(move |accepted| accepted.map(|(stream, peer)| Connection::remote(stream, peer, &strangers)));
    serve(connections, Arc::new(service));
    let journal = JournalThread::start(journal, term, serde_json::from_str(IDENTITY)?, Recorder::default())?;
    let recorder = Recorder::new(vec![Box::new(notes.clone())]);
    let trainer = Trainer::new(&weights, 0.05);
    let observers = Observers::new(start, tasks, recorder, totals);
    let mut run = Run::new(start, fence, control, batches, trainer, journal, observers);
    let outcome = run.drive(&mut incoming, &mut Signals::none()).await;
    run.dismiss(outcome);
    let all_left = async {
        while run.has_members()
            && let Some(incoming) = incoming.recv().await
        {
            run.drain(incoming);
        }
    };
    // Whoever does not go by then finds the stream ended.
    let _ = tokio::time::timeout(EXIT_GRACE, all_left).await;
    run.settle(Duration::from_secs(600)).await;
    let digest = run.trainer().digest();
    let results = run.into_totals();
    notes.ended(End { term, outcome, digest, results });
    Ok(())
}

fn open_journal(directory: &Path, files: Arc<dyn FileSystem>) -> Result<Opened, lockstep_checkpoint::Error> {
    let paths = JournalPaths {
        log: directory.join("steps.log"),
        checkpoints: directory.join("checkpoints"),
        term: directory.join("term"),
    };
    lockstep_checkpoint::Journal::open(
        files,
        &paths,
        &LogHeader::new(RUN.0, IDENTITY),
        digest(&initial_weights(SEED)).0,
        &|model| Ok(digest(&weights_of(model)?).0),
    )
}

/// A worker's process.
pub async fn work(
    setup: Setup,
    name: String,
    seed: u64,
    inboxes: Inboxes,
    resets: Resets,
    notes: Notes,
) -> turmoil::Result<()> {
    let config = Config {
        coordinator: format!("http://{COORDINATOR}:{PORT}"),
        threads: 1,
        name: name.clone(),
        host: name.clone(),
        token: token(),
        connect_timeout: setup.connect_timeout,
        local: false,
        cpu: Cpu::detect(),
    };
    let dial = Dialler { worker: name.clone(), resets };
    // Pauses that look random and are the same every time.
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let random = Box::new(move || generator.next_u64());
    let end = run_in(&config, &mut Environment { dial, random, inboxes }).await;
    notes.worker_ended(&name, end.map_err(|error| error.to_string()));
    Ok(())
}

fn token() -> Token {
    Token::new("a-token-of-these-tests").unwrap()
}

fn dataset() -> &'static Dataset {
    static DATASET: OnceLock<Dataset> = OnceLock::new();
    DATASET.get_or_init(|| Dataset {
        kind: Kind::Digits,
        train: digits_train(200),
        test: digits_test(20),
        // Part of the identity, which is fixed here.
        digest: [0; 32],
        fallback: None,
        notes: Vec::new(),
    })
}

fn join_test_digest() -> Digest {
    static DIGEST: OnceLock<Digest> = OnceLock::new();
    *DIGEST.get_or_init(|| join_test(Cpu::detect()))
}
