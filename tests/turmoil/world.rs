//! A simulated world with one coordinator and its workers, and what a scenario may do to it.
//!
//! After every tick of virtual time the workers compute, in no time, whatever has come in.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use lockstep_checkpoint::{Disk, FileSystem};
use lockstep_control::Outcome;
use lockstep_model::Digest;
use lockstep_records::{EventRecord, StepRecord};
use lockstep_telemetry::Sink;
use lockstep_worker::Inboxes;
use tempfile::TempDir;
use turmoil::Sim;

use crate::hosts::{COORDINATOR, End, Setup, coordinate, work};
use crate::network::Resets;

/// All workers that a scenario may have from the start.
pub const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];

const TICK: Duration = Duration::from_millis(1);

/// More real time than any tick's arithmetic takes on a busy machine.
const REAL_LIMIT: Duration = Duration::from_secs(120);

/// What a run tells, as it happens.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    /// The steps that were committed, by all coordinators.
    steps: Vec<u64>,
    members: u32,
    events: Vec<(Cow<'static, str>, String)>,
    ends: Vec<End>,
    workers: Vec<(String, Result<String, String>)>,
}

impl Sink for Notes {
    fn step(&mut self, record: &StepRecord) {
        let mut said = self.0.lock().unwrap();
        said.steps.push(record.step);
        said.members = record.workers;
    }

    fn event(&mut self, record: &EventRecord) {
        self.0.lock().unwrap().events.push((record.kind.clone(), record.reason.clone()));
    }
}

impl Notes {
    pub fn ended(&self, end: End) {
        self.0.lock().unwrap().ends.push(end);
    }

    pub fn worker_ended(&self, name: &str, end: Result<String, String>) {
        self.0.lock().unwrap().workers.push((name.to_string(), end));
    }
}

pub struct World {
    pub sim: Sim<'static>,
    setup: Setup,
    inboxes: Inboxes,
    resets: Resets,
    notes: Notes,
    /// Where the coordinator's next process keeps the run.
    directory: Arc<Mutex<PathBuf>>,
    folder: TempDir,
    files: Arc<dyn FileSystem>,
    /// When the last step was committed.
    trained: Duration,
    /// Ends of coordinators that the scenario was given.
    ends_seen: usize,
}

pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            steps: 8,
            expected_workers: 1,
            deadline: ms(1000),
            patience: ms(20_000),
            connect_timeout: ms(60_000),
            latency: ms(10),
        }
    }
}

impl World {
    /// A coordinator and as many workers as its first step waits for.
    pub fn new(setup: Setup) -> Self {
        let sim = turmoil::Builder::new()
            .rng_seed(1)
            .tick_duration(TICK)
            .simulation_duration(Duration::MAX)
            .min_message_latency(setup.latency)
            .max_message_latency(setup.latency)
            .tcp_capacity(4096)
            .build();
        let folder = TempDir::new().unwrap();
        let mut world = Self {
            sim,
            setup,
            inboxes: Inboxes::default(),
            resets: Resets::default(),
            notes: Notes::default(),
            directory: Arc::new(Mutex::new(folder.path().to_path_buf())),
            folder,
            files: Arc::new(Disk),
            trained: Duration::ZERO,
            ends_seen: 0,
        };
        let (directory, files, notes) =
            (Arc::clone(&world.directory), Arc::clone(&world.files), world.notes.clone());
        world.sim.host(COORDINATOR, move || {
            let (files, notes) = (Arc::clone(&files), notes.clone());
            let directory = directory.lock().unwrap().clone();
            async move { coordinate(setup, &directory, files, &notes).await }
        });
        for number in 1..=setup.expected_workers {
            world.add_worker(number);
        }
        world
    }

    /// Starts `worker-<number>`.
    pub fn add_worker(&mut self, number: u32) {
        let name = format!("worker-{number}");
        let (setup, inboxes, resets, notes) =
            (self.setup, self.inboxes.clone(), self.resets.clone(), self.notes.clone());
        let host = name.clone();
        self.sim.host(host, move || {
            work(setup, name.clone(), number.into(), inboxes.clone(), resets.clone(), notes.clone())
        });
    }

