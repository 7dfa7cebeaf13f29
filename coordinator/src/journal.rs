//! The journal's thread: what is to be kept on disk goes in, off the critical path; news of it comes out.
//!
//! The loop hands over the weights of each step as they are sent, without a copy; hashing, writing and fsync are this
//! thread's. A disk that fails or hangs never stops the training: it is said, and the run goes on from memory.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use lockstep_checkpoint::{JournalError, LastTask, Progress, State};
use lockstep_control::{Task, TaskKind};
use lockstep_model::{Digest, PARAMETERS, TENSORS, copy_from_le_bytes, digest_of_bytes};
use lockstep_worker::crash;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// Steps that wait to be recorded: a second and a half at the highest rate, 68 MB of weights at most. A disk that is
/// further behind is one that failed.
const MAX_WAITING: usize = 512;

/// What the loop hears.
#[derive(Debug)]
pub enum News {
    /// A checkpoint is durable.
    Saved {
        /// For people.
        sentence: String,
    },
    /// A checkpoint could not be written.
    NotSaved {
        /// For people.
        sentence: String,
    },
    /// Something else went wrong, and the run goes on without it.
    Trouble {
        /// For people.
        sentence: String,
    },
    /// A replayed step gave other weights than the log has.
    Contradicted {
        /// The step.
        step: u64,
        /// For people.
        sentence: String,
    },
}

/// The loop's end of the thread.
pub struct Journal {
    entries: Option<SyncSender<Entry>>,
    news: UnboundedReceiver<News>,
    ended: oneshot::Receiver<()>,
    /// The thread is too far behind, and is told of no more steps.
    overrun: Option<News>,
}

enum Entry {
    Step { step: u64, values: Bytes },
    Save { after: Task, values: Bytes, progress: Progress },
}

impl Journal {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system has none.
    pub fn start(
        journal: lockstep_checkpoint::Journal,
        term: u64,
        identity: serde_json::Value,
    ) -> std::io::Result<Self> {
        let (entries, waiting) = sync_channel(MAX_WAITING);
        // Bounded by what goes in: news of a save each, and one of each failure.
        let (sender, news) = unbounded_channel();
        let (end, ended) = oneshot::channel();
        let writer = Writer {
            journal,
            term,
            identity,
            news: sender,
            weights: vec![0.0; PARAMETERS].into_boxed_slice(),
            newest: None,
            contradicted: false,
        };
        std::thread::Builder::new().name("journal".to_string()).spawn(move || {
            writer.write(&waiting);
            // Nobody may wait for it any more.
            let _ = end.send(());
        })?;
        Ok(Self { entries: Some(entries), news, ended, overrun: None })
    }

    /// Has a step recorded; `values` are the weights after it, as they travel.
    pub fn committed(&mut self, step: u64, values: Bytes) {
        let full = match &self.entries {
            Some(entries) => {
                matches!(entries.try_send(Entry::Step { step, values }), Err(TrySendError::Full(_)))
            }
            None => false,
        };
        if full {
            // Without this step's record no later one may follow.
            self.entries = None;
            let sentence = format!(
                "the disk is more than {MAX_WAITING} steps behind: steps are no longer recorded and nothing is saved any \
                 more; training goes on from memory"
            );
            self.overrun = Some(News::Trouble { sentence });
        }
    }

    /// Has a checkpoint written.
    pub fn save(&mut self, after: Task, values: Bytes, progress: Progress) {
        let sent = self
            .entries
            .as_ref()
            .is_some_and(|entries| entries.try_send(Entry::Save { after, values, progress }).is_ok());
        if !sent {
            let sentence = format!("the state after {after} is not saved: the disk does not keep up");
            self.overrun.get_or_insert(News::NotSaved { sentence });
        }
    }

    /// The next news; waits for ever if there are none any more.
    pub async fn news(&mut self) -> Option<News> {
        if let Some(overrun) = self.overrun.take() {
            return Some(overrun);
        }
        match self.news.recv().await {
            Some(news) => Some(news),
            None => std::future::pending().await,
        }
    }

