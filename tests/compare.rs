//! `coordinator compare` says what differs between runs, and at which step their bits part.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Finished, SMALL, coordinator, start};

/// Runs of a folder, trained once, and only read by the tests: the same with other workers, with another seed, longer.
fn trained() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let train = |name: &str, arguments: &[&str]| {
                let mut command = coordinator(folder.path());
                command.args(["--json", "--threads-per-worker", "1", "--run-dir", name]).args(arguments);
                command.args(SMALL.chunks(2).filter(|flag| !arguments.contains(&flag[0])).flatten());
                start(&mut command).finish().done();
            };
            train("one", &["--workers", "1"]);
            train("three", &["--workers", "3"]);
            train("seed", &["--workers", "1", "--seed", "7"]);
            train("longer", &["--workers", "1", "--epochs", "3"]);
            folder
        })
        .path()
}

fn run(folder: &Path, arguments: &[&str]) -> Finished {
    start(coordinator(folder).arg("compare").args(arguments)).finish()
}

/// A folder with the trained run `one` and a copy of the run `name`, whose files may be damaged.
fn copy_of(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [("one", "one"), (name, "copy")] {
        fs::create_dir(folder.path().join(to)).unwrap();
        for file in ["config.toml", "steps.log", "summary.json", "metrics.jsonl", "events.jsonl"] {
            fs::copy(trained().join(from).join(file), folder.path().join(to).join(file)).unwrap();
        }
    }
    folder
}

/// Asserts that `arguments` end with `code` and one line that has all `parts`.
fn refused(folder: &Path, arguments: &[&str], code: i32, parts: &[&str]) {
    let finished = run(folder, arguments);
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(code), ""), "{arguments:?}: {finished}");
    assert_eq!(finished.stderr.lines().count(), 1, "{arguments:?}: {finished}");
    for part in parts {
        assert!(finished.stderr.contains(part), "{part:?} is not in {finished}");
    }
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn it_names_the_step_at_which_bits_part_and_why() {
    let finished = run(trained(), &["one", "three", "seed", "longer"]).done();
    for line in [
        "  A and B: the same bits in all 28 steps that both have\n",
        "  A and C: different from step 1 on; they differ in seed\n",
        "  A and D: the same bits in all 28 steps that both have\n",
    ] {
        assert!(finished.stdout.contains(line), "{line:?} is not in {finished}");
    }
    assert!(!finished.stdout.contains("WARNING"), "{finished}");
    assert!(finished.stdout.lines().all(|line| line.chars().count() <= 80), "{finished}");
    let row = |label: &str| -> Vec<&str> {
        // Two spaces at least lie between a label and the values; a table goes on below if it is too wide.
        let rows = finished.stdout.lines().filter_map(|line| line.strip_prefix(label)?.strip_prefix("  "));
        rows.flat_map(str::split_whitespace).collect()
    };
    assert_eq!(row("workers"), ["1", "3", "1", "1"]);
    assert_eq!(row("seed"), ["42", "42", "7", "42"]);
    assert_eq!(row("steps trained"), ["28", "28", "28", "42"]);
    assert_eq!(row("batch-size"), [""; 0], "what is the same everywhere is left out");
    assert!(finished.stdout.contains("validation accuracy, epoch by epoch"), "{finished}");
}

