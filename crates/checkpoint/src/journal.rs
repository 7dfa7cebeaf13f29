//! The journal of a run: its step log and its checkpoints together, and the one way to go on from them.
//!
//! Owns the order in which things become durable: the term before anything of it, the log before a checkpoint that
//! it leads to. Replayed steps are held against the log. A log that fails goes on in a further segment as soon as the
//! disk takes one, and steps that got no record are left out and told of. Has no thread and no clock.

use std::{ops::RangeInclusive, path::PathBuf, sync::Arc};

use crate::{
    Checkpoints, Digests, Error, FileSystem, Kind, LogHeader, Manifest, Note, State, StepLog, StoredModel,
    Tensor, hex,
    step_log::{Limits, OpenedLog},
    stored::DigestOf,
    term::{advance_term, check_term, remove_claims_below},
};

/// Where a run keeps its journal.
#[derive(Clone, Debug)]
pub struct JournalPaths {
    /// The step log; further segments are beside it.
    pub log: PathBuf,
    /// The folder of checkpoints.
    pub checkpoints: PathBuf,
    /// The fencing counter; claims of terms are beside it.
    pub term: PathBuf,
}

/// The journal of one process of a run, which holds the run's lock.
pub struct Journal {
    files: Arc<dyn FileSystem>,
    paths: JournalPaths,
    log: StepLog,
    checkpoints: Checkpoints,
    term: u64,
    /// Steps beyond the restored one that the log has already, up to `last_logged`.
    replay: Digests,
    last_logged: u64,
    notes: Vec<Note>,
    /// The log's failure has been told of, and it has not gone on since.
    log_failed: bool,
    /// The replay's last step could not be read from the log, and that has been told of.
    unreadable: bool,
}

/// A journal that was opened, and what it says.
pub struct Opened {
    /// To go on with.
    pub journal: Journal,
    /// The term of this process, durable and higher than any before.
    pub term: u64,
    /// The newest valid checkpoint; `None`: the run begins with its initial weights.
    pub restored: Option<(Manifest, StoredModel)>,
    /// What was damaged, missing or fallen back over: sentences for people.
    pub notes: Vec<String>,
    /// The last step that the log has: up to there steps are replayed and held against it.
    pub last_logged: u64,
}

/// What became of a committed step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It has a record now.
    Appended,
    /// Steps before it were never handed in, or found no room: recording goes on behind this one. [`Note::Gap`] says so.
    Resumed {
        /// The steps that have no record, this one included.
        missing: RangeInclusive<u64>,
    },
    /// It had one already, with the same digest.
    Proved,
    /// It has none and gets none: the log cannot be written and no more records may wait, or has told that this step has
    /// no record, or cannot be read.
    Unrecorded,
}

/// The journal cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The replay of a step gave other weights than its record says: hardware or program computed wrongly, then or now.
    #[error(
        "step {step} was computed again and gave weights with the digest {actual}, but this run's log has {logged} for \
         it: one of the two was computed wrongly, or the log belongs to other data"
    )]
    Contradicted {
        /// The step.
        step: u64,
        /// The digest in the log, as hex.
        logged: String,
        /// The digest now, as hex.
        actual: String,
    },
    /// [`Error::Superseded`]: another coordinator has taken over. Nothing more is written, now or later.
    #[error(transparent)]
    Superseded(Error),
    /// The checkpoint could not be saved; a later one may be.
    #[error(transparent)]
    NotSaved(Error),
}

impl Journal {
    /// Opens the journal of a run, new or old, for a new process: claims a term, finds the newest valid checkpoint, and
    /// records the start. `initial` is the digest of the initial weights, `digest_of` that of stored ones.
    ///
    /// # Errors
    ///
    /// [`Error::TermTaken`] if another process does the same in the same moment; otherwise whatever keeps the journal
    /// from being read or the start from being durable. Nothing is lost then.
    pub fn open(
        files: Arc<dyn FileSystem>,
        paths: &JournalPaths,
        header: &LogHeader,
        initial: [u8; 32],
        digest_of: DigestOf,
    ) -> Result<Opened, Error> {
        Self::open_limited(files, paths, header, initial, digest_of, Limits::default())
    }

