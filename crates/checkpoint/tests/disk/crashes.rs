//! What was said to be saved is there after a crash, whatever the disk forgets, and wherever the crash falls.
//!
//! Every scenario is run again and again with a crash before each of its operations; each time, every state that the
//! disk may be in then is looked at.

use std::path::Path;

use lockstep_checkpoint::{
    CheckpointName, Error, FileSystem, Kind, LastTask, MIN_KEPT, Record, StepLog, advance_term,
    load_checkpoint,
};

use crate::memory::{Memory, Plan};
use crate::run::{FOLDER, LIMIT, LOG, RUN, TERM, digest_of, open, open_log, read_log, save_step, weights};

/// Runs `scenario` with a crash before each of its operations and one after the last, and shows `check` what it
/// promised and each state that the disk may be in. Returns how many states that were.
fn for_every_crash<P>(scenario: impl Fn(&Memory) -> P, check: impl Fn(&P, &Memory)) -> usize {
    for_every_crash_in(Memory::after_crash, scenario, check)
}

/// The same with another choice of states.
pub fn for_every_crash_in<P>(
    disks: impl Fn(&Memory) -> Vec<Memory>,
    scenario: impl Fn(&Memory) -> P,
    check: impl Fn(&P, &Memory),
) -> usize {
    let mut states = 0;
    for crash_at in 0.. {
        let memory = Memory::new(Plan { crash_at: Some(crash_at), ..Plan::default() });
        let promised = scenario(&memory);
        for disk in disks(&memory) {
            check(&promised, &disk);
            states += 1;
        }
        if !memory.crashed() {
            break;
        }
    }
    states
}

/// Saves steps 1 to 5 and prunes after each, until something fails; returns the steps saved.
fn save_five(memory: &Memory) -> Vec<u64> {
    let mut saved = Vec::new();
    let Ok(mut checkpoints) = open(memory) else { return saved };
    for step in 1..=5 {
        if save_step(&mut checkpoints, 1, step).is_err() {
            return saved;
        }
        saved.push(step);
        checkpoints.prune(MIN_KEPT);
    }
    saved
}

/// The newest of `saved` that pruning keeps are all there and whole; none that is found is older than the last one.
fn check_checkpoints(saved: &[u64], disk: &Memory) {
    for &step in saved.iter().rev().take(MIN_KEPT) {
        let name = CheckpointName { step, last_task: LastTask::Step, term: 1, copy: 1 };
        let loaded = load_checkpoint(disk, Path::new(FOLDER), &name, &RUN, &digest_of);
        let (manifest, model) =
            loaded.unwrap_or_else(|flaw| panic!("step {step} of {saved:?} is lost: {flaw}"));
        assert_eq!((manifest.step, manifest.progress.examples), (step, 64 * step));
        assert_eq!(model.tensors[0].values, weights(step));
    }
    let mut checkpoints = open(disk).unwrap();
    assert!(disk.list(Path::new(FOLDER)).unwrap().iter().all(|name| name.starts_with("step-")));
    let found = checkpoints.newest(&digest_of).found.map(|(manifest, _)| manifest.step);
    let last = saved.last().copied();
    // One more may be there: it was saved, and the crash came before it was said.
    assert!(found == last || found == Some(last.unwrap_or(0) + 1), "found {found:?}, saved {saved:?}");
    // Whatever the crash has left behind, the next coordinator saves and finds its own.
    save_step(&mut checkpoints, 2, 9).unwrap();
    assert_eq!(checkpoints.newest(&digest_of).found.unwrap().0.term, 2);
}

#[test]
fn a_saved_checkpoint_survives_every_crash() {
    let states = for_every_crash(save_five, |saved, disk| check_checkpoints(saved, disk));
    assert!(states > 1000, "only {states} states were tried");
}

#[test]
fn a_save_costs_three_fsyncs() {
    let memory = Memory::new(Plan::default());
    let mut checkpoints = open(&memory).unwrap();
    memory.plan(Plan::default());
    save_step(&mut checkpoints, 1, 1).unwrap();
    let done = memory.done();
    let count = |operation| done.iter().filter(|done| **done == operation).count();
    assert_eq!((count("sync"), count("sync_dir"), count("rename")), (2, 1, 2), "{done:?}");
}

