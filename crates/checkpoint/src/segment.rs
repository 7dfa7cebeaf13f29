//! The files of a step log: what they are called, and how a further one says what it goes on from.
//!
//! The first segment is the log's own path and begins with a [`LogHeader`]. Further ones are called `<path>.2`,
//! `<path>.3` and so on, and begin with (all numbers little-endian):
//!
//! ```text
//! header, 132 bytes:  magic [8]  version u32  run id [16]  SHA-256 of the identity [32]  number u32
//!                     cut u64  previous [32]  term u64  last step u64  settled u64  crc32c u32
//! ```
//!
//! `cut` is how many bytes of the segment before count: what stands behind them was never durable, and is written again
//! here. `previous` is the SHA-256 of the last record before the cut, or of that segment's header, so that the segments
//! form one chain; the three numbers behind it are what the records up to there add up to, so that a segment can be read
//! though the one before is lost. Only lists a folder; reads and writes no segment.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{
    Error, FileSystem, LogHeader, RecordFlaw,
    atomic::folder_of,
    hex,
    record::{HEADER_BYTES, MAGIC, Order, array, seal, sealed},
};

/// The length of the header of every segment but the first.
pub(crate) const FURTHER_HEADER_BYTES: usize = 132;
const FURTHER_VERSION: u32 = 2;

/// How far a log has got: everything that the next record, or the next segment, builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Bytes of the segment up to here.
    pub(crate) bytes: u64,
    /// SHA-256 of the last record, or of the header.
    pub(crate) previous: [u8; 32],
    /// What the records so far add up to.
    pub(crate) order: Order,
}

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Counted from 1.
    pub(crate) number: u32,
    /// Where in the segment before it this one goes on; all zero for the first.
    pub(crate) after: Mark,
}

impl SegmentHeader {
    /// Of the first segment, which goes on from nothing.
    pub(crate) fn first() -> Self {
        Self { number: 1, after: Mark { bytes: 0, previous: [0; 32], order: Order::default() } }
    }

    /// The header's bytes.
    pub(crate) fn encode(&self, log: &LogHeader) -> Vec<u8> {
        if self.number == 1 {
            return log.encode().to_vec();
        }
        let Mark { bytes: cut, previous, order } = &self.after;
        let [term, last_step, settled] = order.to_numbers();
        let mut bytes = Vec::with_capacity(FURTHER_HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(FURTHER_VERSION.to_le_bytes());
        bytes.extend(log.run_id);
        bytes.extend(log.identity);
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(cut.to_le_bytes());
        bytes.extend(previous);
        for number in [term, last_step, settled] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(FURTHER_HEADER_BYTES, 0);
        seal(&mut bytes);
        bytes
    }

    /// The header at the beginning of `bytes`, the content of segment `number` at `path`. The outer error is another's
    /// log, the inner one a damaged header.
    pub(crate) fn decode(
        path: &Path,
        bytes: &[u8],
        log: &LogHeader,
        number: u32,
    ) -> Result<Result<Self, RecordFlaw>, Error> {
        let length = header_bytes(number);
        let Some(found) = bytes.get(..length) else {
            return Ok(Err(RecordFlaw::Torn { present: bytes.len(), length }));
        };
        if !sealed(found) {
            return Ok(Err(RecordFlaw::Checksum));
        }
        let version = if number == 1 { LogHeader::VERSION } else { FURTHER_VERSION };
        if let Some((what, found, expected)) = log.difference(found, version) {
            return Err(Error::OtherLog { path: path.to_path_buf(), what, found, expected });
        }
        if number == 1 {
            return Ok(Ok(Self::first()));
        }
        let at = |from: usize| array(&found[from..from + 8]).map_or(0, u64::from_le_bytes);
        let found_number = array(&found[60..64]).map_or(0, u32::from_le_bytes);
        if found_number != number {
            return Ok(Err(RecordFlaw::Number { number: found_number }));
        }
        let order = Order::from_numbers([at(104), at(112), at(120)]);
        let after = Mark { bytes: at(64), previous: array(&found[72..104]).unwrap_or_default(), order };
        Ok(Ok(Self { number, after }))
    }

    /// How far the log has got at the end of this header, whose bytes are `encoded`.
    pub(crate) fn mark(&self, encoded: &[u8]) -> Mark {
        let previous = Sha256::digest(encoded).into();
        Mark { bytes: encoded.len() as u64, previous, order: self.after.order }
    }
}

/// How many bytes the header of a segment has.
pub(crate) fn header_bytes(number: u32) -> usize {
    if number == 1 { HEADER_BYTES } else { FURTHER_HEADER_BYTES }
}

/// Where a segment of the log at `log` is.
pub(crate) fn segment_path(log: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return log.to_path_buf();
    }
    let mut path = OsString::from(log);
    path.push(format!(".{number}"));
    path.into()
}

