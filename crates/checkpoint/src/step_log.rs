//! The append-only log of steps, `steps.log`: one checksummed, chained record for each completed step.
//!
//! Owns how the log is begun, opened after a crash and appended to. Nothing is ever silently deleted from it: what is
//! damaged is set aside in a file beside it. After a failed write or fsync it takes no more records: what has become of
//! the bytes is unknown, and asking again proves nothing. Never says that a record is durable before
//! [`StepLog::sync`] has returned.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use crate::{
    Error, Files, History, Kind, LogHeader, Record, Writable,
    atomic::{replace, sync_folder_of},
    history::{MAX_LOG_BYTES, scan},
    record::{Order, RECORD_BYTES},
    write_atomically_on,
};

/// A log that is damaged so often has a disk to be replaced first.
const MAX_SET_ASIDE: u32 = 1000;

/// A log open for appending; one process at a time, which holds the run's lock.
pub struct StepLog {
    path: PathBuf,
    file: Box<dyn Writable>,
    order: Order,
    /// SHA-256 of the last record, or of the header.
    previous: [u8; 32],
    bytes: u64,
    /// The first failure: its part, and the system's reason.
    failed: Option<(&'static str, Arc<io::Error>)>,
}

impl StepLog {
    /// Begins a new log at `path`; it is durable when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], also if something is called so already, and [`Error::Corrupt`].
    pub fn create(files: &dyn Files, path: &Path, header: &LogHeader) -> Result<Self, Error> {
        if files.exists(path).map_err(Error::read(path))? {
            let taken = io::Error::new(io::ErrorKind::AlreadyExists, "there is one already");
            return Err(Error::write(path, "creating the log")(taken));
        }
        Ok(Self::open(files, path, header)?.0)
    }

    /// Opens the log at `path` and says what is in it; begins a new one if there is none. Damaged bytes are set aside
    /// in `<path>.damaged-<n>`, and everything from the first of them on is gone from the log.
    ///
    /// What is kept is written to a new file in the log's place, so that all of the history is durable when this
    /// returns: the process before may have got an error from fsync, after which its file can be read but not trusted.
    ///
    /// # Errors
    ///
    /// [`Error::OtherLog`] for another run's log; [`Error::Read`], [`Error::TooLarge`], [`Error::Write`],
    /// [`Error::Corrupt`] and [`Error::NoFreeName`] for what the disk refuses. The log is then as it was.
    pub fn open(files: &dyn Files, path: &Path, header: &LogHeader) -> Result<(Self, History), Error> {
        let fresh = header.encode();
        let bytes = match files.read(path, MAX_LOG_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fresh.to_vec(),
            read => read.map_err(Error::read_at_most(path, MAX_LOG_BYTES))?,
        };
        let mut found = scan(path, &bytes, header)?;
        let (valid, damaged) = bytes.split_at(found.valid_bytes);
        if !damaged.is_empty() {
            found.history.set_aside(set_aside(files, path, damaged)?);
        }
        let valid = if valid.is_empty() { &fresh[..] } else { valid };
        write_atomically_on(files, path, valid)?;

        let file = files.append(path).map_err(Error::write(path, "opening it for appending"))?;
        let bytes = valid.len() as u64;
        let log = Self {
            path: path.to_path_buf(),
            file,
            order: found.order,
            previous: found.previous,
            bytes,
            failed: None,
        };
        Ok((log, found.history))
    }

    /// Appends a record: the start of a coordinator of `term` that goes on after `step`, or a step that it completed,
    /// with the digest of the weights. It is durable after the next [`StepLog::sync`].
    ///
    /// # Errors
    ///
    /// [`Error::Disorder`] for a record that must not come next: nothing is written, and another one may follow.
    /// [`Error::TooLarge`] when the log is full. [`Error::LogFailed`] if the disk refuses, and from then on always.
    pub fn append(
        &mut self,
        kind: Kind,
        term: u64,
        step: u64,
        weights_digest: [u8; 32],
    ) -> Result<(), Error> {
        self.check()?;
        if self.bytes + RECORD_BYTES as u64 > MAX_LOG_BYTES {
            return Err(Error::TooLarge { path: self.path.clone(), limit: MAX_LOG_BYTES });
        }
        let record = Record { kind, term, step, weights_digest };
        let mut order = self.order;
        order.admit(&record).map_err(|disorder| Error::Disorder { path: self.path.clone(), disorder })?;

        let bytes = record.encode(&self.previous);
        if let Err(error) = self.file.write_all(&bytes) {
            return self.fail("writing", error);
        }
        self.previous = Sha256::digest(bytes).into();
        self.bytes += RECORD_BYTES as u64;
        self.order = order;
        Ok(())
    }

    /// Makes all records appended so far durable.
    ///
    /// # Errors
    ///
    /// [`Error::LogFailed`], and from then on always.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.check()?;
        match self.file.sync() {
            Ok(()) => Ok(()),
            Err(error) => self.fail("fsync", error),
        }
    }

    /// The last step that has a record; 0 if none has.
    pub fn last_step(&self) -> u64 {
        self.order.last_step()
    }

    /// The step whose record may come next. Steps before it are not recorded again: whoever replays one compares its
    /// digest with [`History::digest_of`].
    pub fn next_step(&self) -> u64 {
        self.order.next_step()
    }

    fn check(&self) -> Result<(), Error> {
        match &self.failed {
            None => Ok(()),
            Some((action, source)) => {
                Err(Error::LogFailed { path: self.path.clone(), action, source: Arc::clone(source) })
            }
        }
    }

    fn fail(&mut self, action: &'static str, error: io::Error) -> Result<(), Error> {
        self.failed = Some((action, Arc::new(error)));
        self.check()
    }
}

/// Keeps `damaged` in the first free file of a fixed sequence.
fn set_aside(files: &dyn Files, path: &Path, damaged: &[u8]) -> Result<PathBuf, Error> {
    let name = |number: u32| {
        let mut name = OsString::from(path);
        name.push(format!(".damaged-{number}"));
        PathBuf::from(name)
    };
    for number in 1..=MAX_SET_ASIDE {
        let aside = name(number);
        if !files.exists(&aside).map_err(Error::read(&aside))? {
            replace(files, &aside, damaged)?;
            // Durable before the log loses these bytes.
            sync_folder_of(files, &aside)?;
            return Ok(aside);
        }
    }
    Err(Error::NoFreeName { path: name(1), tried: MAX_SET_ASIDE })
}
