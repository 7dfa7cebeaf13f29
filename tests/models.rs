//! A model travels: exported, taken up again by `--init`, evaluated to the run's own bits, and asked about drawings.

mod bad_input;
mod drawings;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    Finished, coordinator, kill_with_checkpoints, killed, manifests, run_small, start, wait_until,
};

/// A folder with the small run in `run/`, trained once, and only read by the tests.
fn trained() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let (finished, folder) = run_small(&["--workers", "1"]);
            finished.done();
            folder
        })
        .path()
}

fn run(folder: &Path, arguments: &[&str]) -> Finished {
    start(coordinator(folder).args(arguments)).finish()
}

fn summary(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("run/summary.json")).unwrap()).unwrap()
}

/// A small run in a new folder that begins with the weights in `init`.
fn begun_from(init: &Path, arguments: &[&str]) -> (Finished, TempDir) {
    let (finished, folder) =
        run_small(&[&["--workers", "1", "--init", init.to_str().unwrap()], arguments].concat());
    (finished.done(), folder)
}

#[test]
fn an_exported_model_has_the_weights_of_the_run_in_every_format() {
    let out = tempfile::tempdir().unwrap();
    let digest = summary(trained())["weights_digest"].as_str().unwrap().to_owned();
    for (format, name, loaded) in [
        ("safetensors", "net.safetensors", "net.safetensors"),
        ("onnx", "net.onnx", "net.onnx"),
        ("tfjs", "net", "net/model.json"),
    ] {
        let path = out.path().join(name);
        let path = path.to_str().unwrap();
        let arguments = ["export", "run", "--format", format, "--out", path];
        let finished = run(trained(), &arguments).done();
        assert_eq!(finished.stdout.trim_end(), out.path().join(loaded).to_str().unwrap(), "{finished}");
        assert!(finished.stderr.contains("after step 28 of a finished run"), "{finished}");
        // Again: the same bytes in the same place.
        let first = fs::read(out.path().join(loaded)).unwrap();
        run(trained(), &arguments).done();
        assert!(fs::read(out.path().join(loaded)).unwrap() == first, "{format} differs from run to run");
        assert!(String::from_utf8_lossy(&first).contains(&digest), "{format} says whose weights it has");
    }
    assert_eq!(fs::read(out.path().join("net/group1-shard1of1.bin")).unwrap().len(), 132_776);
    // What PyTorch would write back is the same model here.
    let evaluated = run(out.path(), &["evaluate", "net.safetensors", "--dataset", "digits", "--json"]).done();
    assert_eq!(evaluated.digest(), digest);
}

#[test]
fn without_a_name_the_export_lies_beside_the_model() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(trained().join("run/model.safetensors"), folder.path().join("seven.safetensors")).unwrap();
    let places = ["seven.pytorch.safetensors", "seven.onnx", "seven-tfjs/model.json"];
    for (format, place) in ["safetensors", "onnx", "tfjs"].iter().zip(places) {
        let finished = run(folder.path(), &["export", "seven.safetensors", "--format", format]).done();
        assert_eq!(finished.stdout.trim_end(), place);
        assert!(folder.path().join(place).exists());
    }
    // A dot in a name begins no extension.
    for (name, place) in [("net.v1", "net.v1.onnx"), ("net.v2.safetensors", "net.v2.onnx")] {
        fs::copy(trained().join("run/model.safetensors"), folder.path().join(name)).unwrap();
        let finished = run(folder.path(), &["export", name, "--format", "onnx"]).done();
        assert_eq!(finished.stdout.trim_end(), place);
    }
}

#[test]
fn an_evaluation_has_the_bits_of_the_run_s_own_test() {
    let own = summary(trained());
    for threads in ["1", "3"] {
        let found = run(trained(), &["evaluate", "run", "--json", "--threads", threads]).done().summary();
        for key in ["weights_digest", "test_loss", "test_accuracy", "confusion_matrix", "dataset"] {
            assert_eq!(found[key], own[key], "{key} with {threads} threads");
        }
        assert_eq!((&found["step"], &found["test_examples"]), (&own["steps"], &10_000.into()));
        let (class, row) = (&found["classes"][3], &own["confusion_matrix"][3]);
        let all: u64 = row.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(class["examples"], all);
        let recall = row[3].as_u64().unwrap() as f64 / all as f64;
        assert!((class["recall"].as_f64().unwrap() - recall).abs() < 1e-6, "{class}");
    }
    // A switch of the environment as any other run takes it.
    let mut command = coordinator(trained());
    let text = start(command.args(["evaluate", "run"]).env("LOCKSTEP_OFFLINE", "1")).finish().done().stdout;
    for part in
        ["after step 28 of a finished run", "10000 test images of digits", "recall", "true \\ predicted"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn predictions_are_written_for_every_test_image() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("all.csv");
    let arguments = ["evaluate", "run", "--json", "--predictions", path.to_str().unwrap()];
    let found = run(trained(), &arguments).done().summary();
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("index,label,predicted,logit0,"));
    let mut confusion = vec![vec![0_u64; 10]; 10];
    for (index, line) in lines.enumerate() {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!((fields.len(), fields[0]), (13, &*index.to_string()));
        let logits: Vec<f32> = fields[3..].iter().map(|logit| logit.parse().unwrap()).collect();
        let predicted: usize = fields[2].parse().unwrap();
        assert!(logits.iter().all(|logit| *logit <= logits[predicted]), "{line}");
        confusion[fields[1].parse::<usize>().unwrap()][predicted] += 1;
    }
    assert_eq!(found["confusion_matrix"], serde_json::json!(confusion));
}

