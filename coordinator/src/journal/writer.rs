//! The thread itself: takes one entry after the other out of the backlog and writes it.

use bytes::Bytes;
use lockstep_checkpoint::backlog::{Entry, LostSteps};
use lockstep_checkpoint::{Error, JournalError, LastTask, Note, State};
use lockstep_control::TaskKind;
use lockstep_failpoints::crash;
use lockstep_model::{Digest, PARAMETERS, TENSORS, copy_from_le_bytes, digest_of_bytes};
use lockstep_records::Record;
use lockstep_telemetry::Recorder;
use tokio::sync::mpsc::UnboundedSender;

use crate::crashing_disk::Operations;

use super::{Job, News, Queue, Save};

pub(super) struct Writer {
    journal: lockstep_checkpoint::Journal,
    term: u64,
    identity: serde_json::Value,
    files: Recorder,
    /// Records, where a test may have the disk hang.
    records: Operations,
    news: UnboundedSender<News>,
    weights: Box<[f32]>,
    /// The digest of the last step: a checkpoint is mostly of the same weights.
    newest: Option<(u64, Digest)>,
    /// A step contradicted the log: nothing that follows from it is saved.
    contradicted: bool,
    /// Another coordinator has taken the run over: nothing is written any more.
    over: bool,
}

impl Writer {
    pub(super) fn new(
        journal: lockstep_checkpoint::Journal,
        term: u64,
        identity: serde_json::Value,
        files: Recorder,
        news: UnboundedSender<News>,
    ) -> Self {
        let weights = vec![0.0; PARAMETERS].into_boxed_slice();
        let records = Operations::named("record");
        Self {
            journal,
            term,
            identity,
            files,
            records,
            news,
            weights,
            newest: None,
            contradicted: false,
            over: false,
        }
    }

    pub(super) fn write(mut self, queue: &Queue) {
        let news = self.news.clone();
        let answered = |after: std::time::Duration| {
            let sentence = format!("the disk answers again, after {:.1} s", after.as_secs_f64());
            // The loop may be over.
            let _ = news.send(News::Event { kind: "disk_answers", sentence });
        };
        while let Some(entry) = queue.next(answered) {
            self.take(entry);
        }
        if self.over {
            return;
        }
        if let Err(error) = self.journal.sync() {
            return self.failed(error);
        }
        self.report_notes();
        if let Some(steps) = self.journal.pending() {
            let (first, last) = (steps.start(), steps.end());
            let sentence = format!("the records of steps {first} to {last} are not kept");
            self.send(News::LogEndsEarly { sentence });
        }
        self.flush();
    }

    fn take(&mut self, entry: Entry<Bytes, Save, Job>) {
        if self.over {
            return;
        }
        match entry {
            Entry::Step { step, weights } => self.step(step, &weights),
            Entry::Save(save) => self.save(save),
            Entry::Record(Job::Record(record)) => {
                if self.records.next().is_ok() {
                    self.files.take(&record);
                }
                if matches!(record, Record::Epoch(_)) {
                    self.flush();
                }
            }
            Entry::Record(Job::Append { file, bytes }) => {
                if let Err(sentence) = file.append(&bytes) {
                    self.send(News::FileFailed { sentence });
                }
            }
            Entry::LostRecords(count) => {
                let what = if count == 1 { "record is" } else { "records are" };
                let sentence = format!(
                    "{count} {what} missing in metrics.jsonl and the other files of records: the disk did not keep up"
                );
                self.report("records_lost", sentence);
            }
            Entry::CaughtUp(lost) => self.report("disk_caught_up", caught_up(lost)),
        }
    }

    fn step(&mut self, step: u64, values: &[u8]) {
        crash::point("log", step);
        let digest = digest_of_bytes(values);
        // Steps that found no room are reported when the disk has caught up.
        let skipped = self.newest.is_some_and(|(newest, _)| newest + 1 < step);
        self.newest = Some((step, digest));
        let committed = self.journal.committed(step, digest.0);
        crash::point("logged", step);
        if skipped {
            self.journal_notes(|note| !matches!(note, Note::Gap { .. }));
        } else {
            self.report_notes();
        }
        if let Err(error) = committed {
            self.failed(error);
        }
    }

    fn save(&mut self, Save { after, values, progress }: Save) {
        if self.contradicted {
            return;
        }
        // A resumed run does not record again what comes before its checkpoint.
        self.flush();
        let digest = match self.newest {
            Some((step, digest)) if step == after.step => digest,
            _ => digest_of_bytes(&values),
        };
        copy_from_le_bytes(&values, &mut self.weights);
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
        self.report_notes();
        match saved {
            Ok(()) => self.send(News::Saved { sentence: format!("the state after {after} is saved") }),
            Err(JournalError::NotSaved(error)) => {
                let sentence = format!(
                    "the state after {after} is not saved: {error}; training goes on, and the next is tried"
                );
                self.send(News::NotSaved { sentence });
            }
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: JournalError) {
        let sentence = error.to_string();
        match error {
            JournalError::Contradicted { step, .. } => {
                self.contradicted = true;
                self.send(News::Contradicted { step, sentence });
            }
            JournalError::Superseded(error) => {
                // All files are the other coordinator's now.
                self.over = true;
                if let Error::Superseded { term, .. } = error {
                    self.send(News::Superseded { term, sentence });
                }
            }
            JournalError::NotSaved(_) => self.send(News::NotSaved { sentence }),
        }
    }

    fn report_notes(&mut self) {
        self.journal_notes(|_| true);
    }

    fn journal_notes(&mut self, wanted: impl Fn(&Note) -> bool) {
        for note in self.journal.take_notes() {
            if wanted(&note) {
                let kind = match note {
                    Note::LogFailed { .. } | Note::Unreadable { .. } => "log_failed",
                    Note::LogGoesOn { .. } => "log_goes_on",
                    // The cause was reported when it occurred.
                    Note::Gap { .. } => "steps_missing",
                    Note::NotRemoved(_) => "checkpoint_stays",
                };
                self.report(kind, note.to_string());
            }
        }
    }

    fn flush(&mut self) {
        for error in self.files.flush() {
            self.send(News::FileFailed { sentence: error.to_string() });
        }
    }

    fn report(&self, kind: &'static str, sentence: String) {
        self.send(News::Event { kind, sentence });
    }

    fn send(&self, news: News) {
        // The loop may be over.
        let _ = self.news.send(news);
    }
}

fn caught_up(LostSteps { first, last, count }: LostSteps) -> String {
    let steps = match last - first + 1 {
        1 => format!("step {first} has"),
        all if all == count => format!("the steps {first} to {last} have"),
        _ => format!("{count} of the steps {first} to {last} have"),
    };
    format!("the disk has caught up: {steps} no record in steps.log")
}
