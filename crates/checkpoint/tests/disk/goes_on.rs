//! A journal whose disk fails goes on by itself: no step that was durable is lost, those that could not be recorded are
//! told of once, and a healthy disk makes recording go on whatever came before.

use std::io::ErrorKind::{Other, StorageFull};

use lockstep_checkpoint::{FileSystem, Journal, JournalPaths, Limits, Proof};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::crashes::for_every_crash_in;
use crate::failures::for_every_failure;
use crate::memory::{Memory, Plan};
use crate::run::{
    FOLDER, HEADER, LOG, TERM, commit, digest_of, files, open_journal, read_log, save_journal, sentences,
};

/// Trains nine steps, saved after each third; returns the last step that is known to be on disk.
fn train(journal: &mut Journal, term: u64) -> u64 {
    let mut durable = 0;
    for step in 1..=9 {
        commit(journal, step..=step);
        if step % 3 == 0 {
            let _ = save_journal(journal, term, step);
            if journal.pending().is_none() {
                durable = step;
            }
        }
    }
    durable
}

/// What a process that starts there finds: whole up to `durable` at least, and it goes on.
fn check(disk: &Memory, durable: u64) {
    let (before, _) = read_log_or_nothing(disk);
    assert!(before >= durable, "{durable} were durable, {before} is the last");
    let mut opened = open_journal(files(disk), 4).unwrap();
    let restored = opened.restored.as_ref().map_or(0, |(manifest, _)| manifest.step);
    let last = opened.last_logged.max(restored);
    commit(&mut opened.journal, restored + 1..=last + 2);
    save_journal(&mut opened.journal, opened.term, last + 2).unwrap();
    assert_eq!(sentences(&mut opened.journal), [""; 0]);
    let (history, _) = read_log(disk);
    assert_eq!((history.damages(), history.last_step()), (&[][..], last + 2));
}

fn read_log_or_nothing(disk: &Memory) -> (u64, usize) {
    if !disk.exists(LOG.as_ref()).unwrap() {
        return (0, 0);
    }
    let (history, records) = read_log(disk);
    (history.last_step(), records.len())
}

#[test]
fn a_journal_of_several_segments_survives_every_crash() {
    let states = for_every_crash_in(
        Memory::after_crash_at_ends,
        |memory| {
            open_journal(files(memory), 4).map_or(0, |mut opened| train(&mut opened.journal, opened.term))
        },
        |durable, disk| check(disk, *durable),
    );
    assert!(states > 500, "only {states} states were tried");
}

#[test]
fn any_one_failure_costs_no_record() {
    for_every_failure(false, |memory| {
        let Ok(mut opened) = open_journal(files(memory), 4) else { return };
        let journal = &mut opened.journal;
        let durable = train(journal, opened.term);
        memory.plan(Plan::default());
        for disk in memory.after_crash_at_ends() {
            check(&disk, durable);
        }
        journal.sync().unwrap();
        assert_eq!(journal.pending(), None);
        let (history, _) = read_log(memory);
        assert_eq!((history.damages(), history.gaps(), history.last_step()), (&[][..], &[][..], 9));
        let notes = sentences(journal);
        let failed = notes.iter().filter(|note| note.contains("the log is tried again")).count();
        let goes_on = notes.iter().filter(|note| note.contains("recording goes on with")).count();
        assert!(failed <= 1 && failed == goes_on, "{notes:?}");
    });
}

#[test]
fn a_disk_that_recovers_costs_no_record_and_checkpoints_are_tried_all_the_time() {
    for kind in [StorageFull, Other] {
        for number in 0.. {
            let memory = Memory::new(Plan::default());
            let mut opened = open_journal(files(&memory), 4).unwrap();
            let journal = &mut opened.journal;
            memory.plan(Plan { fail_at: Some((number, kind)), fail_forever: true, ..Plan::default() });
            let durable = train(journal, 1);
            for disk in memory.after_crash_at_ends() {
                check(&disk, durable);
            }
            if !memory.failed() {
                break;
            }
            let before = sentences(journal);
            assert!(
                before.iter().filter(|note| note.contains("the log is tried again")).count() <= 1,
                "{before:?}"
            );
            let tried = memory.done().len();
            save_journal(journal, 1, 9).unwrap_err();
            assert!(memory.done()[tried..].contains(&"create_new"), "no checkpoint was tried");
            assert_eq!(sentences(journal), [""; 0], "the same failure is told again");
            memory.plan(Plan::default());
            save_journal(journal, 1, 9).unwrap();
            assert_eq!(journal.pending(), None);
            assert_eq!(journal.committed(10, [10; 32]).unwrap(), Proof::Appended);
            journal.sync().unwrap();
            let (history, _) = read_log(&memory);
            assert_eq!((history.damages(), history.gaps(), history.last_step()), (&[][..], &[][..], 10));
            assert_eq!(memory.syncs_after_a_failed_one(), 0);
        }
    }
}