type Entry = (Kind, u64, u64);

const ENTRIES: [Entry; 6] = [
    (Kind::Start, 1, 0),
    (Kind::Step, 1, 1),
    (Kind::Step, 1, 2),
    (Kind::Step, 1, 3),
    (Kind::Other(9), 1, 3),
    (Kind::Step, 1, 4),
];

fn append(log: &mut StepLog, (kind, term, step): Entry) -> Result<(), Error> {
    log.append(kind, term, step, [step as u8; 32])
}

fn entries(records: &[Record]) -> Vec<Entry> {
    records.iter().map(|record| (record.kind, record.term, record.step)).collect()
}

/// Appends all entries, with a sync after each third, until something fails; returns how many were made durable.
fn write_log(memory: &Memory) -> usize {
    let mut durable = 0;
    let Ok((mut log, _)) = open_log(memory) else { return 0 };
    for (number, entry) in ENTRIES.into_iter().enumerate() {
        if append(&mut log, entry).is_err() {
            return durable;
        }
        if number % 3 == 2 {
            if log.sync().is_err() {
                return durable;
            }
            durable = number + 1;
        }
    }
    durable
}

/// What is read is a prefix of what was written, and has all that was made durable; then the log goes on.
fn check_log(durable: usize, disk: &Memory) {
    let (mut log, history) = open_log(disk).unwrap();
    let read = entries(&read_log(disk).1);
    assert!(ENTRIES.starts_with(&read) && read.len() >= durable, "{durable} were durable, read {read:?}");
    for damage in history.damages() {
        let aside = disk.read(damage.set_aside.as_ref().unwrap(), LIMIT).unwrap();
        assert_eq!(aside.len() as u64, damage.bytes);
        assert!(damage.last_step == history.last_step(), "{damage}");
    }
    let more = [(Kind::Start, 2, history.last_step()), (Kind::Step, 2, history.last_step() + 1)];
    for entry in more {
        append(&mut log, entry).unwrap();
    }
    log.sync().unwrap();
    let (again, records) = read_log(disk);
    assert_eq!((again.damages(), entries(&records)), (&[][..], [read, more.to_vec()].concat()));
}

#[test]
fn a_synced_record_survives_every_crash() {
    let states = for_every_crash(write_log, |durable, disk| check_log(*durable, disk));
    assert!(states > 1000, "only {states} states were tried");
}

#[test]
fn a_crash_while_a_damaged_log_is_mended_loses_nothing() {
    let whole = Memory::new(Plan::default());
    write_log(&whole);
    let bytes = whole.read(Path::new(LOG), LIMIT).unwrap();
    let torn = &bytes[..bytes.len() - 150];
    let mend = |memory: &Memory| {
        memory.overwrite(Path::new(LOG), torn);
        open_log(memory).is_ok()
    };
    let states = for_every_crash(mend, |_, disk| {
        check_log(4, disk);
        // The torn record's bytes are in one of the files set aside, or in the log still.
        let aside =
            disk.list(Path::new("/run")).unwrap().into_iter().filter(|name| name.contains("log.damaged"));
        let kept = aside.map(|name| disk.read(&Path::new("/run").join(name), LIMIT).unwrap());
        assert!(kept.into_iter().any(|kept| torn.ends_with(&kept) && kept.len() == 34));
    });
    assert!(states > 20, "only {states} states were tried");
}

#[test]
fn a_term_never_goes_back() {
    let advance =
        |memory: &Memory| (0..3).map_while(|_| advance_term(memory, Path::new(TERM), 0).ok()).last();
    let states = for_every_crash(advance, |returned, disk| {
        let next = advance_term(disk, Path::new(TERM), 0).unwrap();
        let last = returned.unwrap_or(0);
        assert!(next == last + 1 || next == last + 2, "{next} after {last}");
    });
    assert!(states > 50, "only {states} states were tried");
}
