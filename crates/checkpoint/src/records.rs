//! The records of a step log, one after the other, through all of its segments.
//!
//! Owns what counts as damage and where reading goes on behind it: a segment builds on a part of the one before, says so
//! in its header, and is held against what was read. Reads in chunks, so that the length of the log costs no memory.
//! Never changes a file.

use std::{
    collections::VecDeque,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use crate::{
    Damage, Error, FileSystem, Kind, LogHeader, Record, RecordFlaw,
    record::{MAX_RECORD_BYTES, RECORD_BYTES},
    segment::{FURTHER_HEADER_BYTES, Mark, SegmentHeader, header_bytes, segment_path, segments},
};

/// What is read at once: more than any record has, and little beside what a process has.
pub(crate) const CHUNK_BYTES: usize = 128 << 10;

/// What a log has next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A valid record.
    Record(Record),
    /// These steps have no record: they were not recorded, or their records are lost. Comes before whatever is next.
    Gap(RangeInclusive<u64>),
    /// A part of the log is damaged or missing, and left out.
    Damage(Damage),
}

/// The entries of a log from its beginning to its end. After an error the same entry is tried again.
#[derive(Clone)]
pub struct Records {
    files: Arc<dyn FileSystem>,
    log: PathBuf,
    header: LogHeader,
    /// The numbers of the segments that are still to come.
    ahead: VecDeque<u32>,
    /// The first of them, its header read.
    next: Option<(u32, Result<SegmentHeader, RecordFlaw>)>,
    /// The last segment that was begun or left out; 0 before the first.
    number: u32,
    /// The last one that was begun; 0 if none was.
    segment: u32,
    /// How far it was read.
    mark: Mark,
    /// Nothing before the mark was left out since the last header: the next segment must go on from it.
    intact: bool,
    /// More is to come from this segment.
    reading: bool,
    /// How many bytes of it count; `None`: all.
    end: Option<u64>,
    /// Records read from it.
    records: u64,
    buffer: Vec<u8>,
    /// Where in the buffer the mark is.
    at: usize,
    /// The file ends with the buffer.
    at_end: bool,
    found: VecDeque<Entry>,
}

impl Records {
    /// Opens the log at `log` for reading; somebody else may be writing it.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], also if there is none.
    pub fn open(files: Arc<dyn FileSystem>, log: &Path, header: &LogHeader) -> Result<Self, Error> {
        let mut ahead: VecDeque<u32> = segments(&*files, log)?.into();
        if ahead.is_empty() {
            // The system's own words, unless it was made just now.
            files.len(log).map_err(Error::read(log))?;
            ahead.push_back(1);
        }
        Ok(Self {
            files,
            log: log.to_path_buf(),
            header: *header,
            ahead,
            next: None,
            number: 0,
            segment: 0,
            mark: SegmentHeader::first().after,
            intact: true,
            reading: false,
            end: None,
            records: 0,
            buffer: Vec::new(),
            at: 0,
            at_end: false,
            found: VecDeque::new(),
        })
    }

