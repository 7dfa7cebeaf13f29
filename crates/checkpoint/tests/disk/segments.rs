//! A log of several segments: a full one is followed by the next, and whatever becomes of a segment is named and costs
//! no more than what it held.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use lockstep_checkpoint::{
    Disk, Error, FileSystem, History, Kind, LogHeader, RecordFlaw, StepLog, newest_logged_step,
};

use crate::memory::{Memory, Plan};
use crate::run::{HEADER, LOG, RUN, commit, files, open_journal, open_log, read_log, save_journal};

fn segment(number: u32) -> PathBuf {
    if number == 1 { LOG.into() } else { format!("{LOG}.{number}").into() }
}

fn content(memory: &Memory, number: u32) -> Vec<u8> {
    memory.read(&segment(number), u64::MAX).unwrap()
}

/// Steps 1 to 10 in three segments: the start and steps 1 to 4, steps 5 to 9, step 10. The first segment has a few bytes
/// that do not count any more, as a failed write leaves them.
fn three_segments() -> Memory {
    let memory = Memory::new(Plan::default());
    let mut journal = open_journal(files(&memory), 5).unwrap().journal;
    for steps in [1..=4, 5..=9, 10..=10] {
        commit(&mut journal, steps);
        journal.sync().unwrap();
    }
    let superseded = [content(&memory, 1), vec![0xee; 50]].concat();
    memory.overwrite(&segment(1), &superseded);
    let lengths = [1, 2, 3].map(|number| content(&memory, number).len());
    assert_eq!(lengths, [64 + 5 * 92 + 50, 132 + 5 * 92, 132 + 92]);
    let (history, records) = read_log(&memory);
    assert_eq!((history.damages(), history.gaps(), history.last_step()), (&[][..], &[][..], 10));
    assert_eq!(records.len(), 11);
    memory
}

/// What is wrong with the log, and the steps that are missing from it.
fn flaws(memory: &Memory) -> (Vec<(PathBuf, RecordFlaw)>, u64) {
    let (history, records) = read_log(memory);
    let flaws = history.damages().iter().map(|damage| (damage.log.clone(), damage.flaw)).collect();
    let steps = records.iter().filter(|record| record.kind == Kind::Step).count() as u64;
    let in_gaps: u64 = history.gaps().iter().map(|gap| gap.end() - gap.start() + 1).sum();
    assert_eq!(steps + in_gaps, history.last_step().max(in_gaps), "{history:?}");
    (flaws, 10 - steps)
}

/// The log is opened and goes on, and says the same of what was before.
fn check_goes_on(memory: &Memory, damages: usize) {
    let mut opened = open_journal(files(memory), 5).unwrap();
    assert_eq!(opened.notes.len(), damages, "{:?}", opened.notes);
    commit(&mut opened.journal, 1..=12);
    save_journal(&mut opened.journal, 2, 12).unwrap();
    assert_eq!(opened.journal.pending(), None);
    let (history, _) = read_log(memory);
    assert_eq!(history.last_step(), 12);
    // What is at the end was set aside; what is before stays, and is named each time.
    assert!(history.damages().iter().all(|damage| damage.followed_by.is_some()), "{history:?}");
}

#[test]
fn a_full_segment_is_followed_by_the_next() {
    let memory = three_segments();
    check_goes_on(&memory, 0);
    let (history, _) = read_log(&memory);
    assert_eq!((history.last_term(), history.damages()), (2, &[][..]));
    assert!(memory.list(Path::new("/run")).unwrap().iter().all(|name| !name.contains("damaged")));
}

#[test]
fn each_flipped_byte_of_each_segment_is_found_and_recording_goes_on() {
    let memory = three_segments();
    let whole = [1, 2, 3].map(|number| content(&memory, number));
    for number in [1, 2, 3] {
        let bytes = &whole[number as usize - 1];
        for place in 0..bytes.len() {
            let disk = Memory::new(Plan::default());
            for number in [1, 2, 3] {
                disk.overwrite(&segment(number), &whole[number as usize - 1]);
            }
            let mut rotten = bytes.clone();
            rotten[place] ^= 1 << (place % 8);
            disk.overwrite(&segment(number), &rotten);
            let superseded = number == 1 && place >= 64 + 5 * 92;
            let (found, missing) = flaws(&disk);
            // Without the header of the next segment nobody can tell what of this one does not count.
            let because_of_it = found.iter().any(|(log, _)| *log == segment(number));
            assert_eq!(because_of_it, !superseded, "byte {place} of segment {number}: {found:?}");
            assert!(missing <= 5, "byte {place} of segment {number}: {missing} steps are missing");
            check_goes_on(&disk, found.len());
        }
    }
}