#[test]
fn a_run_that_is_not_finished_stands_for_its_newest_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--run-dir", "run", "--checkpoint-every", "0", "--workers", "1", "--epochs", "100000"]);
    let small = ["--dataset", "digits", "--examples", "500", "--batch-size", "32"];
    let mut running = start(command.args(small));
    running.wait_for_line(" 1/100000 ");
    let directory = folder.path().join("run");
    wait_until(|| !manifests(&directory).is_empty());
    // Beside the coordinator that writes.
    let beside = run(folder.path(), &["evaluate", "run", "--json"]).done().summary();
    assert!(beside["step"].as_u64().unwrap() >= 1, "{beside}");
    assert!(!kill_with_checkpoints(running, &directory, 2).status.success());
    // A model without its manifest was not finished when the coordinator was killed.
    let newest = manifests(&directory).pop().unwrap();
    let evaluate = || run(folder.path(), &["evaluate", "run", "--json"]).done();
    let manifest: Value = serde_json::from_str(&fs::read_to_string(&newest).unwrap()).unwrap();
    let found = evaluate().summary();
    assert_eq!(found["weights_digest"], manifest["weights_digest"]);
    assert_eq!(found["step"], manifest["step"]);
    let exported = run(folder.path(), &["export", "run", "--format", "onnx"]).done();
    assert!(exported.stderr.contains("of a run that is not finished"), "{exported}");
    // A rotten one is fallen back over, and named.
    let rotten = newest.with_extension("safetensors");
    let mut bytes = fs::read(&rotten).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&rotten, bytes).unwrap();
    let older = evaluate();
    assert!(older.stderr.contains("is no valid checkpoint"), "{older}");
    // The one before may be of the same step, before its validation.
    let older = older.summary();
    assert_ne!(older["model"], found["model"]);
    assert!(older["step"].as_u64() <= manifest["step"].as_u64(), "{older}");
}

#[test]
fn a_run_begins_with_the_weights_of_a_file_in_either_layout() {
    let out = tempfile::tempdir().unwrap();
    let theirs = out.path().join("theirs.safetensors");
    let arguments = ["export", "run", "--format", "safetensors", "--out", theirs.to_str().unwrap()];
    run(trained(), &arguments).done();
    let (own, own_folder) = begun_from(&trained().join("run/model.safetensors"), &[]);
    let (other, other_folder) = begun_from(&theirs, &[]);
    assert_eq!(own.digest(), other.digest(), "one identity, the same bits");
    let digest = summary(trained())["weights_digest"].as_str().unwrap().to_owned();
    assert_ne!(own.digest(), digest);
    let config = |folder: &Path| fs::read_to_string(folder.join("run/config.toml")).unwrap();
    for folder in [own_folder.path(), other_folder.path()] {
        let config = config(folder);
        assert!(config.contains(&format!("initial-weights = \"{digest}\"")), "{config}");
        assert!(config.contains("init = \"initial.safetensors\""), "{config}");
    }
    let without = config(trained());
    assert!(!without.contains("init"), "a run without it is as it always was: {without}");
    // Everything is in the run's directory.
    fs::remove_file(&theirs).unwrap();
    let verified = run(other_folder.path(), &["verify", "run"]).done();
    assert!(verified.stdout.contains("steps 1 to 28: 28 digests computed again"), "{verified}");
    let again =
        run(other_folder.path(), &["--config", "run/config.toml", "--run-dir", "again", "--json"]).done();
    assert_eq!(again.digest(), own.digest());
}

#[test]
fn a_killed_run_goes_on_from_its_own_copy_of_the_initial_weights() {
    let init = trained().join("run/model.safetensors");
    let undisturbed = begun_from(&init, &["--epochs", "40"]).0.digest();
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("start.safetensors");
    fs::copy(&init, &outside).unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--json", "--run-dir", "run", "--init", "start.safetensors", "--workers", "1"]);
    command.args(["--dataset", "digits", "--examples", "500", "--batch-size", "32", "--epochs", "40"]);
    killed(&mut command);
    fs::remove_file(&outside).unwrap();
    fs::remove_dir_all(folder.path().join("run/checkpoints")).unwrap();

    // From other weights it would be another run.
    let other = folder.path().join("other.safetensors");
    let foreign = begun_from(&init, &[]).1;
    fs::copy(foreign.path().join("run/model.safetensors"), &other).unwrap();
    let refused = run(folder.path(), &["--resume", "run", "--init", "other.safetensors"]);
    assert_eq!(refused.code(), Some(2), "{refused}");
    for part in ["its initial-weights is ", " in its config.toml", "leave --init out"] {
        assert!(refused.stderr.contains(part), "{part:?} is not in {refused}");
    }
    // Its copy is proved before it is used, and can be put back.
    let copy = folder.path().join("run/initial.safetensors");
    fs::copy(&other, &copy).unwrap();
    let refused = run(folder.path(), &["--resume", "run"]);
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains("are not those that it was begun with"), "{refused}");
    let refused = run(folder.path(), &["verify", "run"]);
    assert_eq!(refused.code(), Some(1), "{refused}");
    fs::remove_file(&copy).unwrap();
    let refused = run(folder.path(), &["--resume", "run"]);
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains("--resume run --init FILE"), "{refused}");
    fs::copy(&init, folder.path().join("found.safetensors")).unwrap();
    let resumed = run(folder.path(), &["--resume", "run", "--init", "found.safetensors", "--json"]).done();
    assert_eq!(resumed.digest(), undisturbed, "{resumed}");
    assert!(copy.exists());
    let verified = run(folder.path(), &["verify", "run", "--to", "60"]).done();
    assert!(verified.stdout.contains("60 digests computed again"), "{verified}");
}
