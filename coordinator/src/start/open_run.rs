//! A run that this process has opened: its directory and lock, its configuration and token, its journal, and the point
//! where an earlier process of it has got to.
//!
//! Lock, configuration and term are on disk before workers may join.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use lockstep_checkpoint::{
    Disk, JournalPaths, LastTask, LogHeader, Opened, RunLock, sweep_temporaries, write_atomically,
};
use lockstep_control::{Task, TaskKind, TaskOrder};
use lockstep_model::digest;
use lockstep_proto::{RunId, Token};
use lockstep_records::{Status, Summary};
use lockstep_run_directory::identity::{RunIdentity, StoredIdentity};
use lockstep_run_directory::model_file::weights_of;
use lockstep_run_directory::newest_weights::final_model;
use lockstep_run_directory::{Created, INITIAL_WEIGHTS, RunDirectory, RunDirectoryError};
use lockstep_telemetry::Restored;

use crate::crashing_disk::CrashingDisk;
use crate::observe::RunTotals;
use crate::settings::Settings;
use crate::start::initial_weights::Initial;

/// A run's directory, held by this process.
pub(crate) struct OpenRun {
    /// The directory.
    pub directory: RunDirectory,
    /// The run's random id.
    pub run_id: RunId,
    /// Why the run trains on generated digits, if nobody asked for them.
    pub fallback: Option<String>,
    /// The files that this start has made: removed at its drop, unless they are kept. Fields drop in order, so the lock is
    /// held meanwhile.
    pub created: Created,
    /// It is released with the process.
    _lock: RunLock,
}

/// The point where a run goes on, or its very start.
pub(crate) struct ResumePoint {
    /// The journal of this process.
    pub journal: lockstep_checkpoint::Journal,
    /// The term of this process.
    pub term: u64,
    /// The weights to begin with.
    pub weights: Box<[f32]>,
    /// The last task done; `None` at the very start.
    pub done: Option<Task>,
    /// Counts and results of earlier processes.
    pub totals: RunTotals,
}

impl OpenRun {
    /// Opens the run to be resumed.
    ///
    /// # Errors
    ///
    /// If another coordinator holds it.
    pub fn resume(resume: &crate::settings::Resume) -> Result<Self> {
        let directory = RunDirectory::open(&resume.directory)?;
        let open = Self::hold(directory, RunId(resume.stored.run_id), resume.stored.fallback.clone())?;
        // What a killed process was about to write.
        sweep_temporaries(&Disk, open.directory.path())?;
        Ok(open)
    }