    /// Does something to the links of all three workers.
    pub fn all_links(&mut self, change: fn(&Sim<'static>, &'static str, &'static str)) {
        for worker in WORKERS {
            change(&self.sim, worker, COORDINATOR);
        }
    }

    /// Resets the open connections of a worker.
    pub fn reset(&mut self, worker: &str) {
        self.resets.reset(worker);
    }

    /// Kills the coordinator's process, and waits until its disk has what was written.
    pub fn crash_coordinator(&mut self) {
        // This one, and the host's.
        let idle = 2;
        self.sim.crash(COORDINATOR);
        let begin = Instant::now();
        while Arc::strong_count(&self.files) > idle {
            assert!(begin.elapsed() < REAL_LIMIT, "the journal's thread does not end");
            std::thread::yield_now();
        }
    }

    /// An empty place for a run, next to the first.
    pub fn other_directory(&self) -> PathBuf {
        let path = self.folder.path().join("other");
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// Where the run is kept.
    pub fn folder(&self) -> PathBuf {
        self.directory.lock().unwrap().clone()
    }

    /// Has the coordinator's next process keep the run there.
    pub fn keep_in(&mut self, folder: &Path) {
        *self.directory.lock().unwrap() = folder.to_path_buf();
    }

    fn tick(&mut self) {
        let before = self.steps();
        self.sim.step().unwrap();
        assert!(self.inboxes.rest(REAL_LIMIT), "a worker does not stop computing");
        if self.steps() != before {
            self.trained = self.sim.elapsed();
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.tick();
        }
    }

    /// Lets time pass until something is so, for `limit` at most; the time that it took.
    pub fn pass_until(&mut self, limit: Duration, mut so: impl FnMut(&Self) -> bool) -> Duration {
        let begin = self.sim.elapsed();
        while !so(self) {
            assert!(self.sim.elapsed() - begin < limit, "not within {limit:?}\n{}", self.story());
            self.tick();
        }
        self.sim.elapsed() - begin
    }

    /// Lets time pass until this many steps are committed.
    pub fn pass_until_step(&mut self, step: u64) {
        self.pass_until(ms(60_000), |world| world.steps() >= step);
    }

    /// Lets time pass until a coordinator's process ends, and gives its end.
    pub fn end(&mut self) -> End {
        let seen = self.ends_seen;
        // The last checkpoint takes real time, while virtual time flies.
        self.pass_until(ms(300_000), |world| world.ends() > seen);
        self.ends_seen += 1;
        self.notes.0.lock().unwrap().ends[seen].clone()
    }

    /// Lets the run end: all is done, by then, with the weights of an undisturbed run of one worker.
    pub fn ends_well(&mut self, trained_by: Duration) -> End {
        let end = self.end();
        assert_eq!(end.outcome, Outcome::Done, "{}", self.story());
        assert_eq!(end.digest, undisturbed(), "other weights\n{}", self.story());
        assert!(end.results.test.is_some(), "{}", self.story());
        assert!(self.trained <= trained_by, "trained only after {:?}\n{}", self.trained, self.story());
        end
    }

    /// The newest step.
    pub fn steps(&self) -> u64 {
        self.notes.0.lock().unwrap().steps.last().copied().unwrap_or_default()
    }

    /// All steps that were committed, in that order; those that a later coordinator replays come again.
    pub fn history(&self) -> Vec<u64> {
        self.notes.0.lock().unwrap().steps.clone()
    }

    /// Members at the last step's end.
    pub fn members(&self) -> u32 {
        self.notes.0.lock().unwrap().members
    }

    fn ends(&self) -> usize {
        self.notes.0.lock().unwrap().ends.len()
    }

    /// How many events of a kind there were.
    pub fn count(&self, kind: &str) -> usize {
        self.notes.0.lock().unwrap().events.iter().filter(|event| event.0 == kind).count()
    }

    /// How a worker's process ended, if it did.
    pub fn worker_end(&self, name: &str) -> Option<Result<String, String>> {
        let said = self.notes.0.lock().unwrap();
        said.workers.iter().find(|(worker, _)| worker == name).map(|(_, end)| end.clone())
    }

    /// Everything that was said, for a test that fails.
    pub fn story(&self) -> String {
        let said = self.notes.0.lock().unwrap();
        let events: Vec<String> =
            said.events.iter().map(|(kind, reason)| format!("  {kind}: {reason}")).collect();
        format!(
            "after {:?}, trained at {:?}, steps {:?}; workers {:?}; ends {:?}\n{}",
            self.sim.elapsed(),
            self.trained,
            said.steps,
            said.workers,
            said.ends.iter().map(|end| (end.term, end.outcome)).collect::<Vec<_>>(),
            events.join("\n")
        )
    }
}

/// The weights of a run that nothing happens to.
fn undisturbed() -> Digest {
    static DIGEST: OnceLock<Digest> = OnceLock::new();
    *DIGEST.get_or_init(|| {
        let end = World::new(Setup::default()).end();
        assert_eq!(end.outcome, Outcome::Done);
        end.digest
    })
}
