//! The append-only log of steps, `steps.log` and its further segments: one checksummed, chained record for each
//! completed step.
//!
//! Owns how the log is begun, opened after a crash, appended to, and goes on in a further segment. Nothing is ever
//! silently deleted from it: what is damaged is set aside in a file beside it. After a failed write or fsync a segment
//! takes no more records: what has become of the bytes is unknown, and asking again proves nothing. The records that are
//! not durable yet are kept in memory, so that a further segment begins with them. Never says that a record is durable
//! before [`StepLog::sync`] or [`StepLog::go_on`] has returned.

use std::{
    ffi::OsString,
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use crate::{
    Digests, Entry, Error, FileSystem, History, Kind, LogHeader, Record, Records, Writable,
    atomic::{copy, sync_folder_of},
    record::RECORD_BYTES,
    segment::{Mark, SegmentHeader, segment_path, segments},
    write_atomically_on,
};

/// A new segment begins behind so many bytes, 700,000 records: resuming a run copies the last segment.
const MAX_SEGMENT_BYTES: u64 = 64 << 20;

/// Records that are not durable yet: 5 MB of memory, and minutes of training at the highest rate. Saving makes them
/// durable every few seconds.
const MAX_PENDING: usize = 1 << 16;

/// A log that is damaged so often has a disk to be replaced first.
const MAX_SET_ASIDE: u32 = 1000;

/// How much a log takes; other than [`Limits::default`] for tests only.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Records that are not durable yet.
    pub pending: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes: MAX_SEGMENT_BYTES, pending: MAX_PENDING }
    }
}

/// A log open for appending; one process at a time, which holds the run's lock.
pub struct StepLog {
    files: Arc<dyn FileSystem>,
    log: PathBuf,
    header: LogHeader,
    limits: Limits,
    /// The segment that is written.
    number: u32,
    /// Absent: it takes no more records.
    file: Option<Box<dyn Writable>>,
    /// Why it does not.
    closed: Option<Closed>,
    /// Up to where the segment is durable.
    durable: Mark,
    /// The same with all that is pending.
    end: Mark,
    /// The records that are not durable yet.
    pending: Vec<Record>,
}

/// Why a segment takes no more records.
enum Closed {
    /// It is as long as a segment is to be.
    Full,
    /// A part of a write failed, for the system's reason.
    Failed(&'static str, Arc<io::Error>),
}

/// A log as it was opened.
pub(crate) struct OpenedLog {
    pub(crate) log: StepLog,
    pub(crate) history: History,
    /// The digests of the steps behind the one that was asked for.
    pub(crate) replay: Digests,
}

impl StepLog {
    /// Begins a new log at `path`; it is durable when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], also if something is called so already, and [`Error::Corrupt`].
    pub fn create(files: Arc<dyn FileSystem>, path: &Path, header: &LogHeader) -> Result<Self, Error> {
        if files.exists(path).map_err(Error::read(path))? {
            let taken = io::Error::new(io::ErrorKind::AlreadyExists, "there is one already");
            return Err(Error::write(path, "creating the log")(taken));
        }
        Ok(Self::open(files, path, header)?.0)
    }

    /// Opens the log at `path` and says what is in it; begins a new one if there is none. Damaged bytes at its end are
    /// set aside in `<segment>.damaged-<n>`, and gone from the log; what is damaged before its last segment stays as it
    /// is.
    ///
    /// The last segment is written to a new file in its place, so that all of the history is durable when this returns:
    /// the process before may have got an error from fsync, after which its file can be read but not trusted. A segment
    /// before it counts only as far as it was made durable before the next was begun.
    ///
    /// # Errors
    ///
    /// [`Error::OtherLog`] for another run's log; [`Error::Read`], [`Error::Write`], [`Error::Corrupt`] and
    /// [`Error::NoFreeName`] for what the disk refuses. The log then says the same as before.
    pub fn open(
        files: Arc<dyn FileSystem>,
        path: &Path,
        header: &LogHeader,
    ) -> Result<(Self, History), Error> {
        let opened = Self::open_after(files, path, header, u64::MAX, Limits::default())?;
        Ok((opened.log, opened.history))
    }

