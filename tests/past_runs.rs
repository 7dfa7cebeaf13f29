//! A run that has been is read as it is: whatever became of its files, wherever it lies by now, and whatever the
//! environment says about training.

use std::fs;
use std::path::Path;

use lockstep_checkpoint::read_model;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::bad_input::data;
use crate::dashboard::client::Events;
use crate::dashboard::{dashboard_of, show};
use crate::harness::{Finished, coordinator, manifests, run_small, send_signal, start, wait_until};

fn run(folder: &Path, arguments: &[&str]) -> Finished {
    start(coordinator(folder).args(arguments)).finish()
}

/// A folder with a file of weights that a run has been trained to.
fn weights() -> TempDir {
    let (finished, folder) = run_small(&["--max-steps", "5"]);
    finished.done();
    fs::rename(folder.path().join("run/model.safetensors"), folder.path().join("begin.safetensors")).unwrap();
    folder
}

#[test]
fn a_final_model_that_is_lost_or_torn_is_taken_from_its_checkpoint_and_written_again() {
    let (finished, folder) = run_small(&[]);
    let digest = finished.done().digest();
    let path = folder.path().join("run/model.safetensors");
    let whole = fs::read(&path).unwrap();
    let break_it: [&dyn Fn(); 2] =
        [&|| fs::remove_file(&path).unwrap(), &|| fs::write(&path, &whole[..whole.len() / 2]).unwrap()];
    for broken in break_it {
        broken();
        let evaluated = run(folder.path(), &["evaluate", "run", "--json"]).done();
        let found: Value = serde_json::from_str(&evaluated.stdout).unwrap();
        assert_eq!(found["weights_digest"], *digest, "{evaluated}");
        let parts = ["run/model.safetensors", "the same weights are taken from run/checkpoints/step-"];
        assert!(parts.iter().all(|part| evaluated.stderr.contains(part)), "{evaluated}");
        let resumed = run(folder.path(), &["--resume", "run", "--json"]).done();
        assert!(resumed.stderr.contains("the run is done, but run/model.safetensors"), "{resumed}");
        assert_eq!(resumed.digest(), digest);
        assert!(fs::read(&path).unwrap() == whole, "it is not what it was");
    }
    // Without either there is nothing to evaluate, and the way out is named.
    fs::remove_file(&path).unwrap();
    fs::remove_dir_all(folder.path().join("run/checkpoints")).unwrap();
    let lost = run(folder.path(), &["evaluate", "run"]);
    assert_eq!((lost.code(), lost.stderr.lines().count()), (Some(1), 1), "{lost}");
    assert!(lost.stderr.contains("run/model.safetensors is not there; write it again with"), "{lost}");
    let report = run(folder.path(), &["report", "run"]).done();
    assert!(report.stderr.contains("the report predicts no digits: run/model.safetensors"), "{report}");
    let resumed = run(folder.path(), &["--resume", "run", "--json"]).done();
    assert_eq!(resumed.digest(), digest, "replayed from its first step: {resumed}");
}

#[test]
fn a_run_that_went_on_is_not_shown_as_done() {
    let (finished, folder) = run_small(&["--max-steps", "10"]);
    finished.done();
    let directory = folder.path().join("run");
    let before = manifests(&directory).pop();
    let mut command = coordinator(folder.path());
    command.args([
        "--resume",
        "run",
        "--max-steps",
        "100000",
        "--epochs",
        "100000",
        "--checkpoint-every",
        "0",
    ]);
    let mut resumed = start(&mut command);
    resumed.wait_for_line("epoch      3/100000");
    // A busy disk may be behind.
    wait_until(|| manifests(&directory).pop() != before);
    resumed.signal(Signal::KILL);
    resumed.finish();
    let (_show, address) = show(folder.path(), &[]);
    let told = Events::open(address).next().unwrap();
    assert_eq!((&told["ended"]["well"], &told["test"]), (&false.into(), &Value::Null), "{told}");
    let filters: Value = serde_json::from_str(&address.get("/api/filters").text()).unwrap();
    assert!(filters["step"].as_u64().unwrap() > 10, "its newest checkpoint: {filters}");
    fs::create_dir(folder.path().join("copy")).unwrap();
    for file in ["config.toml", "steps.log", "summary.json", "metrics.jsonl"] {
        fs::copy(directory.join(file), folder.path().join("copy").join(file)).unwrap();
    }
    let compared = run(folder.path(), &["compare", "run", "copy", "--json"]).done().summary();
    let statuses = [0, 1].map(|at| &compared["runs"][at]["status"]);
    assert_eq!(statuses, ["unfinished"; 2], "{compared}");
}