    /// The last segment that is no wreck from its first byte on, and 0 if all are. All behind it are.
    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    /// How far that segment is valid.
    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            if let Some(entry) = self.found.pop_front() {
                return Ok(Some(entry));
            }
            self.look_ahead()?;
            if self.reading {
                self.read_record()?;
            } else if !self.begin_next()? {
                return Ok(None);
            }
        }
    }

    /// Takes the next record of this segment, or finds its end.
    fn read_record(&mut self) -> Result<(), Error> {
        if self.end == Some(self.mark.bytes) && !self.disowned() {
            self.reading = false;
            return Ok(());
        }
        self.fill()?;
        let bytes = &self.buffer[self.at..];
        if bytes.is_empty() && self.end.is_none() {
            self.reading = false;
            return Ok(());
        }
        let taken = Record::decode(bytes, &self.mark.previous).and_then(|(record, length)| {
            let mut order = self.mark.order;
            order.admit(&record).map_err(RecordFlaw::Disorder)?;
            let previous = Sha256::digest(&bytes[..length]).into();
            Ok((record, length, Mark { bytes: self.mark.bytes + length as u64, previous, order }))
        });
        match taken {
            // The next segment goes on from the middle of a valid record: it is not of this log.
            Ok((_, _, mark)) if self.end.is_some_and(|end| mark.bytes > end) => self.disown(),
            Ok((record, length, mark)) => {
                let settled = self.mark.order.settled();
                if record.kind == Kind::Start && record.step > settled {
                    self.found.push_back(Entry::Gap(settled + 1..=record.step));
                }
                self.found.push_back(Entry::Record(record));
                self.mark = mark;
                self.at += length;
                self.records += 1;
            }
            Err(flaw) => {
                let there = self.length(self.segment)?;
                let (flaw, end) = match (flaw, self.end) {
                    (RecordFlaw::Torn { .. }, Some(length)) if there < length => {
                        (RecordFlaw::Cut { present: there, length }, length)
                    }
                    (flaw, end) => (flaw, end.unwrap_or(there)),
                };
                let bytes = end.saturating_sub(self.mark.bytes);
                let record = self.records + 1;
                let damage = self.damage(self.segment, record, flaw, bytes, bytes);
                self.found.push_back(Entry::Damage(damage));
                self.intact = false;
                self.reading = false;
            }
        }
        Ok(())
    }

    /// Whether the next segment, which claims to go on from here, does not; then this one counts to its end.
    fn disowned(&mut self) -> bool {
        let next = self.next.as_ref().and_then(|(_, header)| header.as_ref().ok());
        let foreign = next.is_some_and(|header| header.after != self.mark);
        if foreign {
            self.disown();
        }
        foreign
    }

    fn disown(&mut self) {
        self.end = None;
        if let Some((_, header)) = &mut self.next {
            *header = Err(RecordFlaw::Chain);
        }
    }

    /// Begins the next segment, or leaves it out; false if there is none.
    fn begin_next(&mut self) -> Result<bool, Error> {
        let Some((number, header)) = self.next else { return Ok(false) };
        if number > self.number + 1 {
            let missing = RecordFlaw::Missing { next: number };
            let damage = self.damage(self.number + 1, 0, missing, 0, 0);
            self.found.push_back(Entry::Damage(damage));
            self.intact = false;
            self.number = number - 1;
            return Ok(true);
        }
        let header = header.and_then(|header| {
            let follows = match self.intact {
                true => header.after == self.mark,
                false => header.after.order.goes_on_from(&self.mark.order),
            };
            if follows { Ok(header) } else { Err(RecordFlaw::Chain) }
        });
        match header {
            Ok(header) => self.begin(header),
            Err(flaw) => {
                let bytes = self.length(number)?;
                let in_records = bytes.saturating_sub(header_bytes(number) as u64);
                (self.number, self.next, self.intact) = (number, None, false);
                let damage = self.damage(number, 0, flaw, bytes, in_records);
                self.found.push_back(Entry::Damage(damage));
            }
        }
        Ok(true)
    }

    fn begin(&mut self, header: SegmentHeader) {
        let before = self.mark.order.settled();
        self.mark = header.mark(&header.encode(&self.header));
        let settled = self.mark.order.settled();
        if settled > before {
            self.found.push_back(Entry::Gap(before + 1..=settled));
        }
        (self.number, self.segment, self.next) = (header.number, header.number, None);
        (self.intact, self.reading, self.end, self.records) = (true, true, None, 0);
        (self.at, self.at_end) = (0, false);
        self.buffer.clear();
    }

    /// Reads the header of the segment after this one, which says how much of this one counts.
    fn look_ahead(&mut self) -> Result<(), Error> {
        if self.next.is_none()
            && let Some(&number) = self.ahead.front()
        {
            let path = self.path(number);
            let bytes = self.files.read_at(&path, 0, FURTHER_HEADER_BYTES).map_err(Error::read(&path))?;
            let header = SegmentHeader::decode(&path, &bytes, &self.header, number)?;
            if self.reading && number == self.number + 1 {
                self.end = header.ok().map(|header| header.after.bytes);
            }
            self.next = Some((number, header));
            self.ahead.pop_front();
        }
        Ok(())
    }

    /// Has at least one record in the buffer, if the file has one.
    fn fill(&mut self) -> Result<(), Error> {
        let left = self.buffer.len() - self.at;
        if left < MAX_RECORD_BYTES && !self.at_end {
            let path = self.path(self.segment);
            let more = self.files.read_at(&path, self.mark.bytes + left as u64, CHUNK_BYTES);
            let more = more.map_err(Error::read(&path))?;
            self.at_end = more.len() < CHUNK_BYTES;
            self.buffer.drain(..self.at);
            self.buffer.extend(more);
            self.at = 0;
        }
        Ok(())
    }

    fn damage(&self, number: u32, record: u64, flaw: RecordFlaw, bytes: u64, in_records: u64) -> Damage {
        let next = self.next.map(|(number, _)| number).or(self.ahead.front().copied());
        Damage {
            log: self.path(number),
            record,
            offset: if record == 0 { 0 } else { self.mark.bytes },
            flaw,
            bytes,
            records_at_most: in_records.div_ceil(RECORD_BYTES as u64),
            last_step: self.mark.order.last_step(),
            followed_by: next.map(|number| self.path(number)),
            set_aside: None,
        }
    }

    fn path(&self, number: u32) -> PathBuf {
        segment_path(&self.log, number)
    }

    fn length(&self, number: u32) -> Result<u64, Error> {
        let path = self.path(number);
        self.files.len(&path).map_err(Error::read(&path))
    }
}