    /// Makes the directory of a new run, which trains on generated digits for the reason `fallback` if there is one.
    ///
    /// # Errors
    ///
    /// If it exists, or cannot be written; nothing is left then.
    pub fn create(
        settings: &Settings,
        identity: &RunIdentity,
        fallback: Option<String>,
        initial: &Initial,
    ) -> Result<Self> {
        let run_id = RunId(random()?);
        let path = settings.run_dir.clone().unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            RunDirectory::default_path(now.as_secs(), &run_id.0)
        });
        let open = Self::hold(RunDirectory::create(&path)?, run_id, fallback)?;
        // Another process may have begun a run here between the look and the lock.
        RunDirectory::create(&path).inspect_err(|error| {
            if matches!(error, RunDirectoryError::Exists { .. }) {
                open.created.keep();
            }
        })?;
        // The weights first: what has a configuration is a run, and can be gone on with.
        initial.keep(&open.directory)?;
        open.write_config(settings, identity)?;
        Ok(open)
    }

    /// Locks the directory; nothing is left of that if it cannot be had.
    fn hold(directory: RunDirectory, run_id: RunId, fallback: Option<String>) -> Result<Self> {
        let was_locked_before = directory.lock().exists();
        let lock = RunLock::acquire(directory.path());
        // Another's lock is another's file.
        let held_by_another = matches!(lock, Err(lockstep_checkpoint::Error::Locked { .. }));
        let seen = lock.map_err(anyhow::Error::from).and_then(|lock| {
            let created = Created::in_directory(&directory, was_locked_before);
            let created =
                created.with_context(|| format!("cannot look into {}", directory.path().display()))?;
            Ok((created, lock))
        });
        match seen {
            Ok((created, lock)) => {
                warn_of(&lock);
                Ok(Self { directory, run_id, fallback, created, _lock: lock })
            }
            Err(error) => {
                if !was_locked_before && !held_by_another {
                    let _ = std::fs::remove_file(directory.lock());
                }
                directory.discard();
                Err(error)
            }
        }
    }

    /// The run as its `config.toml` names it.
    pub fn stored(&self, identity: &RunIdentity) -> StoredIdentity {
        StoredIdentity { run_id: self.run_id.0, identity: identity.clone(), fallback: self.fallback.clone() }
    }

    /// Writes the settings as they are now, and makes the folder of logs.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub fn write_config(&self, settings: &Settings, identity: &RunIdentity) -> Result<()> {
        // The next run with these settings begins with the same weights, whatever has become of the file they came from.
        let init = identity.initial_weights.as_ref().map(|_| INITIAL_WEIGHTS.into());
        let settings = Settings { init, ..settings.clone() };
        let text = settings.to_toml(&self.stored(identity));
        if let Some(path) = settings.data_dir.as_ref().filter(|_| !text.contains("\ndata-dir = ")) {
            tracing::warn!(
                "config.toml cannot keep the name of the data folder {}, which is not UTF-8: give --data-dir again \
                 whenever this run is gone on with",
                path.display()
            );
        }
        self.created.replace(&self.directory.config());
        write_atomically(&self.directory.config(), text.as_bytes())?;
        match std::fs::create_dir(self.directory.logs()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(error).context("cannot create the folder of logs")
            }
            _ => Ok(()),
        }
    }

    /// Removes the page about an earlier end of a run that goes on; `coordinator report` makes one at any time.
    pub fn discard_report(&self) {
        let path = self.directory.report();
        self.created.replace(&path);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{} is of an earlier end of this run, and stays: {error}", path.display());
        }
    }

    /// The summary of a run that is finished and has its model: there is nothing to go on with.
    ///
    /// # Errors
    ///
    /// If there is one and it cannot be read.
    pub fn finished(&self, settings: &Settings) -> Result<Option<Summary>> {
        let path = self.directory.summary();
        if !path.exists() {
            return Ok(None);
        }
        let summary = Summary::read(&path)?;
        let all_epochs = settings.epochs.get() <= summary.epochs;
        let all_steps = settings.max_steps.is_some_and(|most| most.get() <= summary.steps);
        if summary.status != Status::Done || !(all_epochs || all_steps) {
            return Ok(None);
        }
        match final_model(&self.directory, &summary) {
            Ok(_) => Ok(Some(summary)),
            Err(flaw) => {
                tracing::warn!("the run is done, but {flaw}: its end is done again");
                Ok(None)
            }
        }
    }

    /// The token that workers join with: as given, else as an earlier process of the run has made it, else a new one.
    ///
    /// # Errors
    ///
    /// If there is no randomness, or the file that keeps it cannot be written or read.
    pub fn token(&self, settings: &Settings) -> Result<Token> {
        if let Some(token) = &settings.token {
            return Ok(token.clone());
        }
        if settings.listen.is_none() {
            return Ok(Token::from_random(random()?));
        }
        // Workers that wait for the coordinator to come back know the old one.
        let path = self.directory.token();
        match std::fs::read_to_string(&path) {
            Ok(text) => Token::new(text.trim_end())
                .with_context(|| format!("{} is damaged; remove it", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = Token::from_random(random()?);
                File::options()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)
                    .and_then(|mut file| writeln!(file, "{}", token.reveal()))
                    .with_context(|| format!("cannot write {}", path.display()))?;
                Ok(token)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Opens the journal and finds where the run is to go on; without a checkpoint, from its `initial` weights.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or written, or has gone further than the last step.
    pub fn resume_point(
        &self,
        settings: &Settings,
        identity: &RunIdentity,
        tasks: &TaskOrder,
        initial: Box<[f32]>,
    ) -> Result<ResumePoint> {
        let opened = self.open_journal(identity, &initial)?;
        for note in &opened.notes {
            tracing::warn!("{note}");
        }
        let mut point = ResumePoint {
            journal: opened.journal,
            term: opened.term,
            weights: initial,
            done: None,
            totals: RunTotals::default(),
        };
        if let Some((manifest, model)) = &opened.restored {
            point.weights = weights_of(model).map_err(anyhow::Error::msg)?;
            point.totals = RunTotals::resumed(manifest);
            let kind = match manifest.last_task {
                // An earlier process may have ended the run here, where no epoch ends: then it was validated too early.
                LastTask::Validation if tasks.ends_epoch(manifest.step) => TaskKind::Validate,
                LastTask::Step | LastTask::Validation => TaskKind::Train,
            };
            point.done = Some(Task { kind, step: manifest.step });
            if manifest.step > tasks.steps {
                bail!(
                    "the run has done {} steps already, and is to end after {}; raise --max-steps or --epochs",
                    manifest.step,
                    tasks.steps
                );
            }
        }
        if settings.resume.is_some() {
            tracing::info!(
                "resuming run {} in term {} after step {}; steps up to {} are replayed and held against the log",
                self.run_id,
                opened.term,
                point.totals.steps,
                opened.last_logged.max(point.totals.steps),
            );
        }
        Ok(point)
    }

    fn open_journal(&self, identity: &RunIdentity, initial: &[f32]) -> Result<Opened> {
        let identity = serde_json::to_string(identity).context("the identity as JSON")?;
        let paths = JournalPaths {
            log: self.directory.steps_log(),
            checkpoints: self.directory.checkpoints(),
            term: self.directory.term(),
        };
        let opened = lockstep_checkpoint::Journal::open(
            Arc::new(CrashingDisk::of_journal()),
            &paths,
            &LogHeader::new(self.run_id.0, &identity),
            digest(initial).0,
            &|model| Ok(digest(&weights_of(model)?).0),
        )?;
        Ok(opened)
    }
}

impl ResumePoint {
    /// The point up to which records of steps and events stay as they are.
    pub fn restored(&self, tasks: &TaskOrder) -> Restored {
        let validated =
            tasks.validate.is_none() || self.done.is_some_and(|done| done.kind == TaskKind::Validate);
        Restored { step: self.totals.steps, validated }
    }
}

fn warn_of(lock: &RunLock) {
    if let Some(note) = lock.note() {
        tracing::warn!("{note}");
    }
}

fn random() -> Result<[u8; 16]> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).context("the system has no random bits")?;
    Ok(bits)
}