#[test]
fn a_failure_is_told_once_with_its_remedy_and_so_is_what_became_of_it() {
    let memory = Memory::new(Plan::default());
    let mut opened = open_journal(files(&memory), 100).unwrap();
    let journal = &mut opened.journal;
    commit(journal, 1..=2);
    memory.plan(Plan { fail_at: Some((0, StorageFull)), fail_forever: true, ..Plan::default() });
    commit(journal, 3..=4);
    let notes = sentences(journal);
    let [note] = &notes[..] else { panic!("{notes:?}") };
    assert!(note.starts_with("cannot write /run/steps.log: writing failed: planned failure"), "{note}");
    assert!(note.contains("tried again in a further file: see that the disk has room"), "{note}");
    journal.sync().unwrap();
    assert_eq!((sentences(journal), journal.pending()), (vec![], Some(1..=4)));
    memory.plan(Plan::default());
    journal.sync().unwrap();
    assert_eq!(
        sentences(journal),
        ["the log is written again: recording goes on with step 5 in /run/steps.log.2"]
    );
    // Another failure is another one.
    memory.plan(Plan { fail_at: Some((2, Other)), ..Plan::default() });
    commit(journal, 5..=5);
    journal.sync().unwrap();
    let notes = sentences(journal);
    assert!(notes[1].ends_with("recording goes on with step 6 in /run/steps.log.3"), "{notes:?}");
    assert!(notes[0].contains("steps.log.2: ") && notes.len() == 2, "{notes:?}");
}

#[test]
fn steps_that_were_never_handed_in_are_a_gap_and_recording_goes_on_behind_it() {
    let memory = Memory::new(Plan::default());
    let mut opened = open_journal(files(&memory), 100).unwrap();
    let journal = &mut opened.journal;
    commit(journal, 1..=2);
    assert_eq!(journal.committed(6, [6; 32]).unwrap(), Proof::Resumed { missing: 3..=6 });
    assert_eq!(journal.committed(7, [7; 32]).unwrap(), Proof::Appended);
    assert_eq!(journal.committed(9, [9; 32]).unwrap(), Proof::Resumed { missing: 8..=9 });
    assert_eq!(journal.committed(8, [8; 32]).unwrap(), Proof::Unrecorded);
    let notes = sentences(journal);
    assert!(
        notes[0].starts_with("steps 3 to 6 have no record") && notes[0].ends_with("with step 7"),
        "{notes:?}"
    );
    assert_eq!(notes.len(), 2);
    journal.sync().unwrap();
    let (history, _) = read_log(&memory);
    assert_eq!((history.gaps(), history.damages(), history.last_step()), (&[3..=6, 8..=9][..], &[][..], 7));
    // A gap stands in no later process' way.
    let mut again = open_journal(files(&memory), 100).unwrap();
    let proofs = (1..=11).map(|step| again.journal.committed(step, [step as u8; 32]).unwrap());
    let proofs: Vec<Proof> = proofs.collect();
    let expected = [
        vec![Proof::Proved; 2],
        vec![Proof::Unrecorded; 4],
        vec![Proof::Proved],
        vec![Proof::Unrecorded; 2],
        vec![Proof::Appended; 2],
    ];
    assert_eq!(proofs, expected.concat());
}