    /// [`Journal::open`] with a log that takes less.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn open_limited(
        files: Arc<dyn FileSystem>,
        paths: &JournalPaths,
        header: &LogHeader,
        initial: [u8; 32],
        digest_of: DigestOf,
        limits: Limits,
    ) -> Result<Opened, Error> {
        // Before anything is written: whoever is beaten to the term must leave the log as it is.
        let mut term = advance_term(&*files, &paths.term, 0)?;
        let mut checkpoints = Checkpoints::open(Arc::clone(&files), &paths.checkpoints, header.run_id)?;
        let newest = checkpoints.newest(digest_of);
        let manifest = newest.found.as_ref().map(|(manifest, _)| manifest);
        let (step, digest) =
            manifest.map_or((0, initial), |manifest| (manifest.step, manifest.weights_digest));
        let OpenedLog { log, history, replay } =
            StepLog::open_after(Arc::clone(&files), &paths.log, header, step, limits)?;

        let known_term = manifest.map_or(0, |manifest| manifest.term).max(log.last_term());
        if term <= known_term {
            // The term file was lost.
            term = advance_term(&*files, &paths.term, known_term)?;
        }
        let mut notes: Vec<String> = history.damages().iter().map(ToString::to_string).collect();
        notes.extend(newest.rejected.iter().map(ToString::to_string));
        let last_logged = history.last_step();
        if step > last_logged && last_logged > 0 {
            notes.push(format!(
                "the log ends with step {last_logged}, before the checkpoint of step {step}: the steps between have no \
                 record"
            ));
        }
        let mut journal = Self {
            files,
            paths: paths.clone(),
            log,
            checkpoints,
            term,
            replay,
            last_logged,
            notes: Vec::new(),
            log_failed: false,
            unreadable: false,
        };
        journal.log.append(Kind::Start, term, step, digest)?;
        if journal.log.sync().is_err() {
            journal.log.go_on()?;
        }
        remove_claims_below(&*journal.files, &paths.term, term);
        Ok(Opened { journal, term, restored: newest.found, notes, last_logged })
    }

    /// Records a committed step, or holds it against the record that it has. Steps come in ascending order; those that
    /// are left out have no record.
    ///
    /// # Errors
    ///
    /// [`JournalError::Contradicted`] or [`JournalError::Superseded`]. A log that fails is none: see
    /// [`Journal::take_notes`].
    pub fn committed(&mut self, step: u64, digest: [u8; 32]) -> Result<Proof, JournalError> {
        if step <= self.last_logged {
            return self.replayed(step, digest);
        }
        // A step in a gap that the log has told of: its record would come out of order.
        if step < self.log.next_step() {
            return Ok(Proof::Unrecorded);
        }
        let due = self.log.next_step();
        let kind = if step > due { Kind::Start } else { Kind::Step };
        let appended = self.log.append(kind, self.term, step, digest);
        if self.log.is_full() && !self.log_failed {
            self.go_on()?;
        } else if let Some(failure) = self.log.failure() {
            self.note_failure(failure);
        }
        if appended.is_err() {
            return Ok(Proof::Unrecorded);
        }
        if kind == Kind::Step {
            return Ok(Proof::Appended);
        }
        let missing = due..=step;
        self.notes.push(Note::Gap { missing: missing.clone() });
        Ok(Proof::Resumed { missing })
    }

    /// Holds a step that may have a record against it.
    fn replayed(&mut self, step: u64, digest: [u8; 32]) -> Result<Proof, JournalError> {
        match self.replay.of(step) {
            Ok(Some(logged)) if logged == digest => Ok(Proof::Proved),
            Ok(Some(logged)) => {
                let (logged, actual) = (hex::encode(&logged), hex::encode(&digest));
                Err(JournalError::Contradicted { step, logged, actual })
            }
            Ok(None) => Ok(Proof::Unrecorded),
            Err(error) => {
                if !std::mem::replace(&mut self.unreadable, true) {
                    self.notes.push(Note::Unreadable { step, error });
                }
                Ok(Proof::Unrecorded)
            }
        }
    }

    /// Saves a checkpoint, durably, after the log that leads to it, and removes the oldest. `state.term` is this
    /// process' term. A log that fails is no reason not to save: the checkpoint stands for itself.
    ///
    /// # Errors
    ///
    /// [`JournalError::Superseded`], or [`JournalError::NotSaved`]: nothing is saved then, and a later state may be.
    pub fn save(&mut self, state: &State, tensors: &[Tensor]) -> Result<(), JournalError> {
        self.sync()?;
        self.checkpoints.save(state, tensors).map_err(JournalError::NotSaved)?;
        let failures = self.checkpoints.prune(crate::MIN_KEPT);
        self.notes.extend(failures.into_iter().map(Note::NotRemoved));
        Ok(())
    }

    /// Makes the records of all steps so far durable, in a further segment if this one takes no more: what it cannot is
    /// told by [`Journal::pending`].
    ///
    /// # Errors
    ///
    /// [`JournalError::Superseded`]. A log that fails is none: see [`Journal::take_notes`].
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.check_term()?;
        if self.log.sync().is_ok() {
            return Ok(());
        }
        if let Some(failure) = self.log.failure() {
            self.note_failure(failure);
        }
        self.go_on()
    }

    /// What is to be told to people since this was last asked: each failure once, and once what became of it.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// The steps whose records are not known to be durable, for the end of a run.
    pub fn pending(&self) -> Option<RangeInclusive<u64>> {
        self.log.pending()
    }

    /// Goes on in a further segment if that is possible now.
    fn go_on(&mut self) -> Result<(), JournalError> {
        self.check_term()?;
        match self.log.go_on() {
            Ok(()) => {
                if std::mem::take(&mut self.log_failed) {
                    let (segment, step) = (self.log.segment(), self.log.next_step());
                    self.notes.push(Note::LogGoesOn { segment, step });
                }
            }
            Err(error) => self.note_failure(error),
        }
        Ok(())
    }

    fn note_failure(&mut self, error: Error) {
        if !std::mem::replace(&mut self.log_failed, true) {
            self.notes.push(Note::LogFailed { error });
        }
    }

    fn check_term(&self) -> Result<(), JournalError> {
        check_term(&*self.files, &self.paths.term, self.term).map_err(JournalError::Superseded)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{Disk, LastTask, Progress};

    use super::*;

    const HEADER: LogHeader = LogHeader { run_id: [7; 16], identity: [8; 32] };

    fn digest(step: u64) -> [u8; 32] {
        [step as u8 + 100; 32]
    }

    fn open(folder: &Path) -> Opened {
        let paths = JournalPaths {
            log: folder.join("steps.log"),
            checkpoints: folder.join("checkpoints"),
            term: folder.join("term"),
        };
        let digest_of = |model: &StoredModel| Ok(digest(model.tensors[0].values[0] as u64));
        Journal::open(Arc::new(Disk), &paths, &HEADER, digest(0), &digest_of).unwrap()
    }

    fn save(journal: &mut Journal, term: u64, step: u64) {
        let state = State {
            term,
            step,
            last_task: LastTask::Step,
            weights_digest: digest(step),
            identity: serde_json::Value::Null,
            progress: Progress {
                examples: step,
                train_seconds: 0.0,
                seconds: 0.0,
                epochs: 0,
                val_loss: None,
                val_accuracy: None,
                counts: serde_json::Value::Null,
            },
        };
        journal.save(&state, &[("w", &[1], &[step as f32])]).unwrap();
        assert!(journal.take_notes().is_empty());
    }

    #[test]
    fn a_later_process_replays_proves_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path());
        assert_eq!((first.term, first.last_logged), (1, 0));
        assert!(first.restored.is_none() && first.notes.is_empty());
        let mut journal = first.journal;
        for step in 1..=5 {
            assert_eq!(journal.committed(step, digest(step)).unwrap(), Proof::Appended);
            if step == 3 {
                save(&mut journal, 1, step);
            }
        }
        drop(journal);

        let second = open(folder.path());
        assert_eq!((second.term, second.last_logged), (2, 5));
        assert_eq!(second.restored.unwrap().0.step, 3);
        let mut journal = second.journal;
        assert_eq!(journal.committed(4, digest(4)).unwrap(), Proof::Proved);
        assert_eq!(journal.committed(5, digest(5)).unwrap(), Proof::Proved);
        assert_eq!(journal.committed(6, digest(6)).unwrap(), Proof::Appended);
    }

    #[test]
    fn a_replay_with_other_weights_is_a_contradiction() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path()).journal;
        journal.committed(1, digest(1)).unwrap();
        drop(journal);
        let error = open(folder.path()).journal.committed(1, digest(9)).unwrap_err();
        assert!(matches!(error, JournalError::Contradicted { step: 1, .. }), "{error}");
    }

    #[test]
    fn a_lost_term_file_makes_no_term_go_back() {
        let folder = tempfile::tempdir().unwrap();
        (0..3).for_each(|_| drop(open(folder.path())));
        std::fs::remove_file(folder.path().join("term")).unwrap();
        std::fs::remove_file(folder.path().join("term-3")).unwrap();
        assert_eq!(open(folder.path()).term, 4);
    }

    #[test]
    fn a_step_in_an_old_gap_stops_no_later_record() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path()).journal;
        journal.committed(1, digest(1)).unwrap();
        save(&mut journal, 1, 1);
        // The log loses steps that the next checkpoint is beyond: a gap up to step 3.
        drop(journal);
        let mut journal = open(folder.path()).journal;
        save(&mut journal, 2, 3);
        drop(journal);
        let third = open(folder.path());
        assert!(third.notes.iter().any(|note| note.contains("have no record")), "{:?}", third.notes);
        drop(third);
        // The checkpoint of step 3 rots, so steps 2 and 3 are replayed.
        std::fs::write(folder.path().join("checkpoints/step-00000003-term-2.json"), "rot").unwrap();
        let fourth = open(folder.path());
        assert_eq!(fourth.restored.as_ref().unwrap().0.step, 1);
        let mut journal = fourth.journal;
        let proofs: Vec<Proof> = (2..=4).map(|step| journal.committed(step, digest(step)).unwrap()).collect();
        assert_eq!(proofs, [Proof::Unrecorded, Proof::Unrecorded, Proof::Appended]);
    }
}
