//! What a log says when it is read: digests, ends, gaps, and each damage by name.

use std::path::Path;

use lockstep_checkpoint::{
    Digests, Error, FileSystem, History, Kind, LogHeader, Record, RecordFlaw, StepLog,
};

use crate::memory::{Memory, Plan};
use crate::run::{HEADER, LIMIT, LOG, files, open_log, read_log};

const HEADER_BYTES: usize = 64;
const RECORD_BYTES: usize = 92;

/// A log of these records, each step's digest being made of its number.
fn log_of(records: &[(Kind, u64, u64)]) -> (Memory, Vec<u8>) {
    let memory = Memory::new(Plan::default());
    let mut log = StepLog::create(files(&memory), Path::new(LOG), &HEADER).unwrap();
    for &(kind, term, step) in records {
        log.append(kind, term, step, [step as u8; 32]).unwrap();
    }
    let bytes = memory.read(Path::new(LOG), LIMIT).unwrap();
    (memory, bytes)
}

fn read(memory: &Memory, bytes: &[u8]) -> (History, Vec<Record>) {
    memory.overwrite(Path::new(LOG), bytes);
    read_log(memory)
}

const SHORT: [(Kind, u64, u64); 3] = [(Kind::Start, 1, 0), (Kind::Step, 1, 1), (Kind::Step, 1, 2)];

#[test]
fn finds_digests_ends_and_gaps() {
    use Kind::{Other, Start, Step};
    let (memory, _) = log_of(&[
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
    let (history, records) = read_log(&memory);
    assert_eq!((history.damages(), records.len()), (&[][..], 9));
    assert_eq!((history.last_step(), history.last_term()), (8, 5));
    assert_eq!(history.gaps(), [4..=7, 9..=10]);
    let mut digests = Digests::open(files(&memory), Path::new(LOG), &HEADER).unwrap();
    for step in 0..12 {
        let expected = matches!(step, 1..=3 | 8).then_some([step as u8; 32]);
        assert_eq!(digests.of(step).unwrap(), expected, "step {step}");
        assert_eq!(digests.of(step).unwrap(), expected, "asked for again");
    }
    let (empty, _) = read_log(&log_of(&[]).0);
    assert_eq!((empty.last_step(), empty.last_term(), empty.gaps()), (0, 0, &[][..]));
}

#[test]
fn each_flipped_byte_is_found_and_what_stands_before_it_kept() {
    let (memory, whole) = log_of(&SHORT);
    for place in 0..whole.len() {
        let mut rotten = whole.clone();
        rotten[place] ^= 1 << (place % 8);
        let (history, records) = read(&memory, &rotten);
        let intact = place.saturating_sub(HEADER_BYTES) / RECORD_BYTES;
        let [damage] = history.damages() else { panic!("byte {place}: {:?}", history.damages()) };
        assert_eq!(records.len(), intact, "byte {place}");
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
    let (memory, whole) = log_of(&SHORT[..2]);
    for length in 0..whole.len() {
        let at_a_border = [HEADER_BYTES, HEADER_BYTES + RECORD_BYTES].contains(&length);
        let (history, _) = read(&memory, &whole[..length]);
        assert_eq!(history.damages().is_empty(), at_a_border, "{length} bytes");
        let mut zeros = whole[..length].to_vec();
        zeros.resize(whole.len(), 0);
        assert!(!read(&memory, &zeros).0.damages().is_empty(), "zeros from byte {length}");
    }
}

#[test]
fn damage_explains_itself() {
    let (memory, mut bytes) = log_of(&SHORT);
    bytes.truncate(300);
    let (history, _) = read(&memory, &bytes);
    assert_eq!(
        history.damages()[0].to_string(),
        "/run/steps.log: record 3, at byte 248, is torn: 52 of 92 bytes are there; 52 bytes from there on, at most 1 \
         records, are left out, and the log ends with step 1"
    );
    let aside = open_log(&memory).unwrap().1.damages()[0].to_string();
    assert!(aside.contains("are set aside in /run/steps.log.damaged-1, and the log"), "{aside}");
    bytes[3] ^= 1;
    let damage = read(&memory, &bytes).0.damages()[0].to_string();
    assert!(
        damage.starts_with("/run/steps.log: the header is rotten: its checksum is wrong; 300 bytes"),
        "{damage}"
    );
}

#[test]
fn anothers_log_is_refused_with_both_named_and_a_missing_one_too() {
    let (memory, _) = log_of(&SHORT);
    let read = |header| History::read(files(&memory), Path::new(LOG), &header).unwrap_err();
    for (what, header) in [
        ("run id is 0505", LogHeader { run_id: [3; 16], ..HEADER }),
        ("identity's SHA-256 is 0606", LogHeader { identity: [3; 32], ..HEADER }),
    ] {
        let message = read(header).to_string();
        assert!(message.contains(what) && message.contains("here it is 0303"), "{message}");
    }
    memory.remove(Path::new(LOG)).unwrap();
    assert!(matches!(read(HEADER), Error::Read { .. }));
}

#[test]
fn a_log_of_many_chunks_reads_as_it_was_written() {
    let memory = Memory::new(Plan::default());
    let mut log = StepLog::create(files(&memory), Path::new(LOG), &HEADER).unwrap();
    log.append(Kind::Start, 1, 0, [0; 32]).unwrap();
    for step in 1..=10_000 {
        log.append(Kind::Step, 1, step, [step as u8; 32]).unwrap();
    }
    let (history, records) = read_log(&memory);
    assert_eq!((history.last_step(), history.damages()), (10_000, &[][..]));
    assert!(records[1..].iter().zip(1..).all(|(record, step)| record.step == step));
    let mut bytes = memory.read(Path::new(LOG), LIMIT).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let (history, _) = read(&memory, &bytes);
    assert_eq!((history.last_step(), history.damages()[0].flaw), (9_999, RecordFlaw::Checksum));
}
