//! What a step log says: its records as read back, and what of it was damaged.
//!
//! Reads and checks a whole log in memory. Never changes a file: setting damaged bytes aside is the step log's.

use std::{
    fmt,
    fs::File,
    io,
    ops::RangeInclusive,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{
    Error, Files, Kind, LogHeader, Record, RecordFlaw,
    record::{HEADER_BYTES, Order, RECORD_BYTES, sealed},
};

/// More than eleven million steps; the whole log is held in memory when a run is resumed or verified.
pub(crate) const MAX_LOG_BYTES: u64 = 1 << 30;

/// The valid records of a step log, from its beginning to its end or to the first damaged byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    records: Vec<Record>,
    /// Where in `records` the steps are, in the order of steps.
    steps: Vec<u32>,
    damage: Option<Damage>,
}

/// What was wrong with a log. Its `Display` is one sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The log.
    pub log: PathBuf,
    /// The first record that is damaged, counted from 1; 0 is the header.
    pub record: u64,
    /// The first damaged byte, counted from 0.
    pub offset: u64,
    /// What is wrong there.
    pub flaw: RecordFlaw,
    /// Bytes from there to the end.
    pub bytes: u64,
    /// Records these bytes may hold at most, the damaged one included.
    pub records_at_most: u64,
    /// The last step whose record is intact.
    pub last_step: u64,
    /// Where these bytes are kept now; absent if the log was only looked at.
    pub set_aside: Option<PathBuf>,
}

/// A log as scanned: what it says, and what is needed to append to it.
pub(crate) struct Scan {
    pub(crate) history: History,
    pub(crate) order: Order,
    /// SHA-256 of the last valid record, or of the header.
    pub(crate) previous: [u8; 32],
    /// Bytes from the beginning that are valid; 0 if not even the header is.
    pub(crate) valid_bytes: usize,
}