/// The numbers of the segments of the log at `log` that are there, in order.
pub(crate) fn segments(files: &dyn FileSystem, log: &Path) -> Result<Vec<u32>, Error> {
    let folder = folder_of(log);
    let names = files.list(folder).map_err(Error::read(folder))?;
    let first = log.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let number = |name: &String| {
        let rest = name.strip_prefix(first)?;
        if rest.is_empty() {
            return Some(1);
        }
        let number: u32 = rest.strip_prefix('.')?.parse().ok()?;
        // Other spellings of a number are other files.
        (number > 1 && rest == format!(".{number}")).then_some(number)
    };
    let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

impl LogHeader {
    /// What a whole header of format `version` differs in from this log's: (what, found, expected).
    fn difference(&self, found: &[u8], version: u32) -> Option<(&'static str, String, String)> {
        let found_version = array(&found[8..12]).map_or(0, u32::from_le_bytes);
        if found_version != version {
            return Some(("format version", found_version.to_string(), version.to_string()));
        }
        [
            ("magic", 0..8, &MAGIC[..]),
            ("run id", 12..28, &self.run_id),
            ("identity's SHA-256", 28..60, &self.identity),
        ]
        .into_iter()
        .find(|(_, range, expected)| found[range.clone()] != **expected)
        .map(|(what, range, expected)| (what, hex::encode(&found[range]), hex::encode(expected)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Disk;

    const LOG: LogHeader = LogHeader { run_id: [1; 16], identity: [2; 32] };

    fn further() -> SegmentHeader {
        let order = Order::from_numbers([3, 1000, 1001]);
        SegmentHeader { number: 2, after: Mark { bytes: 64 + 92, previous: [9; 32], order } }
    }

    fn decode(bytes: &[u8], number: u32) -> Result<SegmentHeader, RecordFlaw> {
        SegmentHeader::decode(Path::new("steps.log"), bytes, &LOG, number).unwrap()
    }

    #[test]
    fn a_header_reads_back_and_its_bytes_are_fixed() {
        let bytes = further().encode(&LOG);
        assert_eq!(bytes.len(), FURTHER_HEADER_BYTES);
        assert_eq!(decode(&bytes, 2), Ok(further()));
        assert_eq!(bytes[..12], *b"LOCKSTEP\x02\0\0\0");
        assert_eq!(bytes[12..60], [&[1; 16][..], &[2; 32]].concat());
        assert_eq!(bytes[60..72], [2, 0, 0, 0, 156, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[72..104], [9; 32]);
        assert_eq!(bytes[104..120], [3, 0, 0, 0, 0, 0, 0, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[120..128], [0xe9, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[128..], crc32c::crc32c(&bytes[..128]).to_le_bytes());
        let first = SegmentHeader::first().encode(&LOG);
        assert_eq!((first.len(), decode(&first, 1)), (HEADER_BYTES, Ok(SegmentHeader::first())));
    }

    #[test]
    fn each_flipped_byte_and_each_torn_end_is_found() {
        let whole = further().encode(&LOG);
        for place in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[place] ^= 1 << (place % 8);
            assert_eq!(decode(&rotten, 2), Err(RecordFlaw::Checksum), "byte {place}");
            let torn = RecordFlaw::Torn { present: place, length: FURTHER_HEADER_BYTES };
            assert_eq!(decode(&whole[..place], 2), Err(torn));
        }
        assert_eq!(decode(&whole, 3), Err(RecordFlaw::Number { number: 2 }));
    }

    #[test]
    fn anothers_segment_is_refused_with_both_named() {
        for (number, header) in [(1, SegmentHeader::first()), (2, further())] {
            for (what, other) in [
                ("run id is 0303", LogHeader { run_id: [3; 16], ..LOG }),
                ("identity's SHA-256 is 0303", LogHeader { identity: [3; 32], ..LOG }),
            ] {
                let bytes = header.encode(&other);
                let error = SegmentHeader::decode(Path::new("steps.log"), &bytes, &LOG, number).unwrap_err();
                assert!(error.to_string().contains(what), "{error}");
            }
            // The one does not pass for the other.
            let mut bytes = header.encode(&LOG);
            bytes.resize(FURTHER_HEADER_BYTES, 0);
            assert!(!matches!(SegmentHeader::decode(Path::new("x"), &bytes, &LOG, 3 - number), Ok(Ok(_))));
        }
    }

    #[test]
    fn segments_are_found_by_their_exact_names() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("steps.log");
        for name in [
            "steps.log.10",
            "steps.log.2",
            "steps.log",
            "steps.log.02",
            "steps.log.1",
            "steps.log.2.damaged-1",
        ] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        assert_eq!(segments(&Disk, &log).unwrap(), [1, 2, 10]);
        assert_eq!(segment_path(&log, 10), folder.path().join("steps.log.10"));
        assert_eq!(segment_path(&log, 1), log);
    }
}
