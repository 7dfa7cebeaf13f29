//! Writes the step log, checkpoints and records on a thread of its own, so that a slow disk never delays a step; reports
//! back to the loop as `News`.
//!
//! The loop hands over the weights of each step as they are sent, without a copy, states to be saved, and the records of
//! `metrics.jsonl` and of the other files. The thread hashes, writes and syncs them in order, so a checkpoint follows
//! the lines that it counts on. A disk that fails, hangs or is too slow never stops the training: what does not fit into
//! the backlog is lost, an event says so, and the thread goes on with what comes next.

mod records;
mod writer;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep_checkpoint::Progress;
use lockstep_checkpoint::backlog::{Backlog, Entry, Limits, Pushed};
use lockstep_control::Task;
use lockstep_model::PARAMETERS;
use lockstep_records::Record;
use lockstep_telemetry::Recorder;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{Notify, oneshot};

pub(crate) use records::{SideFile, Sink};
use writer::Writer;

/// What may wait for the disk.
const LIMITS: Limits = Limits {
    // A second and a half at the highest rate, and 68 MB: a disk that is further behind is one that stalls.
    steps: 512,
    step_bytes: 512 * 4 * PARAMETERS,
    // They are small, 300 bytes of a step, and are wanted whole: half a minute at the highest rate.
    records: 16 << 10,
};

/// A disk that has not finished one entry for so long stalls, which is reported.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// What the thread reports to the loop, each with a sentence for people.
#[derive(Debug)]
pub(crate) enum News {
    /// A checkpoint is durable.
    Saved { sentence: String },
    /// A checkpoint could not be written.
    NotSaved { sentence: String },
    /// The log ends before the run does.
    LogEndsEarly { sentence: String },
    /// Something else went wrong, or is well again, and the run goes on.
    Event {
        /// The kind of the event.
        kind: &'static str,
        sentence: String,
    },
    /// A file is written no more.
    FileFailed { sentence: String },
    /// Another coordinator has taken the run over.
    Superseded { term: u64, sentence: String },
    /// A replayed step gave other weights than the log has.
    Contradicted { step: u64, sentence: String },
}

/// The loop's handle of the thread.
pub struct JournalThread {
    queue: Arc<Queue>,
    news: UnboundedReceiver<News>,
    /// What this handle has noticed itself.
    noticed: VecDeque<News>,
    ended: oneshot::Receiver<()>,
}

/// A state to be saved.
struct Save {
    after: Task,
    values: Bytes,
    progress: Progress,
}

/// What is written besides steps and states.
enum Job {
    Record(Record),
    Append { file: Arc<SideFile>, bytes: Vec<u8> },
}

/// What the loop and the thread share.
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    /// Nothing waits and nothing is being written.
    idle: Notify,
}

struct State {
    backlog: Backlog<Bytes, Save, Job>,
    /// Since when the thread has worked on one entry.
    busy_since: Option<Instant>,
    /// It was reported that this takes too long.
    stall_reported: bool,
    /// Nothing more will come.
    closed: bool,
}

impl JournalThread {
    /// Starts the thread; `files` are the sinks that write to the disk.
    ///
    /// # Errors
    ///
    /// If the system has none.
    pub fn start(
        journal: lockstep_checkpoint::Journal,
        term: u64,
        identity: serde_json::Value,
        files: Recorder,
    ) -> std::io::Result<Self> {
        let state =
            State { backlog: Backlog::new(LIMITS), busy_since: None, stall_reported: false, closed: false };
        let queue = Arc::new(Queue { state: Mutex::new(state), filled: Condvar::new(), idle: Notify::new() });
        // Bounded by what goes in: news of a save each, and one of each failure.
        let (sender, news) = unbounded_channel();
        let (end, ended) = oneshot::channel();
        let writer = Writer::new(journal, term, identity, files, sender);
        let entries = Arc::clone(&queue);
        std::thread::Builder::new().name("journal".to_string()).spawn(move || {
            writer.write(&entries);
            // Nobody may wait for it any more.
            let _ = end.send(());
        })?;
        Ok(Self { queue, news, noticed: VecDeque::new(), ended })
    }