#[test]
fn the_summary_of_another_run_is_not_taken_for_this_one_s() {
    let (finished, folder) = run_small(&["--max-steps", "5"]);
    finished.done();
    let path = folder.path().join("run/summary.json");
    let summary = fs::read_to_string(&path).unwrap();
    let run_id = serde_json::from_str::<Value>(&summary).unwrap()["run_id"].as_str().unwrap().to_string();
    let other = "0123456789abcdef".repeat(2);
    fs::write(&path, summary.replace(&run_id, &other)).unwrap();
    for command in ["show", "report", "evaluate"] {
        let refused = run(folder.path(), &[command, "run"]);
        let sentence = format!("error: run/summary.json is the summary of another run, {other}\n");
        assert_eq!((refused.code(), &*refused.stderr), (Some(1), &*sentence), "{command}");
    }
}

#[test]
fn variables_that_are_for_training_change_nothing() {
    let (finished, folder) = run_small(&["--max-steps", "5"]);
    finished.done();
    let variables =
        [("SEED", "7"), ("CONFIG", "nowhere"), ("RUN_DIR", "other"), ("WORKERS", "0"), ("INIT", "nowhere")];
    for arguments in [&["verify", "run"][..], &["report", "run"]] {
        let mut command = coordinator(folder.path());
        command.envs(variables.map(|(name, value)| (format!("LOCKSTEP_{name}"), value)));
        let finished = start(command.args(arguments)).finish().done();
        assert!(!finished.stderr.contains("WARN"), "{finished}");
    }
}

#[test]
fn a_run_from_given_weights_is_begun_again_from_wherever_it_lies() {
    let begin = weights();
    let init = begin.path().join("begin.safetensors");
    let (finished, folder) = run_small(&["--max-steps", "5", "--init", init.to_str().unwrap()]);
    let digest = finished.done().digest();
    fs::rename(folder.path().join("run"), folder.path().join("moved")).unwrap();
    fs::remove_file(init).unwrap();
    let again = run(folder.path(), &["--config", "moved/config.toml", "--run-dir", "again", "--json"]).done();
    assert_eq!(again.digest(), digest);
}