    /// [`StepLog::open`], and the digests of the steps behind `step`.
    pub(crate) fn open_after(
        files: Arc<dyn FileSystem>,
        path: &Path,
        header: &LogHeader,
        step: u64,
        limits: Limits,
    ) -> Result<OpenedLog, Error> {
        let numbers = segments(&*files, path)?;
        let (mut history, mut replay) = (History::default(), None);
        let (mut number, mut mark) = (0, SegmentHeader::first().after);
        if !numbers.is_empty() {
            let mut records = Records::open(Arc::clone(&files), path, header)?;
            while let Some(entry) = records.next().transpose()? {
                history.add(&entry);
                if let Entry::Record(Record { kind: Kind::Step, step: read, weights_digest, .. }) = entry
                    && read > step
                {
                    replay.get_or_insert_with(|| Digests::from(records.clone(), (read, weights_digest)));
                }
            }
            (number, mark) = (records.segment(), *records.mark());
        }
        set_wrecks_aside(&*files, path, &numbers, number, &mut history)?;
        if number == 0 {
            let fresh = SegmentHeader::first();
            let bytes = fresh.encode(header);
            write_atomically_on(&*files, path, &bytes)?;
            (number, mark) = (1, fresh.mark(&bytes));
        } else {
            keep_valid(&*files, &segment_path(path, number), mark.bytes, &mut history)?;
        }
        let segment = segment_path(path, number);
        let file = files.append(&segment).map_err(Error::write(&segment, "opening it for appending"))?;
        let log = Self {
            files,
            log: path.to_path_buf(),
            header: *header,
            limits,
            number,
            file: Some(file),
            closed: None,
            durable: mark,
            end: mark,
            pending: Vec::new(),
        };
        Ok(OpenedLog { log, history, replay: replay.unwrap_or_else(Digests::none) })
    }

    /// Appends a record: the start of a coordinator of `term` that goes on after `step`, or a step that it completed,
    /// with the digest of the weights. It is durable after the next [`StepLog::sync`] or [`StepLog::go_on`]; while the
    /// segment takes no more records, it is only kept in memory until then.
    ///
    /// # Errors
    ///
    /// [`Error::Disorder`] for a record that must not come next, and [`Error::LogFailed`] if the segment has failed and
    /// as many records as may be are waiting: it is as if this one had never been handed in.
    pub fn append(
        &mut self,
        kind: Kind,
        term: u64,
        step: u64,
        weights_digest: [u8; 32],
    ) -> Result<(), Error> {
        let record = Record { kind, term, step, weights_digest };
        let mut order = self.end.order;
        order.admit(&record).map_err(|disorder| Error::Disorder { path: self.segment(), disorder })?;
        if self.pending.len() >= self.limits.pending {
            self.sync()?;
        }
        self.pending.push(record);
        let bytes = record.encode(&self.end.previous);
        let written = self.end.bytes + RECORD_BYTES as u64;
        self.end = Mark { bytes: written, previous: Sha256::digest(bytes).into(), order };
        if let Some(file) = &mut self.file {
            if written > self.limits.segment_bytes {
                (self.file, self.closed) = (None, Some(Closed::Full));
            } else if let Err(error) = file.write_all(&bytes) {
                self.fail("writing", error);
            }
        }
        Ok(())
    }

    /// Makes all records appended so far durable.
    ///
    /// # Errors
    ///
    /// [`Error::LogFailed`] if the segment takes no more records, or fails now; what remains is [`StepLog::go_on`].
    pub fn sync(&mut self) -> Result<(), Error> {
        if !self.pending.is_empty()
            && let Some(file) = &mut self.file
        {
            match file.sync() {
                Ok(()) => {
                    self.durable = self.end;
                    self.pending.clear();
                }
                Err(error) => self.fail("fsync", error),
            }
        }
        self.failure().map_or(Ok(()), Err)
    }

    /// Goes on in a further segment, which begins with all records that are not durable yet, and makes them so.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] or [`Error::Corrupt`]; it may be tried again, when the disk may have recovered.
    pub fn go_on(&mut self) -> Result<(), Error> {
        let header = SegmentHeader { number: self.number + 1, after: self.durable };
        let mut bytes = header.encode(&self.header);
        let mut previous = header.mark(&bytes).previous;
        for record in &self.pending {
            let record = record.encode(&previous);
            previous = Sha256::digest(record).into();
            bytes.extend(record);
        }
        let segment = segment_path(&self.log, header.number);
        // In place of what an earlier try may have left.
        write_atomically_on(&*self.files, &segment, &bytes)?;
        self.number = header.number;
        self.end = Mark { bytes: bytes.len() as u64, previous, order: self.end.order };
        self.durable = self.end;
        self.pending.clear();
        let file = self.files.append(&segment).map_err(Error::write(&segment, "opening it for appending"))?;
        (self.file, self.closed) = (Some(file), None);
        Ok(())
    }