    /// A sink that has records written by the thread's own sinks.
    pub(crate) fn sink(&self) -> Sink {
        Sink::new(Arc::clone(&self.queue))
    }

    /// A file whose every piece the thread writes: what is given to it never waits for the disk.
    pub(crate) fn side_file(&self, file: SideFile) -> impl FnMut(Vec<u8>) + Send + use<> {
        let (queue, file) = (Arc::clone(&self.queue), Arc::new(file));
        move |bytes| queue.push_job(Job::Append { file: Arc::clone(&file), bytes })
    }

    /// Has a step recorded; `values` are the weights after it, as they travel.
    pub(crate) fn committed(&mut self, step: u64, values: Bytes) {
        let mut state = self.queue.lock();
        let bytes = values.len();
        if state.backlog.push_step(step, values, bytes) == Pushed::FirstLost {
            let sentence = format!(
                "the disk is {} steps behind: from step {step} on, steps have no record in steps.log until it has caught \
                 up; training goes on, and checkpoints are tried",
                LIMITS.steps
            );
            self.noticed.push_back(News::Event { kind: "disk_behind", sentence });
        }
        if let Some(since) = state.busy_since
            && !state.stall_reported
            && since.elapsed() >= STALLED_AFTER
        {
            state.stall_reported = true;
            let sentence =
                format!("the disk has not answered for {} s; training goes on", STALLED_AFTER.as_secs());
            self.noticed.push_back(News::Event { kind: "disk_stalled", sentence });
        }
        drop(state);
        self.queue.filled.notify_one();
    }

    /// Has a checkpoint written.
    pub(crate) fn save(&mut self, after: Task, values: Bytes, progress: Progress) {
        self.queue.lock().backlog.push_save(Save { after, values, progress });
        self.queue.filled.notify_one();
    }

    /// The next news; waits for ever if there are none any more.
    pub(crate) async fn news(&mut self) -> Option<News> {
        if let Some(noticed) = self.noticed.pop_front() {
            return Some(noticed);
        }
        match self.news.recv().await {
            Some(news) => Some(news),
            None => std::future::pending().await,
        }
    }

    /// The next news, if there are any by now.
    pub(crate) fn news_so_far(&mut self) -> Option<News> {
        self.noticed.pop_front().or_else(|| self.news.try_recv().ok())
    }

    /// Waits until the thread has done what waits.
    pub(crate) async fn settle(&mut self) {
        while !self.queue.lock().is_idle() {
            self.queue.idle.notified().await;
        }
    }

    /// Waits until the thread has done what waits, and is over.
    pub(crate) async fn close(&mut self) {
        self.queue.lock().closed = true;
        self.queue.filled.notify_one();
        // An error means that it panicked, which it has reported.
        let _ = (&mut self.ended).await;
    }
}

impl Drop for JournalThread {
    fn drop(&mut self) {
        // Nothing more will come: the thread does what waits, and ends.
        self.queue.lock().closed = true;
        self.queue.filled.notify_one();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves a queue that is as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push_job(&self, job: Job) {
        // A step's record comes right behind the step, which has woken the thread.
        let is_step = matches!(job, Job::Record(Record::Step(_)));
        self.lock().backlog.push_record(job);
        if !is_step {
            self.filled.notify_one();
        }
    }

    /// For the thread: the last entry is done; waits for the next one, or for the end.
    fn next(&self, mut answered: impl FnMut(Duration)) -> Option<Entry<Bytes, Save, Job>> {
        let mut state = self.lock();
        if let Some(since) = state.busy_since.take()
            && std::mem::take(&mut state.stall_reported)
        {
            answered(since.elapsed());
        }
        loop {
            if let Some(entry) = state.backlog.pop() {
                state.busy_since = Some(Instant::now());
                return Some(entry);
            }
            self.idle.notify_one();
            if state.closed {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.backlog.is_empty() && self.busy_since.is_none()
    }
}