    /// Lets the thread finish what waits, for `limit` at most, and gives the last news.
    pub async fn close(&mut self, limit: Duration) -> Vec<News> {
        self.entries = None;
        let finished = tokio::time::timeout(limit, &mut self.ended).await.is_ok();
        let mut last: Vec<News> = self.overrun.take().into_iter().collect();
        while let Ok(news) = self.news.try_recv() {
            last.push(news);
        }
        if !finished {
            let sentence = format!(
                "the disk did not finish within {} ms: what was last is not saved",
                limit.as_millis()
            );
            last.push(News::NotSaved { sentence });
        }
        last
    }
}

/// The thread's own state.
struct Writer {
    journal: lockstep_checkpoint::Journal,
    term: u64,
    identity: serde_json::Value,
    news: UnboundedSender<News>,
    weights: Box<[f32]>,
    /// The digest of the last step: a checkpoint is mostly of the same weights.
    newest: Option<(u64, Digest)>,
    /// A step contradicted the log: nothing that follows from it is saved.
    contradicted: bool,
}

impl Writer {
    fn write(mut self, entries: &Receiver<Entry>) {
        while let Ok(entry) = entries.recv() {
            match entry {
                Entry::Step { step, values } => self.step(step, &values),
                Entry::Save { after, values, progress } => self.save(after, &values, progress),
            }
        }
        if let Err(error) = self.journal.sync() {
            self.tell(News::Trouble { sentence: error.to_string() });
        }
        self.tell_notes();
        if let Some(steps) = self.journal.pending() {
            let sentence = format!("the records of steps {} to {} are not kept", steps.start(), steps.end());
            self.tell(News::Trouble { sentence });
        }
    }

    fn step(&mut self, step: u64, values: &[u8]) {
        crash::point("log", step);
        let digest = digest_of_bytes(values);
        self.newest = Some((step, digest));
        let committed = self.journal.committed(step, digest.0);
        crash::point("logged", step);
        self.tell_notes();
        let Err(error) = committed else { return };
        let sentence = error.to_string();
        let news = match error {
            JournalError::Contradicted { step, .. } => {
                self.contradicted = true;
                News::Contradicted { step, sentence }
            }
            JournalError::Superseded(_) | JournalError::NotSaved(_) => News::Trouble { sentence },
        };
        self.tell(news);
    }

    fn save(&mut self, after: Task, values: &[u8], progress: Progress) {
        if self.contradicted {
            return;
        }
        let digest = match self.newest {
            Some((step, digest)) if step == after.step => digest,
            _ => digest_of_bytes(values),
        };
        copy_from_le_bytes(values, &mut self.weights);
        let weights = &self.weights;
        let tensors = TENSORS
            .each_ref()
            .map(|tensor| (tensor.name, tensor.shape, &weights[tensor.offset..tensor.offset + tensor.len()]));
        let last_task = if after.kind == TaskKind::Train { LastTask::Step } else { LastTask::Validation };
        let state = State {
            term: self.term,
            step: after.step,
            last_task,
            weights_digest: digest.0,
            identity: self.identity.clone(),
            progress,
        };
        let saved = self.journal.save(&state, &tensors);
        self.tell_notes();
        match saved {
            Ok(()) => {
                self.tell(News::Saved { sentence: format!("the state after {after} is saved") });
            }
            Err(error) => {
                let sentence = format!(
                    "the state after {after} is not saved: {error}; training goes on, and the next is tried"
                );
                self.tell(News::NotSaved { sentence });
            }
        }
    }

    fn tell_notes(&mut self) {
        for note in self.journal.take_notes() {
            self.tell(News::Trouble { sentence: note.to_string() });
        }
    }

    fn tell(&self, news: News) {
        // The loop may be over.
        let _ = self.news.send(news);
    }
}