#[test]
fn filters_are_shown_as_the_given_weights_had_them() {
    let begin = weights();
    let init = begin.path().join("begin.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    let arguments = ["--run-dir", "run", "--dataset", "digits", "--examples", "500", "--max-steps", "5"];
    command.args(arguments).args(["--stay", "--init", init.to_str().unwrap()]);
    let mut live = start(&mut command);
    let address = dashboard_of(&mut live);
    live.wait_for_line("the dashboard stays at http://");
    let kernel = &read_model(&init).unwrap().tensor("conv1.kernel").unwrap().values.clone();
    // Filter after filter, its nine weights in a row.
    let rows = (0..16).flat_map(|filter| (0..9).map(move |tap| kernel[tap * 16 + filter]));
    let expected: Vec<f64> = rows.map(f64::from).collect();
    let started = |text: String| -> Vec<f64> {
        let filters: Value = serde_json::from_str(&text).unwrap();
        filters["start"].as_array().unwrap().iter().map(|weight| weight.as_f64().unwrap()).collect()
    };
    let close = |one: Vec<f64>| one.iter().zip(&expected).all(|(one, other)| (one - other).abs() < 1e-6);
    assert!(close(started(address.get("/api/filters").text())));
    live.signal(Signal::INT);
    live.finish();
    let (_show, address) = show(folder.path(), &[]);
    assert!(close(started(address.get("/api/filters").text())));
}

#[test]
fn a_run_whose_data_are_gone_is_shown_as_far_as_it_came() {
    let folder = data::folder();
    let arguments =
        ["--run-dir", "run", "--data-dir", "data", "--batch-size", "8", "--validation-split", "0.1"];
    let mut command = coordinator(folder.path());
    command.args(arguments).args(["--workers", "1", "--epochs", "4", "--max-steps", "12"]);
    start(&mut command).finish().done();
    // As if it had been killed before its end.
    for name in ["summary.json", "workers.json", "model.safetensors"] {
        fs::remove_file(folder.path().join("run").join(name)).unwrap();
    }
    let metrics = folder.path().join("run/metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    let seven: Vec<&str> =
        text.split_inclusive('\n').take_while(|line| !line.contains("\"step\":8,")).collect();
    fs::write(&metrics, seven.concat()).unwrap();
    let events = folder.path().join("run/events.jsonl");
    let text = fs::read_to_string(&events).unwrap();
    let unfinished: Vec<&str> =
        text.split_inclusive('\n').filter(|line| !line.contains("\"finish\"")).collect();
    fs::write(&events, unfinished.concat()).unwrap();
    fs::remove_dir_all(folder.path().join("data")).unwrap();

    let (_show, address) = show(folder.path(), &[]);
    let told = Events::open(address).next().unwrap();
    let facts = &told["facts"];
    // 36 examples to train on, in batches of 8.
    assert_eq!((&facts["steps"], &facts["steps_per_epoch"]), (&12.into(), &5.into()), "{told}");
    assert_eq!((&facts["train_examples"], &told["progress"]["step"]), (&36.into(), &7.into()), "{told}");
    let flaw = facts["no_digits"].as_str().unwrap();
    assert!(flaw.starts_with("the page has no test digits: ") && flaw.contains("--data-dir"), "{flaw}");
    assert!(told["ended"]["how"].as_str().unwrap().starts_with("not finished"), "{told}");
}

#[test]
fn a_run_that_lost_its_workers_ended_as_it_said_on_the_page_and_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--run-dir", "run", "--dataset", "digits", "--examples", "500", "--epochs", "100000"]);
    command.args(["--workers", "1", "--max-restarts", "0", "--patience", "0"]);
    let mut lost = start(&mut command);
    let worker = lost.wait_for_workers(1)[0];
    lost.wait_for_line("epoch      1/100000");
    send_signal(worker, Signal::KILL);
    let lost = lost.finish();
    assert_eq!(lost.code(), Some(75), "{lost}");
    let report = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    let (_show, address) = show(folder.path(), &[]);
    let told = Events::open(address).next().unwrap();
    let how = told["ended"]["how"].as_str().unwrap();
    assert!(how.starts_with("ended: no worker is left"), "{told}");
    assert!(report.contains(how), "{how}");
    // Who it was is known, too.
    assert_eq!(told["workers"]["workers"][0]["state"], "gone", "{told}");
}

#[test]
fn a_run_whose_evaluation_is_not_finite_is_shown_as_diverged() {
    let (finished, folder) = run_small(&["--learning-rate", "1e30", "--max-steps", "1"]);
    assert_eq!(finished.code(), Some(1), "{finished}");
    let summary = finished.summary();
    assert_eq!((&summary["status"], &summary["test_loss"]), (&"diverged".into(), &Value::Null), "{summary}");
    let report = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(report.contains("diverged") && !report.contains("NaN"), "{report}");
    let (_show, address) = show(folder.path(), &[]);
    let told = Events::open(address).next().unwrap();
    let how = told["ended"]["how"].as_str().unwrap();
    assert!(how.contains("diverged") && told["ended"]["well"] == false, "{told}");
}
