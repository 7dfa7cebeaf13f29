//! A disk that fails without crashing: full, refusing, forgetting. Nothing is called saved that is not, what was saved
//! stays, and no failed fsync is tried again.

use std::{
    io::ErrorKind::{Other, StorageFull},
    path::Path,
};

use lockstep_checkpoint::{Error, FileSystem, Kind, MIN_KEPT, StepLog, advance_term};

use crate::memory::{Memory, Plan};
use crate::run::{FOLDER, TERM, digest_of, open, open_log, read_log, save_step};

fn newest_step(memory: &Memory) -> Option<u64> {
    open(memory).unwrap().newest(&digest_of).found.map(|(manifest, _)| manifest.step)
}

/// Runs `scenario` with each of its operations failing in turn, for each kind of failure.
pub fn for_every_failure(fail_forever: bool, scenario: impl Fn(&Memory)) {
    for kind in [StorageFull, Other] {
        for number in 0.. {
            let memory = Memory::new(Plan { fail_at: Some((number, kind)), fail_forever, ..Plan::default() });
            scenario(&memory);
            assert_eq!(memory.syncs_after_a_failed_one(), 0, "operation {number} failed");
            if !memory.failed() {
                break;
            }
        }
    }
}

#[test]
fn a_failed_save_is_an_error_and_harms_no_other() {
    for_every_failure(false, |memory| {
        let Ok(mut checkpoints) = open(memory) else { return };
        let mut saved = Vec::new();
        for step in 1..=3 {
            // A second try of the same state is a save like any other.
            if save_step(&mut checkpoints, 1, step).is_ok() || save_step(&mut checkpoints, 1, step).is_ok() {
                saved.push(step);
            }
            checkpoints.prune(MIN_KEPT);
        }
        assert_eq!(saved, [1, 2, 3], "one operation fails once, so one of two tries succeeds");
        for disk in memory.after_crash() {
            assert_eq!(newest_step(&disk), Some(3));
        }
        memory.plan(Plan::default());
        assert_eq!(memory.list(Path::new(FOLDER)).unwrap().len(), 6, "a failed try left a file");
    });
}

#[test]
fn a_full_disk_stops_saves_and_keeps_what_was_saved() {
    for_every_failure(true, |memory| {
        let Ok(mut checkpoints) = open(memory) else { return };
        let saved: Vec<u64> =
            (1..=3).take_while(|step| save_step(&mut checkpoints, 1, *step).is_ok()).collect();
        for disk in memory.after_crash() {
            let newest = newest_step(&disk);
            assert!(newest >= saved.last().copied(), "found {newest:?}, saved {saved:?}");
            assert!(newest <= Some(saved.len() as u64 + 1));
        }
    });
}

#[test]
fn a_save_that_failed_at_the_last_fsync_is_not_called_saved() {
    let memory = Memory::new(Plan::default());
    let mut checkpoints = open(&memory).unwrap();
    memory.plan(Plan::default());
    save_step(&mut checkpoints, 1, 1).unwrap();
    let last = memory.done().len() - 1;
    assert_eq!(memory.done()[last], "sync_dir");
    // From the folder's fsync on everything is refused, the removal of what was written included.
    memory.plan(Plan { fail_at: Some((last, Other)), fail_forever: true, ..Plan::default() });
    let message = save_step(&mut checkpoints, 1, 2).unwrap_err().to_string();
    assert!(message.contains("fsync of its folder failed"), "{message}");
    memory.plan(Plan::default());
    // It looks like one that was saved, and still has the name.
    assert_eq!(newest_step(&memory), Some(2));
    assert_eq!(save_step(&mut checkpoints, 1, 2).unwrap().weights_file, "step-00000002-term-1-2.safetensors");
    assert!(matches!(save_step(&mut checkpoints, 1, 2), Err(Error::AlreadySaved { .. })));
    for disk in memory.after_crash() {
        assert_eq!(newest_step(&disk), Some(2));
    }
}

/// Appends steps `1..=4` and syncs after each second; returns the last one that is durable.
fn write_log(log: &mut StepLog) -> u64 {
    let mut durable = 0;
    for step in 1..=4 {
        log.append(Kind::Step, 1, step, [step as u8; 32]).unwrap();
        if step % 2 == 0 && log.sync().is_ok() {
            durable = step;
        }
    }
    durable
}

