//! The bytes of a step log of one segment: its header, its records, and which record may follow which.
//!
//! Owns the format (all numbers little-endian):
//!
//! ```text
//! header, 64 bytes:  magic [8]  version u32  run id [16]  SHA-256 of the identity [32]  crc32c u32
//! record, 92 bytes:  length u32  kind u32  term u64  step u64  weights digest [32]  previous [32]  crc32c u32
//! ```
//!
//! `length` counts the whole record; `previous` is the SHA-256 of the whole record before, or of the header; a crc is
//! over all bytes before it. A later kind of record may have more bytes between the weights digest and `previous`:
//! readers that do not know it check it, keep it and skip it. Never touches a file.

use sha2::{Digest, Sha256};

pub(crate) const HEADER_BYTES: usize = 64;
/// The length of every record of today, and the least of any.
pub(crate) const RECORD_BYTES: usize = 92;
/// No kind of record needs more; a larger length is rot.
pub(crate) const MAX_RECORD_BYTES: usize = 64 << 10;

pub(crate) const MAGIC: [u8; 8] = *b"LOCKSTEP";
/// `previous` and the crc stand at the end of a record, whatever its length.
const TAIL_BYTES: usize = 32 + 4;

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHeader {
    /// The run's id.
    pub run_id: [u8; 16],
    /// SHA-256 of the text of the run's identity.
    pub identity: [u8; 32],
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A coordinator of this term begins after `step`, with weights of this digest.
    Start,
    /// `step` was completed in this term and gave weights of this digest.
    Step,
    /// A kind of a later version of this program, by its number.
    Other(u32),
}

/// One record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub kind: Kind,
    /// The coordinator's fencing counter.
    pub term: u64,
    /// The step.
    pub step: u64,
    /// The digest of the weights after `step`.
    pub weights_digest: [u8; 32],
}

/// Why bytes are no record that may stand where they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFlaw {
    /// The file ends within it.
    #[error("is torn: {present} of {length} bytes are there")]
    Torn {
        /// Bytes that are there.
        present: usize,
        /// Bytes it should have, as far as is known.
        length: usize,
    },
    /// No record has such a length.
    #[error("is rotten: it claims a length of {length} bytes")]
    Length {
        /// The length claimed.
        length: usize,
    },
    /// Its bytes are not the ones that were written.
    #[error("is rotten: its checksum is wrong")]
    Checksum,
    /// It does not follow the record before it.
    #[error("does not belong there: it names another predecessor")]
    Chain,
    /// It contradicts the records before it.
    #[error("does not belong there: {0}")]
    Disorder(Disorder),
    /// The header is that of another segment of this log.
    #[error("does not belong there: it is that of segment {number}")]
    Number {
        /// The segment it says it is.
        number: u32,
    },
    /// The file ends before the place that the next segment goes on from.
    #[error(
        "is lost: the file ends after {present} of the {length} bytes that the next segment goes on from"
    )]
    Cut {
        /// Bytes that are there.
        present: u64,
        /// Bytes that the next segment goes on from.
        length: u64,
    },
    /// The file is not there, nor are those between it and segment `next`.
    #[error("is missing")]
    Missing {
        /// The next segment that is there.
        next: u32,
    },
}

/// Why a record may not follow the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disorder {
    /// A term never goes back.
    #[error("term {term} comes after term {last}")]
    Term {
        /// The record's term.
        term: u64,
        /// The highest term before it.
        last: u64,
    },
    /// Steps belong to the coordinator that began last.
    #[error("a step of term {term} comes without the start of a coordinator of that term")]
    NotStarted {
        /// The record's term.
        term: u64,
    },
    /// There is one record for each step, and none is left out.
    #[error("step {step} comes where step {expected} is due")]
    Step {
        /// The record's step.
        step: u64,
        /// The step that may be recorded.
        expected: u64,
    },
}

/// Which records may come next: there is exactly one for each step, in order, and only a start may leave steps out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    term: Option<u64>,
    /// The last step recorded; 0 before any.
    last_step: u64,
    /// The last step that is recorded or was left out.
    settled: u64,
}

impl LogHeader {
    /// The format of the first segment of a log.
    pub(crate) const VERSION: u32 = 1;