impl Iterator for Records {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, Disorder, record::seal};

    const HEADER: LogHeader = LogHeader { run_id: [1; 16], identity: [2; 32] };

    /// The entries of a log whose records are `records`, chained.
    fn read(records: impl Iterator<Item = Vec<u8>>) -> Vec<Entry> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.log");
        let mut bytes = HEADER.encode().to_vec();
        let mut previous: [u8; 32] = Sha256::digest(&bytes).into();
        for mut record in records {
            let chained = record.len() - 36;
            record[chained..chained + 32].copy_from_slice(&previous);
            seal(&mut record);
            previous = Sha256::digest(&record).into();
            bytes.extend(record);
        }
        std::fs::write(&path, bytes).unwrap();
        Records::open(Arc::new(Disk), &path, &HEADER).unwrap().map(Result::unwrap).collect()
    }

    fn record(kind: Kind, step: u64) -> Record {
        Record { kind, term: 1, step, weights_digest: [0; 32] }
    }

    fn bytes(kind: Kind, step: u64) -> Vec<u8> {
        record(kind, step).encode(&[0; 32]).to_vec()
    }

    #[test]
    fn a_record_out_of_order_ends_the_log() {
        let records = [(Kind::Start, 0), (Kind::Step, 1), (Kind::Step, 1)];
        let entries = read(records.into_iter().map(|(kind, step)| bytes(kind, step)));
        let [Entry::Record(_), Entry::Record(_), Entry::Damage(damage)] = &entries[..] else {
            panic!("{entries:?}")
        };
        let expected = RecordFlaw::Disorder(Disorder::Step { step: 1, expected: 2 });
        assert_eq!((damage.flaw, damage.last_step), (expected, 1));
    }

    /// Of a later version of this program; the border of a chunk falls anywhere in one.
    #[test]
    fn records_of_any_length_are_read_and_skipped() {
        let lengths = [RECORD_BYTES, 1000, MAX_RECORD_BYTES, 40_000, MAX_RECORD_BYTES, 93];
        let longer = lengths.iter().cycle().take(60).map(|length| {
            let mut record = bytes(Kind::Other(9), 0);
            record.splice(56..56, std::iter::repeat_n(1, length - RECORD_BYTES));
            record[..4].copy_from_slice(&(*length as u32).to_le_bytes());
            record
        });
        let ends = [(Kind::Start, 0), (Kind::Step, 1)].map(|(kind, step)| bytes(kind, step));
        let entries = read(longer.chain(ends));
        assert_eq!(entries.len(), 62);
        assert_eq!(entries[61], Entry::Record(record(Kind::Step, 1)));
    }
}