#[test]
fn programs_get_one_object_and_people_a_picture() {
    let out = tempfile::tempdir().unwrap();
    let svg = out.path().join("curves.svg");
    let arguments = ["three", "longer", "seed", "--json", "--svg", svg.to_str().unwrap()];
    let found = run(trained(), &arguments).done().summary();
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(trained().join("three/summary.json")).unwrap()).unwrap();
    for key in ["run_id", "weights_digest", "status", "steps", "test_loss", "val_accuracy", "faults"] {
        assert_eq!(found["runs"][0][key], summary[key], "{key}");
    }
    assert_eq!(found["runs"][1]["epoch_curve"].as_array().unwrap().len(), 3);
    assert_eq!(found["runs"][1]["step_curve"].as_array().unwrap().len(), 42);
    let fields: Vec<&str> =
        found["differences"].as_array().unwrap().iter().map(|one| one["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["seed", "workers", "epochs"]);
    let pairs = found["pairs"].as_array().unwrap();
    let of = |first: &str, second: &str| {
        let pair = pairs.iter().find(|pair| pair["first"] == first && pair["second"] == second).unwrap();
        ["steps_compared", "last_same_step", "first_different_step"].map(|key| pair[key].as_u64())
    };
    assert_eq!(of("A", "B"), [Some(28), Some(28), None]);
    assert_eq!(of("B", "C"), [Some(28), Some(0), Some(1)]);
    assert!(pairs.iter().all(|pair| pair["broken_promise"] == false), "{found}");

    let picture = fs::read_to_string(svg).unwrap();
    assert_eq!(picture.matches("<path").count(), 4 * 3, "four charts of three curves: {picture}");
    for part in ["A  three  (done)", "C  seed  (done)", "Validation accuracy"] {
        assert!(picture.contains(part), "{part} is not in {picture}");
    }
}

#[test]
fn a_run_that_was_cut_short_is_compared_as_far_as_it_goes() {
    let folder = copy_of("three");
    let copy = folder.path().join("copy");
    fs::remove_file(copy.join("summary.json")).unwrap();
    // The header, the start of a coordinator, nine whole records and a torn one.
    let log = fs::read(copy.join("steps.log")).unwrap();
    fs::write(copy.join("steps.log"), &log[..64 + 10 * 92 + 50]).unwrap();
    let metrics = fs::read(copy.join("metrics.jsonl")).unwrap();
    fs::write(copy.join("metrics.jsonl"), &metrics[..metrics.len() - 20]).unwrap();
    let finished = run(folder.path(), &["one", "copy"]).done();
    assert!(finished.stdout.contains("A and B: the same bits in all 9 steps that both have\n"), "{finished}");
    assert!(finished.stdout.contains(" unfinished\n"), "{finished}");
    assert!(finished.stderr.contains("copy/steps.log: record 11, at byte 984, is torn"), "{finished}");
}

#[test]
fn bad_input_gets_one_clear_line() {
    let (failed, usage) = (1, 2);
    let folder = copy_of("three");
    let copy = folder.path().join("copy");
    let path = folder.path();
    fs::create_dir(path.join("empty")).unwrap();
    refused(path, &["one", "absent"], failed, &["there is no run directory absent"]);
    refused(path, &["one", "empty"], failed, &["empty is no run directory, it has no config.toml"]);
    refused(path, &["one", "one/config.toml"], failed, &["one/config.toml is a file and no folder"]);
    refused(path, &["one", "./one/"], usage, &["one and ./one/ are the same run directory"]);
    refused(path, &["one", "copy", "--svg", "empty"], failed, &["empty is a folder; name a file", "--svg"]);
    refused(path, &["one", "copy", "--svg", "absent/a.svg"], failed, &["cannot write absent/a.svg", "--svg"]);
    let few = run(path, &["one"]);
    assert_eq!((few.code(), few.stdout.as_str()), (Some(usage), ""), "{few}");
    assert!(few.stderr.contains("RUN_DIR"), "{few}");

    let summary = fs::read_to_string(copy.join("summary.json")).unwrap();
    edit(&copy.join("summary.json"), "\"schema_version\":1", "\"schema_version\":2");
    refused(path, &["one", "copy"], failed, &["copy/summary.json", "has schema version 2", "reads 1"]);
    fs::write(copy.join("summary.json"), &summary[..200]).unwrap();
    refused(path, &["one", "copy"], failed, &["copy/summary.json is no summary of a run"]);
    fs::copy(path.join("one/summary.json"), copy.join("summary.json")).unwrap();
    refused(path, &["one", "copy"], failed, &["copy/summary.json is the summary of another run"]);
    fs::write(copy.join("summary.json"), &summary).unwrap();

    let log = fs::read(copy.join("steps.log")).unwrap();
    fs::copy(path.join("one/steps.log"), copy.join("steps.log")).unwrap();
    refused(path, &["one", "copy"], failed, &["copy/steps.log", "run id"]);
    fs::remove_file(copy.join("steps.log")).unwrap();
    refused(path, &["one", "copy"], failed, &["copy/steps.log", "No such file"]);
    fs::write(copy.join("steps.log"), log).unwrap();

    // Another numerics version in the configuration alone is another identity than the log's.
    edit(&copy.join("config.toml"), "numerics-version = ", "numerics-version = 9");
    refused(path, &["one", "copy"], failed, &["copy/steps.log", "identity"]);
    let config = fs::read_to_string(copy.join("config.toml")).unwrap();
    fs::write(copy.join("config.toml"), &config[..config.find("numerics-version").unwrap()]).unwrap();
    refused(path, &["one", "copy"], failed, &["copy/config.toml does not say which run it is"]);
}