    /// Whether the segment is as long as a segment is to be, and takes no more records.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.closed, Some(Closed::Full))
    }

    /// Why the segment takes no more records; `None`: it does.
    pub(crate) fn failure(&self) -> Option<Error> {
        let (action, source) = match self.closed.as_ref()? {
            Closed::Failed(action, source) => (*action, Arc::clone(source)),
            Closed::Full => ("writing", Arc::new(io::ErrorKind::FileTooLarge.into())),
        };
        Some(Error::LogFailed { path: self.segment(), action, source })
    }

    /// The steps whose records are kept in memory only, or not known to be durable.
    pub fn pending(&self) -> Option<RangeInclusive<u64>> {
        let mut steps =
            self.pending.iter().filter(|record| record.kind == Kind::Step).map(|record| record.step);
        let first = steps.next()?;
        Some(first..=steps.next_back().unwrap_or(first))
    }

    /// The file that is written now.
    pub(crate) fn segment(&self) -> PathBuf {
        segment_path(&self.log, self.number)
    }

    /// The last step that has a record; 0 if none has.
    pub fn last_step(&self) -> u64 {
        self.end.order.last_step()
    }

    /// The highest term of a coordinator that has begun; 0 if none has.
    pub fn last_term(&self) -> u64 {
        self.end.order.last_term()
    }

    /// The step whose record may come next. Steps before it are not recorded again: whoever replays one compares its
    /// digest with [`Digests::of`].
    pub fn next_step(&self) -> u64 {
        self.end.order.next_step()
    }

    fn fail(&mut self, action: &'static str, error: io::Error) {
        (self.file, self.closed) = (None, Some(Closed::Failed(action, Arc::new(error))));
    }
}

/// Sets aside what is damaged from its first byte on, behind the last segment that is not.
fn set_wrecks_aside(
    files: &dyn FileSystem,
    log: &Path,
    numbers: &[u32],
    last: u32,
    history: &mut History,
) -> Result<(), Error> {
    // From the end: a crash in between leaves no hole.
    for &number in numbers.iter().rev().take_while(|number| **number > last) {
        let wreck = segment_path(log, number);
        if number == 1 && files.len(&wreck).map_err(Error::read(&wreck))? == 0 {
            continue;
        }
        let aside = free_name(files, &wreck)?;
        files.rename(&wreck, &aside).map_err(Error::write(&aside, "setting damaged bytes aside"))?;
        sync_folder_of(files, &aside)?;
        history.set_aside(&wreck, aside);
    }
    Ok(())
}

/// Writes the first `valid` bytes of the segment to a new file in its place, and sets the others aside before.
fn keep_valid(
    files: &dyn FileSystem,
    segment: &Path,
    valid: u64,
    history: &mut History,
) -> Result<(), Error> {
    let length = files.len(segment).map_err(Error::read(segment))?;
    if length > valid {
        let aside = free_name(files, segment)?;
        copy(files, segment, valid..length, &aside)?;
        // Durable before the log loses these bytes.
        sync_folder_of(files, &aside)?;
        history.set_aside(segment, aside);
    }
    copy(files, segment, 0..valid, segment)?;
    sync_folder_of(files, segment)
}

/// The first free name of a fixed sequence for damaged bytes of the segment.
fn free_name(files: &dyn FileSystem, segment: &Path) -> Result<PathBuf, Error> {
    let name = |number: u32| {
        let mut name = OsString::from(segment);
        name.push(format!(".damaged-{number}"));
        PathBuf::from(name)
    };
    for number in 1..=MAX_SET_ASIDE {
        let aside = name(number);
        if !files.exists(&aside).map_err(Error::read(&aside))? {
            return Ok(aside);
        }
    }
    Err(Error::NoFreeName { path: name(1), tried: MAX_SET_ASIDE })
}
