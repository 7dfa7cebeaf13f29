//! `coordinator verify` holds all that a run says of its weights against steps computed again, and says what it did not see.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::bad_input::data;
use crate::harness::{Finished, coordinator, manifests, run_small, start};

/// A record of the log, and its header.
const RECORD_BYTES: usize = 92;
const HEADER_BYTES: usize = 64;

fn verify(folder: &Path, arguments: &[&str]) -> Finished {
    start(coordinator(folder).args(["verify", "run"]).args(arguments)).finish()
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn says(finished: &Finished, code: i32, parts: &[&str]) {
    assert_eq!(finished.code(), Some(code), "{finished}");
    for part in parts {
        assert!(finished.stdout.contains(part), "{part:?} is not in {finished}");
    }
}

#[test]
fn all_that_a_run_says_of_its_weights_is_compared() {
    let (finished, folder) = run_small(&["--checkpoint-every", "0"]);
    finished.done();
    let run = folder.path().join("run");
    let sound = verify(folder.path(), &[]);
    let newest = manifests(&run).pop().unwrap();
    let newest = format!("run/checkpoints/{}", newest.file_name().unwrap().display());
    let model = "run/model.safetensors is the state after step 28";
    says(&sound, 0, &["steps 1 to 28: 28 digests computed again, all as logged\n", model, &newest]);
    assert!(sound.stdout.contains("run/summary.json") && !sound.stdout.contains("not seen"), "{sound}");

    // From a checkpoint on, what came before is not seen, and said so.
    let part = verify(folder.path(), &["--from", "28"]);
    says(
        &part,
        0,
        &["steps 28 to 28: 1 digests", "were not computed again; run/checkpoints/", " was taken as it is"],
    );

    let summary = fs::read_to_string(run.join("summary.json")).unwrap();
    let digest =
        serde_json::from_str::<Value>(&summary).unwrap()["weights_digest"].as_str().unwrap().to_string();
    fs::write(run.join("summary.json"), summary.replace(&digest, &"ab".repeat(32))).unwrap();
    says(&verify(folder.path(), &[]), 1, &["step 28 differs: ", "run/summary.json has abab"]);
}

#[test]
fn a_log_that_ends_before_its_run_is_no_proof_of_it() {
    let (finished, folder) = run_small(&[]);
    finished.done();
    let run = folder.path().join("run");
    // At the border of a record: the start, and 18 steps.
    change(&run.join("steps.log"), |log| log.truncate(HEADER_BYTES + 19 * RECORD_BYTES));
    let cut = verify(folder.path(), &[]);
    says(&cut, 1, &["18 digests computed again, all as logged (10 have no record)"]);
    says(
        &cut,
        1,
        &[
            "not seen: steps 19 to 28 have no record: the log ends with step 18, before the run did, and no event",
        ],
    );
    // A disk that did not keep up explains it.
    let event = r#"{"kind":"log_failed","seconds":1.0,"step":18,"worker":null,"reason":"the disk was full"}"#;
    change(&run.join("events.jsonl"), |events| events.extend(format!("{event}\n").bytes()));
    says(&verify(folder.path(), &[]), 0, &["as the run says: the disk was full"]);
    // Damage is named.
    change(&run.join("steps.log"), |log| *log.last_mut().unwrap() ^= 1);
    says(&verify(folder.path(), &[]), 0, &["not seen: run/steps.log: record 19", "and it is damaged"]);
}

#[test]
fn a_model_with_any_bit_flipped_does_not_belong_to_its_run() {
    let (finished, folder) = run_small(&["--max-steps", "3"]);
    finished.done();
    let path = folder.path().join("run/model.safetensors");
    let whole = fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&whole).into_owned();
    let at = |part: &str| text.find(part).unwrap();
    // Its length, its metadata, its tensors' names and places, its first and its last weight.
    let places =
        [0, at("seed"), at("digits"), at("conv1"), at("data_offsets"), whole.len() / 2, whole.len() - 1];
    for place in places {
        change(&path, |model| model[place] ^= 1);
        says(&verify(folder.path(), &[]), 1, &["run/model.safetensors "]);
        fs::write(&path, &whole).unwrap();
    }
    says(&verify(folder.path(), &[]), 0, &["run/model.safetensors is the state after step 3"]);
    // An earlier state of the same run is not its end.
    let (earlier, other) = run_small(&["--max-steps", "2"]);
    earlier.done();
    fs::copy(other.path().join("run/model.safetensors"), &path).unwrap();
    says(&verify(folder.path(), &[]), 1, &["is not the state after step 3: it is the state after step 2"]);
    // One that is gone is not seen.
    fs::remove_file(&path).unwrap();
    says(&verify(folder.path(), &[]), 0, &["not seen: run/model.safetensors is not there"]);
}

#[test]
fn the_data_may_lie_elsewhere_than_they_did() {
    let folder = data::folder();
    let mut command = coordinator(folder.path());
    command.args(["--run-dir", "run", "--data-dir", "data", "--batch-size", "8", "--max-steps", "3"]);
    start(&mut command).finish().done();
    fs::rename(folder.path().join("data"), folder.path().join("moved")).unwrap();
    let lost = verify(folder.path(), &[]);
    assert_eq!(lost.code(), Some(1), "{lost}");
    assert!(lost.stderr.contains("--data-dir"), "{lost}");
    says(&verify(folder.path(), &["--data-dir", "moved"]), 0, &["3 digests computed again, all as logged\n"]);
}
