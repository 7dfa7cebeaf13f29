//! The log of steps: what an append costs, what is refused, what becomes of damage.

use std::path::Path;

use lockstep_checkpoint::{Error, FileSystem, Kind, LogHeader, StepLog};

use crate::memory::{Memory, Plan};
use crate::run::{HEADER, LIMIT, LOG, RUN, files, open_log};

#[test]
fn an_append_is_one_write_and_disorder_writes_nothing() {
    let memory = Memory::new(Plan::default());
    let mut log = StepLog::create(files(&memory), Path::new(LOG), &HEADER).unwrap();
    log.append(Kind::Start, 4, 10, [0; 32]).unwrap();
    memory.plan(Plan::default());
    let message = log.append(Kind::Step, 4, 12, [0; 32]).unwrap_err().to_string();
    assert_eq!(message, "/run/steps.log takes no such record: step 12 comes where step 11 is due");
    assert!(matches!(log.append(Kind::Step, 3, 11, [0; 32]), Err(Error::Disorder { .. })));
    assert!(memory.done().is_empty());
    log.append(Kind::Step, 4, 11, [0; 32]).unwrap();
    assert_eq!(memory.done(), ["write_all"]);
    assert_eq!((log.last_step(), log.next_step()), (11, 12));
    let exists = StepLog::create(files(&memory), Path::new(LOG), &HEADER).err().unwrap().to_string();
    assert!(exists.contains("there is one already"), "{exists}");
}

#[test]
fn damage_in_the_middle_is_set_aside_and_named_each_time_anew() {
    let memory = Memory::new(Plan::default());
    let mut log = StepLog::create(files(&memory), Path::new(LOG), &HEADER).unwrap();
    log.append(Kind::Start, 1, 0, [0; 32]).unwrap();
    for step in 1..=4 {
        log.append(Kind::Step, 1, step, [step as u8; 32]).unwrap();
    }
    let whole = memory.read(Path::new(LOG), LIMIT).unwrap();
    for (time, place) in [(1, 64 + 3 * 92 + 30), (2, 64 + 2 * 92), (3, 20)] {
        let mut rotten = whole.clone();
        rotten[place] ^= 0x40;
        memory.overwrite(Path::new(LOG), &rotten);
        let (_, history) = open_log(&memory).unwrap();
        let damage = &history.damages()[0];
        let aside = damage.set_aside.clone().unwrap();
        assert_eq!(aside, Path::new(&format!("{LOG}.damaged-{time}")));
        let kept =
            [memory.read(Path::new(LOG), LIMIT).unwrap(), memory.read(&aside, LIMIT).unwrap()].concat();
        // A damaged header is set aside with all that follows, and a new one written.
        let expected = if place < 64 { [&whole[..64], &rotten].concat() } else { rotten };
        assert_eq!(kept, expected);
        assert_eq!(open_log(&memory).unwrap().1.damages(), []);
    }
}

#[test]
fn a_log_shorter_than_its_header_is_made_anew_and_anothers_is_refused() {
    let memory = Memory::new(Plan::default());
    for content in [&b""[..], b"LOCKSTEP"] {
        memory.overwrite(Path::new(LOG), content);
        let (mut log, history) = open_log(&memory).unwrap();
        assert_eq!(history.damages()[0].record, 0);
        assert_eq!(history.damages()[0].set_aside.is_some(), !content.is_empty());
        log.append(Kind::Start, 1, 0, [0; 32]).unwrap();
    }
    let before = memory.read(Path::new(LOG), LIMIT).unwrap();
    let other = LogHeader::new(RUN, "another identity");
    assert!(matches!(StepLog::open(files(&memory), Path::new(LOG), &other), Err(Error::OtherLog { .. })));
    assert_eq!(memory.read(Path::new(LOG), LIMIT).unwrap(), before);
}
