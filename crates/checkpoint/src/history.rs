//! What a step log says as a whole: where it ends, what is missing from it and what is damaged.
//!
//! Reads the log once, in chunks, and keeps none of its records: those who want them read [`Records`], or ask
//! [`Digests`] for one step after the other.

use std::{
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Damage, Disk, Entry, Error, FileSystem, Kind, LogHeader, Record, Records,
    record::RECORD_BYTES,
    segment::{header_bytes, segment_path, segments},
};

/// What a step log says as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    damages: Vec<Damage>,
    gaps: Vec<RangeInclusive<u64>>,
    last_step: u64,
    last_term: u64,
}

/// The digests of logged steps, to be asked for in ascending order: they are read as they are needed.
#[derive(Clone)]
pub struct Digests {
    records: Option<Records>,
    /// The step read last.
    read: Option<(u64, [u8; 32])>,
}

impl History {
    /// Reads the log at `path` without changing anything: for looking at a run that somebody else may be writing. What
    /// is damaged, or just being written, is left out and named in [`History::damages`].
    ///
    /// # Errors
    ///
    /// [`Error::Read`], or [`Error::OtherLog`] if it is another run's.
    pub fn read(files: Arc<dyn FileSystem>, path: &Path, header: &LogHeader) -> Result<Self, Error> {
        Self::visit(files, path, header, |_| {})
    }

    /// [`History::read`] that shows `visit` each valid record.
    ///
    /// # Errors
    ///
    /// As [`History::read`].
    pub fn visit(
        files: Arc<dyn FileSystem>,
        path: &Path,
        header: &LogHeader,
        mut visit: impl FnMut(&Record),
    ) -> Result<Self, Error> {
        let mut history = Self::default();
        for entry in Records::open(files, path, header)? {
            let entry = entry?;
            history.add(&entry);
            if let Entry::Record(record) = &entry {
                visit(record);
            }
        }
        Ok(history)
    }

    /// What was wrong with the log, in the order in which it was found.
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// The last step that has a record; 0 if none has.
    pub fn last_step(&self) -> u64 {
        self.last_step
    }

    /// The highest term of a coordinator that has begun; 0 if none has.
    pub fn last_term(&self) -> u64 {
        self.last_term
    }

    /// The steps without a record: the log had been damaged, could not be written, or did not keep up.
    pub fn gaps(&self) -> &[RangeInclusive<u64>] {
        &self.gaps
    }

    pub(crate) fn add(&mut self, entry: &Entry) {
        match entry {
            Entry::Damage(damage) => self.damages.push(damage.clone()),
            Entry::Gap(gap) => self.gaps.push(gap.clone()),
            Entry::Record(Record { kind: Kind::Start, term, .. }) => self.last_term = *term,
            Entry::Record(Record { kind: Kind::Step, step, .. }) => self.last_step = *step,
            Entry::Record(Record { kind: Kind::Other(_), .. }) => {}
        }
    }

    /// The damaged bytes of the segment `log`, the last one of its number, were put into `aside`.
    pub(crate) fn set_aside(&mut self, log: &Path, aside: PathBuf) {
        if let Some(damage) = self.damages.iter_mut().rfind(|damage| damage.log == log) {
            damage.set_aside = Some(aside);
        }
    }
}

impl Digests {
    /// Opens the log at `path`; see [`Records::open`].
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn open(files: Arc<dyn FileSystem>, path: &Path, header: &LogHeader) -> Result<Self, Error> {
        Ok(Self { records: Some(Records::open(files, path, header)?), read: None })
    }

    /// Of no step at all.
    pub(crate) fn none() -> Self {
        Self { records: None, read: None }
    }

    /// From the step `read` on, which `records` has just given.
    pub(crate) fn from(records: Records, read: (u64, [u8; 32])) -> Self {
        Self { records: Some(records), read: Some(read) }
    }

    /// The digest of the weights after `step`, if that step has a record. No step before `step` may be asked for later.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], or [`Error::OtherLog`]; the same may be asked for again.
    pub fn of(&mut self, step: u64) -> Result<Option<[u8; 32]>, Error> {
        while self.read.is_none_or(|(read, _)| read < step) {
            let Some(entry) = self.records.as_mut().and_then(Iterator::next) else {
                // At the end; what a coordinator appends later is not looked for.
                self.records = None;
                return Ok(None);
            };
            if let Entry::Record(Record { kind: Kind::Step, step, weights_digest, .. }) = entry? {
                self.read = Some((step, weights_digest));
            }
        }
        Ok(self.read.filter(|(read, _)| *read == step).map(|(_, digest)| digest))
    }
}

/// The newest step on record in the log at `path`, 0 if none is: a cheap look at its end while somebody else writes it.
/// Nothing but the record's own checksum is checked; [`History::read`] checks all.
///
/// # Errors
///
/// If the file cannot be read.
pub fn newest_logged_step(path: &Path) -> Result<u64, Error> {
    let numbers = segments(&Disk, path)?;
    if numbers.is_empty() {
        return Err(Error::read(path)(io::ErrorKind::NotFound.into()));
    }
    // The last one may have nothing but its header yet.
    for number in numbers.into_iter().rev() {
        let segment = segment_path(path, number);
        let begin = header_bytes(number) as u64;
        let mut end = Disk.len(&segment).map_err(Error::read(&segment))?;
        // The last bytes may be part of a record, and the last records starts of coordinators.
        end -= end.saturating_sub(begin) % RECORD_BYTES as u64;
        while end >= begin + RECORD_BYTES as u64 {
            end -= RECORD_BYTES as u64;
            let bytes = Disk.read_at(&segment, end, RECORD_BYTES).map_err(Error::read(&segment))?;
            if let Ok((Record { kind: Kind::Step, step, .. }, _)) = Record::decode_unchained(&bytes) {
                return Ok(step);
            }
        }
    }
    Ok(0)
}
