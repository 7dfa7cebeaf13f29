//! The journal of a run: its step log and its checkpoints together, and the one way to go on from them.
//!
//! Owns the order in which things become durable: the term before anything of it, the log before a checkpoint that
//! it leads to. Replayed steps are held against the log. Has no thread and no clock.

use std::{collections::VecDeque, path::PathBuf, sync::Arc};

use crate::{
    Checkpoints, Error, Files, Kind, LogHeader, Manifest, State, StepLog, StoredModel, Tensor, advance_term,
    hex, stored::DigestOf,
};

/// Where a run keeps its journal.
#[derive(Clone, Debug)]
pub struct Places {
    /// The step log.
    pub log: PathBuf,
    /// The folder of checkpoints.
    pub checkpoints: PathBuf,
    /// The fencing counter.
    pub term: PathBuf,
}

/// The journal of one process of a run, which holds the run's lock.
pub struct Journal {
    log: StepLog,
    checkpoints: Checkpoints,
    term: u64,
    /// Steps beyond the restored one that the log has already.
    logged: VecDeque<(u64, [u8; 32])>,
    /// The log failed: steps are not recorded any more.
    log_failed: bool,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It has a record now.
    Appended,
    /// It had one already, with the same digest.
    Proved,
    /// It has none and gets none: the log failed before, has told that this step has no record, or goes on with it after
    /// steps that were lost.
    Unrecorded,
}

/// A committed step could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The log takes no more records; training may go on.
    #[error("{0}; training goes on, and steps are no longer recorded")]
    Log(#[from] Error),
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
}

impl Journal {
    /// Opens the journal of a run, new or old, for a new process: advances the term, finds the newest valid
    /// checkpoint, and records the start. `initial` is the digest of the initial weights, `digest_of` that of stored
    /// ones.
    ///
    /// # Errors
    ///
    /// Whatever keeps the journal from being read or the start from being durable. Nothing is lost then.
    pub fn open(
        files: Arc<dyn Files>,
        places: &Places,
        header: &LogHeader,
        initial: [u8; 32],
        digest_of: DigestOf,
    ) -> Result<Opened, Error> {
        let (mut log, history) = StepLog::open(&*files, &places.log, header)?;
        let mut checkpoints = Checkpoints::open(Arc::clone(&files), &places.checkpoints, header.run_id)?;
        let newest = checkpoints.newest(digest_of);
        let mut notes: Vec<String> = history.damage().map(ToString::to_string).into_iter().collect();
        notes.extend(newest.rejected.iter().map(ToString::to_string));

        let (step, digest) = newest
            .found
            .as_ref()
            .map_or((0, initial), |(manifest, _)| (manifest.step, manifest.weights_digest));
        let known_term =
            newest.found.as_ref().map_or(0, |(manifest, _)| manifest.term).max(history.last_term());
        let mut term = advance_term(&*files, &places.term)?;
        while term <= known_term {
            // The term file was lost.
            term = advance_term(&*files, &places.term)?;
        }
        let logged: VecDeque<_> = (step + 1..=history.last_step())
            .filter_map(|step| history.digest_of(step).map(|digest| (step, digest)))
            .collect();
        if step > history.last_step() && history.last_step() > 0 {
            notes.push(format!(
                "the log ends with step {}, before the checkpoint of step {step}: the steps between have no record",
                history.last_step()
            ));
        }
        log.append(Kind::Start, term, step, digest)?;
        log.sync()?;
        let last_logged = history.last_step();
        let journal = Self { log, checkpoints, term, logged, log_failed: false };
        Ok(Opened { journal, term, restored: newest.found, notes, last_logged })
    }

    /// Records a committed step, or holds it against the record that it has. To be called in the order of steps; where
    /// some are left out, the log says so.
    ///
    /// # Errors
    ///
    /// [`JournalError`]; after [`JournalError::Log`] steps are [`Proof::Unrecorded`].
    pub fn committed(&mut self, step: u64, digest: [u8; 32]) -> Result<Proof, JournalError> {
        while self.logged.front().is_some_and(|(logged, _)| *logged < step) {
            self.logged.pop_front();
        }
        if let Some((_, logged)) = self.logged.pop_front_if(|(logged, _)| *logged == step) {
            if logged == digest {
                return Ok(Proof::Proved);
            }
            let (logged, actual) = (hex::encode(&logged), hex::encode(&digest));
            return Err(JournalError::Contradicted { step, logged, actual });
        }
        // A step in a gap that the log has told of: its record would come out of order.
        if self.log_failed || step < self.log.next_step() {
            return Ok(Proof::Unrecorded);
        }
        // Steps before this one were lost on their way here: a start leaves them out, and this one with them.
        let due = step == self.log.next_step();
        let kind = if due { Kind::Step } else { Kind::Start };
        self.log.append(kind, self.term, step, digest).inspect_err(|_| self.log_failed = true)?;
        Ok(if due { Proof::Appended } else { Proof::Unrecorded })
    }

    /// Saves a checkpoint, durably, after the log that leads to it, and removes the oldest. `state.term` is this
    /// process' term. Returns sentences about what could not be tidied up.
    ///
    /// # Errors
    ///
    /// Nothing is saved then, and a later state may be. A log that fails here is no reason not to save: the checkpoint
    /// stands for itself.
    pub fn save(&mut self, state: &State, tensors: &[Tensor]) -> Result<Vec<String>, Error> {
        let mut notes = Vec::new();
        if !self.log_failed
            && let Err(error) = self.log.sync()
        {
            self.log_failed = true;
            notes.push(format!("{error}; steps are no longer recorded"));
        }
        self.checkpoints.save(state, tensors)?;
        notes.extend(self.checkpoints.prune(crate::MIN_KEPT).iter().map(ToString::to_string));
        Ok(notes)
    }

    /// Makes the records of all steps so far durable.
    ///
    /// # Errors
    ///
    /// [`Error::LogFailed`].
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.log_failed { Ok(()) } else { self.log.sync() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{Disk, History, LastTask, Progress};

    use super::*;

    const HEADER: LogHeader = LogHeader { run_id: [7; 16], identity: [8; 32] };

    fn digest(step: u64) -> [u8; 32] {
        [step as u8 + 100; 32]
    }

    fn open(folder: &Path) -> Opened {
        let places = Places {
            log: folder.join("steps.log"),
            checkpoints: folder.join("checkpoints"),
            term: folder.join("term"),
        };
        let digest_of = |model: &StoredModel| Ok(digest(model.tensors[0].values[0] as u64));
        Journal::open(Arc::new(Disk), &places, &HEADER, digest(0), &digest_of).unwrap()
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
        assert_eq!(journal.save(&state, &[("w", &[1], &[step as f32])]).unwrap(), Vec::<String>::new());
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
    fn steps_that_were_lost_on_their_way_leave_a_gap_that_the_log_tells() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path()).journal;
        let proofs = [1, 4, 5].map(|step| journal.committed(step, digest(step)).unwrap());
        assert_eq!(proofs, [Proof::Appended, Proof::Unrecorded, Proof::Appended]);
        drop(journal);
        let history = History::read(&Disk, &folder.path().join("steps.log"), &HEADER).unwrap();
        assert_eq!((history.damage(), history.gaps()), (None, vec![2..=4]));
        assert_eq!(open(folder.path()).last_logged, 5);
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