    /// The header of the log of the run `run_id`, whose identity is written as `identity_text`.
    pub fn new(run_id: [u8; 16], identity_text: &str) -> Self {
        Self { run_id, identity: Sha256::digest(identity_text).into() }
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&Self::VERSION.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.run_id);
        bytes[28..60].copy_from_slice(&self.identity);
        seal(&mut bytes);
        bytes
    }
}

impl Record {
    /// The record as it stands after one whose SHA-256 is `previous`.
    pub(crate) fn encode(&self, previous: &[u8; 32]) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..4].copy_from_slice(&(RECORD_BYTES as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&self.kind.number().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.term.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.step.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.weights_digest);
        bytes[56..88].copy_from_slice(previous);
        seal(&mut bytes);
        bytes
    }

    /// The record at the beginning of `bytes`, which has to follow the one whose SHA-256 is `previous`, and its length.
    pub(crate) fn decode(bytes: &[u8], previous: &[u8; 32]) -> Result<(Self, usize), RecordFlaw> {
        let (record, length) = Self::decode_unchained(bytes)?;
        if bytes[length - TAIL_BYTES..length - 4] != *previous {
            return Err(RecordFlaw::Chain);
        }
        Ok((record, length))
    }

    /// The record at the beginning of `bytes`, whatever it follows, and its length.
    pub(crate) fn decode_unchained(bytes: &[u8]) -> Result<(Self, usize), RecordFlaw> {
        let torn = |length| RecordFlaw::Torn { present: bytes.len(), length };
        let length =
            bytes.get(..4).and_then(array).map(u32::from_le_bytes).ok_or(torn(RECORD_BYTES))? as usize;
        if !(RECORD_BYTES..=MAX_RECORD_BYTES).contains(&length) {
            return Err(RecordFlaw::Length { length });
        }
        let record = bytes.get(..length).ok_or(torn(length))?;
        if !sealed(record) {
            return Err(RecordFlaw::Checksum);
        }
        let kind = Kind::from_number(array(&record[4..8]).map_or(0, u32::from_le_bytes));
        // Only kinds that are not known yet are longer.
        if !matches!(kind, Kind::Other(_)) && length != RECORD_BYTES {
            return Err(RecordFlaw::Length { length });
        }
        let number = |at: usize| array(&record[at..at + 8]).map_or(0, u64::from_le_bytes);
        let weights_digest = array(&record[24..56]).unwrap_or_default();
        Ok((Self { kind, term: number(8), step: number(16), weights_digest }, length))
    }
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Self::Start => 1,
            Self::Step => 2,
            Self::Other(number) => number,
        }
    }

    fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Start,
            2 => Self::Step,
            other => Self::Other(other),
        }
    }
}

impl Order {
    /// Takes `record` as the next one.
    pub(crate) fn admit(&mut self, record: &Record) -> Result<(), Disorder> {
        let Record { kind, term, step, .. } = *record;
        match kind {
            Kind::Other(_) => {}
            Kind::Start => {
                if let Some(last) = self.term.filter(|last| term < *last) {
                    return Err(Disorder::Term { term, last });
                }
                self.term = Some(term);
                self.settled = self.settled.max(step);
            }
            Kind::Step => {
                if self.term != Some(term) {
                    return Err(Disorder::NotStarted { term });
                }
                if step != self.next_step() {
                    return Err(Disorder::Step { step, expected: self.next_step() });
                }
                self.last_step = step;
                self.settled = step;
            }
        }
        Ok(())
    }

    /// The highest term of a coordinator that has begun; 0 if none has.
    pub(crate) fn last_term(&self) -> u64 {
        self.term.unwrap_or(0)
    }

    /// The last step that is recorded or was left out.
    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }

    /// Term, last step and settled step, for a segment's header. Terms count from 1: 0 is none.
    pub(crate) fn to_numbers(self) -> [u64; 3] {
        [self.last_term(), self.last_step, self.settled]
    }

    /// What [`Order::to_numbers`] gave.
    pub(crate) fn from_numbers([term, last_step, settled]: [u64; 3]) -> Self {
        Self { term: (term > 0).then_some(term), last_step, settled }
    }

    /// Whether nothing of `before` is taken back.
    pub(crate) fn goes_on_from(&self, before: &Self) -> bool {
        self.last_term() >= before.last_term() && self.settled >= before.settled
    }

    /// The step whose record may come next.
    pub(crate) fn next_step(&self) -> u64 {
        self.settled.saturating_add(1)
    }

    pub(crate) fn last_step(&self) -> u64 {
        self.last_step
    }
}