#[test]
fn what_waits_for_a_dead_disk_has_a_bound_and_the_rest_is_a_gap() {
    let memory = Memory::new(Plan::default());
    let paths = JournalPaths { log: LOG.into(), checkpoints: FOLDER.into(), term: TERM.into() };
    let limits = Limits { pending: 3, ..Limits::default() };
    let opened = Journal::open_limited(files(&memory), &paths, &HEADER, [0; 32], &digest_of, limits);
    let journal = &mut opened.unwrap().journal;
    // A healthy disk is asked for a sync where the bound is reached.
    commit(journal, 1..=5);
    assert_eq!(journal.pending(), Some(4..=5));
    memory.plan(Plan { fail_at: Some((0, Other)), fail_forever: true, ..Plan::default() });
    let proofs: Vec<Proof> = (6..=9).map(|step| journal.committed(step, [step as u8; 32]).unwrap()).collect();
    assert_eq!(proofs, [Proof::Appended, Proof::Unrecorded, Proof::Unrecorded, Proof::Unrecorded]);
    assert_eq!(memory.done().len(), 1, "a dead disk is not asked at each step");
    assert_eq!((sentences(journal).len(), journal.pending()), (1, Some(4..=6)));
    memory.plan(Plan::default());
    save_journal(journal, 1, 9).unwrap();
    assert_eq!(journal.committed(10, [10; 32]).unwrap(), Proof::Resumed { missing: 7..=10 });
    assert_eq!(journal.committed(11, [11; 32]).unwrap(), Proof::Appended);
    let notes = sentences(journal);
    assert!(
        notes[0].contains("goes on with step 7") && notes[1].contains("steps 7 to 10 have no"),
        "{notes:?}"
    );
    journal.sync().unwrap();
    let (history, _) = read_log(&memory);
    assert_eq!((history.gaps(), history.last_step()), (&[7..=10][..], 11));
}

/// Whatever sequence of failures: what was durable stays, and the first healthy sync makes recording go on.
#[test]
fn after_any_failures_a_healthy_sync_makes_recording_go_on() {
    for seed in 0..400_u64 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |limit: u64| random.next_u64() % limit;
        let memory = Memory::new(Plan::default());
        let mut opened = open_journal(files(&memory), 4).unwrap();
        let (mut step, mut durable) = (0, 0);
        for _ in 0..12 {
            let kind = if below(2) == 0 { StorageFull } else { Other };
            let fail_at = (below(3) > 0).then(|| (below(12) as usize, kind));
            memory.plan(Plan { fail_at, fail_forever: below(2) == 0, ..Plan::default() });
            for _ in 0..below(6) {
                step += 1 + u64::from(below(8) == 0);
                opened.journal.committed(step, [step as u8; 32]).unwrap();
            }
            let _ = save_journal(&mut opened.journal, opened.term, step);
            if opened.journal.pending().is_none() {
                durable = step;
            }
        }
        memory.plan(Plan::default());
        opened.journal.sync().unwrap();
        assert_eq!(opened.journal.pending(), None, "seed {seed}");
        let proof = opened.journal.committed(step + 1, [0; 32]).unwrap();
        assert_eq!(proof, Proof::Appended, "seed {seed}");
        opened.journal.sync().unwrap();
        assert_eq!(memory.syncs_after_a_failed_one(), 0, "seed {seed}");
        let (history, _) = read_log(&memory);
        assert_eq!((history.damages(), history.last_step()), (&[][..], step + 1), "seed {seed}");
        assert!(durable <= step);
    }
}

#[test]
fn a_record_that_cannot_be_read_is_told_of_once_and_read_later() {
    let memory = Memory::new(Plan::default());
    let mut journal = open_journal(files(&memory), 10_000).unwrap().journal;
    commit(&mut journal, 1..=5_000);
    drop(journal);
    let mut journal = open_journal(files(&memory), 10_000).unwrap().journal;
    commit(&mut journal, 1..=100);
    // The first chunks are in memory; the ones behind them are not.
    memory.plan(Plan { fail_at: Some((0, Other)), ..Plan::default() });
    assert_eq!(journal.committed(4_000, [4_000_u64 as u8; 32]).unwrap(), Proof::Unrecorded);
    let notes = sentences(&mut journal);
    assert!(notes[0].contains("step 4000 and those after it are not held") && notes.len() == 1, "{notes:?}");
    assert_eq!(journal.committed(4_001, [4_001_u64 as u8; 32]).unwrap(), Proof::Proved);
    journal.committed(4_002, [0; 32]).unwrap_err();
}

#[test]
fn a_further_segment_that_cannot_be_made_is_tried_at_each_save_and_not_with_each_step() {
    let memory = Memory::new(Plan::default());
    let mut opened = open_journal(files(&memory), 4).unwrap();
    let journal = &mut opened.journal;
    // The start and three steps fill the first segment.
    commit(journal, 1..=3);
    memory.plan(Plan { fail_at: Some((0, StorageFull)), fail_forever: true, ..Plan::default() });
    let tries = || memory.done().iter().filter(|call| **call == "create_new").count();
    let before = tries();
    commit(journal, 4..=20);
    assert_eq!(tries(), before + 1);
    journal.sync().unwrap();
    assert_eq!((tries(), journal.pending()), (before + 2, Some(1..=20)));
    memory.plan(Plan::default());
    journal.sync().unwrap();
    assert_eq!(journal.pending(), None);
}