impl History {
    /// Reads the log at `path` without changing anything: for looking at a run that somebody else may be writing. What
    /// is damaged, or just being written, is left out and named in [`History::damage`].
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::TooLarge`], or [`Error::OtherLog`] if it is another run's.
    pub fn read(files: &dyn Files, path: &Path, header: &LogHeader) -> Result<Self, Error> {
        let bytes = files.read(path, MAX_LOG_BYTES).map_err(Error::read_at_most(path, MAX_LOG_BYTES))?;
        Ok(scan(path, &bytes, header)?.history)
    }

    /// All valid records, as written.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What was wrong with the log, if anything.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// The digest of the weights after `step`, if that step has a record.
    pub fn digest_of(&self, step: u64) -> Option<[u8; 32]> {
        let found = self.steps.binary_search_by_key(&step, |&at| self.records[at as usize].step).ok()?;
        Some(self.records[self.steps[found] as usize].weights_digest)
    }

    /// The last step that has a record; 0 if none has.
    pub fn last_step(&self) -> u64 {
        self.steps.last().map_or(0, |&at| self.records[at as usize].step)
    }

    /// The highest term of a coordinator that has begun; 0 if none has.
    pub fn last_term(&self) -> u64 {
        self.records
            .iter()
            .filter(|record| record.kind == Kind::Start)
            .map(|record| record.term)
            .max()
            .unwrap_or(0)
    }

    /// The steps without a record, because a coordinator began behind the last one: the log had been damaged, or could
    /// not be written.
    pub fn gaps(&self) -> Vec<RangeInclusive<u64>> {
        let mut gaps = Vec::new();
        let mut settled = 0;
        for record in &self.records {
            match record.kind {
                Kind::Start if record.step > settled => {
                    gaps.push(settled + 1..=record.step);
                    settled = record.step;
                }
                Kind::Step => settled = record.step,
                Kind::Start | Kind::Other(_) => {}
            }
        }
        gaps
    }

    pub(crate) fn set_aside(&mut self, path: PathBuf) {
        if let Some(damage) = &mut self.damage {
            damage.set_aside = Some(path);
        }
    }
}

/// The newest step on record in the log at `path`, 0 if none is: a cheap look at its end while somebody else writes it.
/// Nothing but the record's own checksum is checked; [`History::read`] checks all.
///
/// # Errors
///
/// If the file cannot be read.
pub fn newest_logged_step(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut bytes = [0; RECORD_BYTES];
    // The last bytes may be part of a record, and the last records starts of coordinators.
    end -= end.saturating_sub(HEADER_BYTES as u64) % RECORD_BYTES as u64;
    while end >= (HEADER_BYTES + RECORD_BYTES) as u64 {
        end -= RECORD_BYTES as u64;
        file.read_exact_at(&mut bytes, end)?;
        if let Ok((Record { kind: Kind::Step, step, .. }, _)) = Record::decode_unchained(&bytes) {
            return Ok(step);
        }
    }
    Ok(0)
}

/// Reads all of `bytes`, the content of the log `path`, up to the first damaged one.
pub(crate) fn scan(path: &Path, bytes: &[u8], header: &LogHeader) -> Result<Scan, Error> {
    let mut scan = Scan {
        history: History::default(),
        order: Order::default(),
        previous: Sha256::digest(header.encode()).into(),
        valid_bytes: 0,
    };
    if let Err(flaw) = check_header(path, bytes, header)? {
        scan.history.damage = Some(scan.damage(path, bytes, 0, flaw));
        return Ok(scan);
    }
    scan.valid_bytes = HEADER_BYTES;
    let mut number = 0;
    while scan.valid_bytes < bytes.len() {
        number += 1;
        if let Err(flaw) = scan.take(&bytes[scan.valid_bytes..]) {
            scan.history.damage = Some(scan.damage(path, bytes, number, flaw));
            break;
        }
    }
    Ok(scan)
}

/// The outer error is another's log, the inner one a damaged header.
fn check_header(path: &Path, bytes: &[u8], header: &LogHeader) -> Result<Result<(), RecordFlaw>, Error> {
    let Some(found) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(Err(RecordFlaw::Torn { present: bytes.len(), length: HEADER_BYTES }));
    };
    if !sealed(found) {
        return Ok(Err(RecordFlaw::Checksum));
    }
    match header.difference(found) {
        None => Ok(Ok(())),
        Some((what, found, expected)) => {
            Err(Error::OtherLog { path: path.to_path_buf(), what, found, expected })
        }
    }
}

impl Scan {
    fn take(&mut self, bytes: &[u8]) -> Result<(), RecordFlaw> {
        let (record, length) = Record::decode(bytes, &self.previous)?;
        self.order.admit(&record).map_err(RecordFlaw::Disorder)?;
        if record.kind == Kind::Step {
            // The bound on the log's size keeps the number of records far below this type's.
            self.history.steps.push(self.history.records.len() as u32);
        }
        self.history.records.push(record);
        self.previous = Sha256::digest(&bytes[..length]).into();
        self.valid_bytes += length;
        Ok(())
    }

    fn damage(&self, path: &Path, bytes: &[u8], record: u64, flaw: RecordFlaw) -> Damage {
        let lost = (bytes.len() - self.valid_bytes) as u64;
        // A damaged header counts for itself, not for a record.
        let in_records = if record == 0 { lost.saturating_sub(HEADER_BYTES as u64) } else { lost };
        Damage {
            log: path.to_path_buf(),
            record,
            offset: self.valid_bytes as u64,
            flaw,
            bytes: lost,
            records_at_most: in_records.div_ceil(RECORD_BYTES as u64),
            last_step: self.order.last_step(),
            set_aside: None,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, record, offset, flaw, bytes, records_at_most, last_step, set_aside } = self;
        match record {
            0 => write!(f, "{}: the header {flaw}", log.display())?,
            _ => write!(f, "{}: record {record}, at byte {offset}, {flaw}", log.display())?,
        }
        write!(f, "; {bytes} bytes from there on, at most {records_at_most} records, are ")?;
        match set_aside {
            Some(path) => write!(f, "set aside in {}, ", path.display())?,
            None if *bytes == 0 => write!(f, "lost, ")?,
            None => write!(f, "left out, ")?,
        }
        write!(f, "and the log ends with step {last_step}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: LogHeader = LogHeader { run_id: [1; 16], identity: [2; 32] };

    /// A log of `records` (kind, term, step), each step's digest being made of its number.
    fn log(records: &[(Kind, u64, u64)]) -> Vec<u8> {
        let mut bytes = HEADER.encode().to_vec();
        let mut previous: [u8; 32] = Sha256::digest(&bytes).into();
        for &(kind, term, step) in records {
            let record = Record { kind, term, step, weights_digest: [step as u8; 32] }.encode(&previous);
            previous = Sha256::digest(record).into();
            bytes.extend(record);
        }
        bytes
    }

    fn history(bytes: &[u8]) -> History {
        scan(Path::new("steps.log"), bytes, &HEADER).unwrap().history
    }

    #[test]
    fn finds_digests_ends_and_gaps() {
        use Kind::{Other, Start, Step};
        let bytes = log(&[
            (Start, 1, 0),
            (Step, 1, 1),
            (Step, 1, 2),
            (Other(9), 1, 0),
            (Start, 2, 1),
            (Step, 2, 3),
            (Start, 4, 7),
            (Step, 4, 8),
            (Start, 5, 10),
        ]);
        let history = history(&bytes);
        assert_eq!(history.damage(), None);
        assert_eq!(history.records().len(), 9);
        assert_eq!((history.last_step(), history.last_term()), (8, 5));
        assert_eq!(history.gaps(), [4..=7, 9..=10]);
        for step in 0..12 {
            let expected = matches!(step, 1..=3 | 8).then_some([step as u8; 32]);
            assert_eq!(history.digest_of(step), expected, "step {step}");
        }
        let empty = self::history(&log(&[]));
        assert_eq!((empty.last_step(), empty.last_term(), empty.gaps()), (0, 0, vec![]));
    }

    #[test]
    fn each_flipped_byte_is_found_and_what_stands_before_it_kept() {
        let whole = log(&[(Kind::Start, 1, 0), (Kind::Step, 1, 1), (Kind::Step, 1, 2)]);
        for place in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[place] ^= 1 << (place % 8);
            let history = history(&rotten);
            let intact = place.saturating_sub(HEADER_BYTES) / RECORD_BYTES;
            let damage = history.damage().unwrap_or_else(|| panic!("byte {place} is not missed"));
            assert_eq!(history.records().len(), intact, "byte {place}");
            let (record, offset) = match place {
                0..HEADER_BYTES => (0, 0),
                _ => (intact as u64 + 1, HEADER_BYTES + intact * RECORD_BYTES),
            };
            assert_eq!((damage.record, damage.offset), (record, offset as u64), "byte {place}");
            assert_eq!(damage.bytes, (whole.len() - offset) as u64);
            assert_eq!(damage.records_at_most, 3 - intact as u64);
        }
    }

    #[test]
    fn each_torn_end_is_found() {
        let whole = log(&[(Kind::Start, 1, 0), (Kind::Step, 1, 1)]);
        for length in 0..whole.len() {
            let history = history(&whole[..length]);
            let at_a_border = [HEADER_BYTES, HEADER_BYTES + RECORD_BYTES].contains(&length);
            assert_eq!(history.damage().is_none(), at_a_border, "{length} bytes");
            let mut zeros = whole[..length].to_vec();
            zeros.resize(whole.len(), 0);
            assert!(self::history(&zeros).damage().is_some(), "zeros from byte {length}");
        }
    }

    #[test]
    fn damage_explains_itself() {
        let mut bytes = log(&[(Kind::Start, 1, 0), (Kind::Step, 1, 1), (Kind::Step, 1, 2)]);
        bytes.truncate(300);
        let mut damage = history(&bytes).damage().unwrap().clone();
        assert_eq!(
            damage.to_string(),
            "steps.log: record 3, at byte 248, is torn: 52 of 92 bytes are there; 52 bytes from there on, at most 1 \
             records, are left out, and the log ends with step 1"
        );
        damage.set_aside = Some("steps.log.damaged-1".into());
        assert!(damage.to_string().contains("are set aside in steps.log.damaged-1, and the log"), "{damage}");
        bytes[3] ^= 1;
        let damage = history(&bytes).damage().unwrap().to_string();
        assert!(
            damage.starts_with("steps.log: the header is rotten: its checksum is wrong; 300 bytes"),
            "{damage}"
        );
    }

    #[test]
    fn a_record_out_of_order_ends_the_history() {
        let history = history(&log(&[(Kind::Start, 1, 0), (Kind::Step, 1, 1), (Kind::Step, 1, 1)]));
        assert_eq!(history.last_step(), 1);
        let damage = history.damage().unwrap().to_string();
        assert!(damage.contains("does not belong there: step 1 comes where step 2 is due"), "{damage}");
    }

    #[test]
    fn anothers_log_is_refused_with_both_named() {
        let bytes = log(&[]);
        for (what, header) in [
            ("run id is 0101", LogHeader { run_id: [3; 16], ..HEADER }),
            ("identity's SHA-256 is 0202", LogHeader { identity: [3; 32], ..HEADER }),
        ] {
            let message = scan(Path::new("steps.log"), &bytes, &header).err().unwrap().to_string();
            assert!(message.contains(what) && message.contains("here it is 0303"), "{message}");
        }
    }
}
