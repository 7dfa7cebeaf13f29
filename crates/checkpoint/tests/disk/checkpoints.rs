//! The folder of checkpoints: which one is the newest, what is none and why, what is never overwritten or removed.

use std::{io, path::Path};

use lockstep_checkpoint::{
    CheckpointName, Error, FileSystem, Flaw, LastTask, Newest, StoredModel, load_checkpoint,
};

use crate::memory::{Memory, Plan};
use crate::run::{FOLDER, LIMIT, RUN, digest_of, open, save, save_step, state};

#[test]
fn leftovers_are_not_overwritten() {
    let memory = Memory::new(Plan::default());
    let mut checkpoints = open(&memory).unwrap();
    let path = |name: &str| Path::new(FOLDER).join(name);
    memory.overwrite(&path("step-00000007-term-1.safetensors"), b"weights of a crash");
    memory.overwrite(&path("step-00000007-term-1-2.json"), b"torn");
    assert_eq!(save_step(&mut checkpoints, 1, 7).unwrap().weights_file, "step-00000007-term-1-3.safetensors");
    assert_eq!(memory.read(&path("step-00000007-term-1.safetensors"), 99).unwrap(), b"weights of a crash");
    assert_eq!(memory.read(&path("step-00000007-term-1-2.json"), 99).unwrap(), b"torn");
    assert_eq!(open(&memory).unwrap().newest(&digest_of).found.unwrap().0.step, 7);
    let again = open(&memory).and_then(|mut checkpoints| save_step(&mut checkpoints, 1, 7)).unwrap_err();
    assert!(matches!(again, Error::AlreadySaved { .. }), "{again}");
}

#[test]
fn the_newest_is_by_step_then_validation_then_term() {
    let memory = Memory::new(Plan::default());
    let mut checkpoints = open(&memory).unwrap();
    let order = [
        state(9, 1, LastTask::Validation),
        state(1, 2, LastTask::Step),
        state(3, 2, LastTask::Step),
        state(1, 2, LastTask::Validation),
        state(2, 2, LastTask::Validation),
    ];
    for state in &order {
        save(&mut checkpoints, state).unwrap();
        let (newest, _) = checkpoints.newest(&digest_of).found.unwrap();
        assert_eq!((newest.step, newest.last_task, newest.term), (state.step, state.last_task, state.term));
        assert_eq!(newest.progress, state.progress);
        // Saved in another order they are the same.
        let mut again = open(&memory).unwrap();
        assert_eq!(again.newest(&digest_of).found.unwrap().0, newest);
    }
}

#[test]
fn every_changed_byte_of_the_newest_is_seen_and_fallen_back_over() {
    let memory = Memory::new(Plan::default());
    let mut checkpoints = open(&memory).unwrap();
    save_step(&mut checkpoints, 1, 1).unwrap();
    save_step(&mut checkpoints, 1, 2).unwrap();
    for file in ["step-00000002-term-1.json", "step-00000002-term-1.safetensors"] {
        let path = Path::new(FOLDER).join(file);
        let whole = memory.read(&path, LIMIT).unwrap();
        for place in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[place] ^= 1 << (place % 8);
            for content in [&rotten[..], &whole[..place]] {
                memory.overwrite(&path, content);
                let Newest { found, rejected } = checkpoints.newest(&digest_of);
                assert_eq!(found.unwrap().0.step, 1, "byte {place} of {file}");
                let [rejected] = &rejected[..] else { panic!("{rejected:?}") };
                assert!(
                    matches!(rejected.flaw, Flaw::ManifestDamaged | Flaw::WeightsDamaged { .. }),
                    "{rejected}"
                );
            }
        }
        memory.overwrite(&path, &whole);
    }
    assert_eq!(checkpoints.newest(&digest_of).found.unwrap().0.step, 2);
}

#[test]
fn what_is_no_checkpoint_says_why() {
    let memory = Memory::new(Plan::default());
    let mut checkpoints = open(&memory).unwrap();
    save_step(&mut checkpoints, 1, 1).unwrap();
    let name = CheckpointName { step: 1, last_task: LastTask::Step, term: 1, copy: 1 };
    let load = |name, run_id, digest_of| match load_checkpoint(
        &memory,
        Path::new(FOLDER),
        &name,
        &run_id,
        digest_of,
    ) {
        Ok((manifest, _)) => panic!("step {} is accepted", manifest.step),
        Err(flaw) => flaw.to_string(),
    };
    let path = |file: &str| Path::new(FOLDER).join(file);
    let copy = |from: &str, to: &str| memory.overwrite(&path(to), &memory.read(&path(from), LIMIT).unwrap());

    assert!(load(name, [9; 16], &digest_of).starts_with("it belongs to run 0505"));
    let foreign = |_: &StoredModel| Err("it has three layers".to_owned());
    assert_eq!(load(name, RUN, &foreign), "its weights are not this network's: it has three layers");
    let other = |_: &StoredModel| Ok([0xee; 32]);
    assert!(load(name, RUN, &other).starts_with("its weights have the digest eeee"));
    copy("step-00000001-term-1.json", "step-00000008-term-1.json");
    let renamed = CheckpointName { step: 8, ..name };
    assert!(load(renamed, RUN, &digest_of).contains("belongs to step-00000001-term-1.safetensors:"));
    memory.remove(&path("step-00000001-term-1.safetensors")).unwrap();
    assert!(load(name, RUN, &digest_of).starts_with("its weights cannot be read"));

    let rejected = open(&memory).unwrap().newest(&digest_of).rejected;
    let sentences: Vec<_> = rejected.iter().map(ToString::to_string).collect();
    assert_eq!(sentences.len(), 2);
    assert!(
        sentences[1].starts_with(
            "/run/checkpoints/step-00000001-term-1.json is no checkpoint to resume from: its weights"
        ),
        "{sentences:?}"
    );
}

#[test]
fn pruning_keeps_the_newest_and_what_was_rejected() {
    let memory = Memory::new(Plan::default());
    let mut checkpoints = open(&memory).unwrap();
    for step in 1..=6 {
        save_step(&mut checkpoints, 1, step).unwrap();
    }
    let rotten = Path::new(FOLDER).join("step-00000006-term-1.json");
    memory.overwrite(&rotten, b"rotten");
    assert_eq!(checkpoints.newest(&digest_of).found.unwrap().0.step, 5);
    // Fewer than the least are never kept.
    assert!(checkpoints.prune(0).is_empty());
    let manifests = || {
        let names = memory.list(Path::new(FOLDER)).unwrap().into_iter();
        names
            .filter(|name| name.ends_with(".json"))
            .map(|name| name[5..13].parse().unwrap())
            .collect::<Vec<u64>>()
    };
    assert_eq!(manifests(), [3, 4, 5, 6]);
    assert_eq!(memory.list(Path::new(FOLDER)).unwrap().len(), 8, "weights are removed with their manifest");
    for step in 7..=9 {
        save_step(&mut checkpoints, 1, step).unwrap();
    }
    assert!(checkpoints.prune(4).is_empty());
    assert_eq!(manifests(), [5, 6, 7, 8, 9]);
    memory.plan(Plan { fail_at: Some((0, io::ErrorKind::Other)), ..Plan::default() });
    let failures = checkpoints.prune(3);
    assert_eq!(failures.len(), 1);
    assert!(
        failures[0].to_string().contains("step-00000005-term-1.json: removing it failed"),
        "{}",
        failures[0]
    );
}