#[test]
fn a_segment_that_is_cut_missing_or_anothers_is_named() {
    let first = segment(1);
    let [second, third] = [segment(2), segment(3)];
    // A fork of the run: the same run, identity and numbers, and other steps.
    let fork = Memory::new(Plan::default());
    let mut journal = open_journal(files(&fork), 5).unwrap().journal;
    for steps in [1..=4, 5..=9, 10..=10] {
        for step in steps {
            journal.committed(step, [0xaa; 32]).unwrap();
        }
        journal.sync().unwrap();
    }

    type Case<'a> = (&'a str, &'a dyn Fn(&Memory), Vec<(PathBuf, RecordFlaw)>, u64);
    let (mark, present) = (64 + 5 * 92, 64 + 2 * 92);
    let cut = RecordFlaw::Cut { present, length: mark };
    let torn = RecordFlaw::Cut { present: present + 30, length: mark };
    let swapped = |number| RecordFlaw::Number { number };
    let cut_to = |memory: &Memory, length: u64| {
        memory.overwrite(&first, &content(memory, 1)[..length as usize]);
    };
    let cases: [Case; 8] = [
        ("cut at a record's border", &|memory| cut_to(memory, present), vec![(first.clone(), cut)], 3),
        ("cut in a record", &|memory| cut_to(memory, present + 30), vec![(first.clone(), torn)], 3),
        ("cut at the mark is nothing", &|memory| cut_to(memory, mark), vec![], 0),
        (
            "the middle one is missing",
            &|memory| memory.remove(&second).unwrap(),
            // Nobody can tell what of the first does not count.
            vec![
                (first.clone(), RecordFlaw::Length { length: 0xeeee_eeee }),
                (second.clone(), RecordFlaw::Missing { next: 3 }),
            ],
            5,
        ),
        (
            "the first one is missing",
            &|memory| memory.remove(&first).unwrap(),
            vec![(first.clone(), RecordFlaw::Missing { next: 2 })],
            4,
        ),
        (
            "two are swapped",
            &|memory| {
                let [two, three] = [content(memory, 2), content(memory, 3)];
                memory.overwrite(&second, &three);
                memory.overwrite(&third, &two);
            },
            vec![
                (first.clone(), RecordFlaw::Length { length: 0xeeee_eeee }),
                (second.clone(), swapped(3)),
                (third.clone(), swapped(2)),
            ],
            6,
        ),
        (
            "one is a fork's",
            &|memory| memory.overwrite(&second, &content(&fork, 2)),
            vec![
                (first.clone(), RecordFlaw::Length { length: 0xeeee_eeee }),
                (second.clone(), RecordFlaw::Chain),
            ],
            5,
        ),
        (
            "the last is a fork's",
            &|memory| memory.overwrite(&third, &content(&fork, 3)),
            vec![(third.clone(), RecordFlaw::Chain)],
            1,
        ),
    ];
    for (what, change, expected, missing) in cases {
        let memory = three_segments();
        change(&memory);
        assert_eq!(flaws(&memory), (expected.clone(), missing), "{what}");
        check_goes_on(&memory, expected.len());
    }
}

#[test]
fn a_further_segment_of_another_run_is_refused() {
    let memory = three_segments();
    let other = Memory::new(Plan::default());
    let header = LogHeader::new(RUN, "another identity");
    let mut log = StepLog::create(files(&other), Path::new(LOG), &header).unwrap();
    log.append(Kind::Start, 1, 0, [0; 32]).unwrap();
    log.go_on().unwrap();
    memory.overwrite(&segment(2), &content(&other, 2));
    let before = memory.list(Path::new("/run")).unwrap();
    let error = open_log(&memory).err().unwrap();
    assert!(matches!(&error, Error::OtherLog { path, .. } if *path == segment(2)), "{error}");
    assert!(History::read(files(&memory), Path::new(LOG), &HEADER).is_err());
    assert_eq!(memory.list(Path::new("/run")).unwrap(), before);
}

#[test]
fn a_damage_in_the_middle_explains_itself() {
    let memory = three_segments();
    let mut rotten = content(&memory, 1);
    rotten[64 + 2 * 92 + 10] ^= 1;
    memory.overwrite(&segment(1), &rotten);
    memory.remove(&segment(2)).unwrap();
    let (history, _) = read_log(&memory);
    let sentences: Vec<String> = history.damages().iter().map(ToString::to_string).collect();
    assert_eq!(
        sentences,
        [
            "/run/steps.log: record 3, at byte 248, is rotten: its checksum is wrong; 326 bytes from there on, at most \
             4 records, are left out, and after step 1 the log goes on in /run/steps.log.3",
            "/run/steps.log.2 is missing, and after step 1 the log goes on in /run/steps.log.3"
        ]
    );
    assert_eq!(history.gaps(), [2..=9]);
}

#[test]
fn the_newest_step_is_in_the_last_segment_that_has_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("steps.log");
    assert!(newest_logged_step(&path).is_err());
    let mut log = StepLog::create(Arc::new(Disk), &path, &HEADER).unwrap();
    let newest = || newest_logged_step(&path).unwrap();
    assert_eq!(newest(), 0);
    log.append(Kind::Start, 1, 0, [0; 32]).unwrap();
    for step in 1..=3 {
        log.append(Kind::Step, 1, step, [0; 32]).unwrap();
        assert_eq!(newest(), step);
        log.sync().unwrap();
        log.go_on().unwrap();
        assert_eq!(newest(), step, "the last one has nothing but its header");
    }
    log.append(Kind::Start, 2, 3, [0; 32]).unwrap();
    assert_eq!(newest(), 3);
    assert!(folder.path().join("steps.log.4").exists());
}

/// Also the log of a version that had but one file, of any length.
#[test]
fn a_long_log_is_resumed_and_read_in_small_parts() {
    let memory = Memory::new(Plan::default());
    let mut log = StepLog::create(files(&memory), Path::new(LOG), &HEADER).unwrap();
    log.append(Kind::Start, 1, 0, [0; 32]).unwrap();
    for step in 1..=20_000 {
        log.append(Kind::Step, 1, step, [step as u8; 32]).unwrap();
    }
    drop(log);
    let before = content(&memory, 1);
    memory.forget_reads();
    let mut opened = open_journal(files(&memory), 1_000).unwrap();
    for step in 1..=20_000 {
        opened.journal.committed(step, [step as u8; 32]).unwrap();
    }
    commit(&mut opened.journal, 20_001..=20_002);
    opened.journal.sync().unwrap();
    read_log(&memory);
    assert!(memory.largest_read() <= 128 << 10, "{} bytes at once", memory.largest_read());
    assert!(before.len() > 10 * memory.largest_read());
    assert_eq!(content(&memory, 1), before, "the first segment stays, byte for byte");
    assert_eq!(content(&memory, 2).len(), 132 + 3 * 92);
}