#[test]
fn after_a_failure_a_segment_takes_no_more_and_keeps_what_was_durable() {
    for_every_failure(false, |memory| {
        let Ok((mut log, _)) = open_log(memory) else { return };
        log.append(Kind::Start, 1, 0, [0; 32]).unwrap();
        let durable = write_log(&mut log);
        let failed = log.sync();
        if let Err(error) = &failed {
            assert!(matches!(error, Error::LogFailed { .. }), "{error}");
            let operations = memory.done().len();
            assert_eq!(log.sync().unwrap_err().to_string(), error.to_string());
            assert_eq!(memory.done().len(), operations, "the disk was asked again");
            assert_eq!(log.pending(), Some(durable + 1..=4));
        }
        for disk in memory.after_crash() {
            let (_, history) = open_log(&disk).unwrap();
            assert!(history.last_step() >= durable, "{durable} were durable, read {}", history.last_step());
        }
        if failed.is_err() {
            log.go_on().unwrap();
        }
        assert_eq!(log.pending(), None);
        for disk in memory.after_crash() {
            let (history, _) = read_log(&disk);
            assert_eq!((history.last_step(), history.gaps(), history.damages()), (4, &[][..], &[][..]));
        }
    });
}

/// After a failed fsync the records can still be read, as if they were safe: the next process must not believe it.
#[test]
fn what_an_opened_log_says_is_durable_though_an_fsync_failed_before() {
    let memory = Memory::new(Plan::default());
    let (mut log, _) = open_log(&memory).unwrap();
    log.append(Kind::Start, 1, 0, [0; 32]).unwrap();
    log.append(Kind::Step, 1, 1, [1; 32]).unwrap();
    memory.plan(Plan { fail_at: Some((0, Other)), ..Plan::default() });
    assert!(log.sync().is_err());
    drop(log);

    memory.plan(Plan::default());
    let (mut log, history) = open_log(&memory).unwrap();
    assert_eq!((history.last_step(), history.damages()), (1, &[][..]));
    log.append(Kind::Start, 2, 1, [1; 32]).unwrap();
    log.append(Kind::Step, 2, 2, [2; 32]).unwrap();
    log.sync().unwrap();
    assert_eq!(memory.syncs_after_a_failed_one(), 0);
    for disk in memory.after_crash() {
        let (history, _) = read_log(&disk);
        assert_eq!((history.last_step(), history.damages()), (2, &[][..]));
    }
}

#[test]
fn a_term_that_cannot_be_kept_is_not_given_out() {
    for_every_failure(false, |memory| {
        let path = Path::new(TERM);
        let given: Vec<u64> = (0..3).filter_map(|_| advance_term(memory, path, 0).ok()).collect();
        assert!(given.is_sorted_by(|before, after| before < after), "{given:?}");
        for disk in memory.after_crash() {
            assert!(advance_term(&disk, path, 0).unwrap() > *given.last().unwrap());
        }
    });
}

#[test]
fn a_disk_that_writes_other_bytes_is_found_out() {
    let memory = Memory::new(Plan::default());
    let mut checkpoints = open(&memory).unwrap();
    save_step(&mut checkpoints, 1, 1).unwrap();
    advance_term(&memory, Path::new(TERM), 0).unwrap();
    memory.plan(Plan { garble: true, ..Plan::default() });
    let message = save_step(&mut checkpoints, 1, 2).unwrap_err().to_string();
    assert!(
        message.contains("step-00000002-term-1.safetensors: the disk gave back other bytes"),
        "{message}"
    );
    assert!(matches!(advance_term(&memory, Path::new(TERM), 0), Err(Error::Corrupt { .. })));
    assert_eq!(newest_step(&memory), Some(1));
    assert_eq!(memory.list(Path::new(FOLDER)).unwrap().len(), 2, "the damaged file was left behind");
    memory.plan(Plan::default());
    assert_eq!(advance_term(&memory, Path::new(TERM), 0).unwrap(), 2);
}