/// Writes the crc of all bytes before it into the last four.
pub(crate) fn seal(bytes: &mut [u8]) {
    let (content, crc) = bytes.split_at_mut(bytes.len() - 4);
    crc.copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
}

/// Whether the last four bytes are the crc of all before them.
pub(crate) fn sealed(bytes: &[u8]) -> bool {
    bytes.split_last_chunk().is_some_and(|(content, crc)| crc32c::crc32c(content) == u32::from_le_bytes(*crc))
}

pub(crate) fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, term: u64, step: u64) -> Record {
        Record { kind, term, step, weights_digest: [7; 32] }
    }

    #[test]
    fn a_record_reads_back_and_its_bytes_are_fixed() {
        let written = record(Kind::Step, 3, 1_000_000);
        let bytes = written.encode(&[9; 32]);
        assert_eq!(Record::decode(&bytes, &[9; 32]), Ok((written, RECORD_BYTES)));
        assert_eq!(
            bytes[..24],
            [92, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x42, 0x0f, 0, 0, 0, 0, 0]
        );
        assert_eq!(bytes[24..88], [[7; 32], [9; 32]].concat());
        assert_eq!(bytes[88..], crc32c::crc32c(&bytes[..88]).to_le_bytes());
    }

    #[test]
    fn a_flipped_byte_or_another_predecessor_is_refused() {
        let bytes = record(Kind::Start, 1, 0).encode(&[9; 32]);
        assert_eq!(Record::decode(&bytes, &[8; 32]), Err(RecordFlaw::Chain));
        for place in 0..bytes.len() {
            for change in 1..=255 {
                let mut rotten = bytes;
                rotten[place] ^= change;
                assert!(Record::decode(&rotten, &[9; 32]).is_err(), "byte {place} ^ {change}");
            }
        }
        for present in 0..bytes.len() {
            let torn = RecordFlaw::Torn { present, length: RECORD_BYTES };
            assert_eq!(Record::decode(&bytes[..present], &[9; 32]), Err(torn));
        }
    }

    #[test]
    fn only_unknown_kinds_may_be_longer() {
        let longer = |kind: Kind| {
            let mut bytes = record(kind, 1, 5).encode(&[9; 32]).to_vec();
            bytes.splice(56..56, [1; 8]);
            bytes[..4].copy_from_slice(&100_u32.to_le_bytes());
            seal(&mut bytes);
            Record::decode(&bytes, &[9; 32])
        };
        assert_eq!(longer(Kind::Other(77)), Ok((record(Kind::Other(77), 1, 5), 100)));
        assert_eq!(longer(Kind::Step), Err(RecordFlaw::Length { length: 100 }));
    }

    #[test]
    fn what_may_follow_what() {
        let mut order = Order::default();
        let mut admit = |kind, term, step| order.admit(&record(kind, term, step));
        assert_eq!(admit(Kind::Step, 1, 1), Err(Disorder::NotStarted { term: 1 }));
        assert_eq!(admit(Kind::Start, 1, 0), Ok(()));
        assert_eq!(admit(Kind::Step, 1, 1), Ok(()));
        assert_eq!(admit(Kind::Step, 1, 1), Err(Disorder::Step { step: 1, expected: 2 }));
        assert_eq!(admit(Kind::Step, 1, 3), Err(Disorder::Step { step: 3, expected: 2 }));
        assert_eq!(admit(Kind::Step, 2, 2), Err(Disorder::NotStarted { term: 2 }));
        assert_eq!(admit(Kind::Other(9), 0, 0), Ok(()));
        // Resumed before the last record: the steps between are replayed, not recorded again.
        assert_eq!(admit(Kind::Start, 2, 0), Ok(()));
        assert_eq!(admit(Kind::Step, 2, 1), Err(Disorder::Step { step: 1, expected: 2 }));
        assert_eq!(admit(Kind::Step, 2, 2), Ok(()));
        assert_eq!(admit(Kind::Start, 1, 2), Err(Disorder::Term { term: 1, last: 2 }));
        // Resumed behind it: a gap.
        assert_eq!(admit(Kind::Start, 3, 10), Ok(()));
        assert_eq!(admit(Kind::Step, 3, 11), Ok(()));
        assert_eq!((order.last_step(), order.next_step()), (11, 12));
    }
}
