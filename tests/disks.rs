//! No disk and no terminal stops a run: steps go on while one stalls, what is lost is counted and told once, it goes on
//! with what comes then, and no end waits for it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{END_BY_SIGNAL, Running, SMALL, coordinator, json_lines, manifests, start, wait_until};

/// Steps of milliseconds, as many as it takes.
fn endless(folder: &Path) -> Command {
    let mut command = coordinator(folder);
    command.args(["--json", "--run-dir", "run", "--dataset", "digits", "--examples", "200"]);
    command.args(["--batch-size", "8", "--workers", "2", "--epochs", "100000", "--validation-split", "0"]);
    command.args(["--checkpoint-every", "0"]);
    command
}

fn with_fault(mut command: Command, fault: &str) -> Running {
    start(command.env("LOCKSTEP_CRASH_AT", format!("coordinator/{fault}")))
}

fn events(folder: &Path, kind: &str) -> Vec<Value> {
    let mut events = json_lines(&folder.join("run/events.jsonl"));
    events.retain(|event| event["kind"] == kind);
    events
}

/// Steps of the newest checkpoint.
fn saved(folder: &Path) -> u64 {
    let newest = manifests(&folder.join("run")).pop();
    let text = newest.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    serde_json::from_str::<Value>(&text).map_or(0, |manifest| manifest["step"].as_u64().unwrap_or(0))
}

/// Kills a run, and lets a later process of it end: what it says of the weights is what any run says.
fn survives_being_killed(run: Running, folder: &Path) {
    run.signal(Signal::KILL);
    run.finish();
    let resumed = start(coordinator(folder).args(["--resume", "run", "--json"])).then_end_by(Signal::INT);
    let summary = resumed.summary();
    let steps = summary["steps"].to_string();
    let again = tempfile::tempdir().unwrap();
    let mut command = endless(again.path());
    let again = start(command.args(["--max-steps", &steps])).finish().done();
    assert_eq!(resumed.digest(), again.digest(), "after {steps} steps");
}

impl Running {
    /// Ends it once it has trained on.
    fn then_end_by(mut self, signal: Signal) -> crate::harness::Finished {
        self.wait_for_line("epoch ");
        self.wait_for_line("epoch ");
        self.signal(signal);
        self.finish()
    }
}

/// The step after which a run has said something, which a line of its standard error has.
fn number_after(line: &str, word: &str) -> u64 {
    let (_, after) = line.split_once(word).unwrap_or_else(|| panic!("no {word} in {line}"));
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// Waits until the run has told both that the disk does not answer and that steps are lost, in any order; the latter.
fn stalled(run: &mut Running) -> String {
    let (mut silent, mut behind) = (false, None);
    run.wait_for(|line| {
        silent |= line.contains("the disk has not answered for 5 s");
        if line.contains("steps behind: from step ") {
            behind = Some(line.to_string());
        }
        behind.clone().filter(|_| silent)
    })
}

#[test]
fn steps_go_on_while_the_disk_stalls_and_all_is_well_again_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let until = folder.path().join("go on");
    let mut run = with_fault(endless(folder.path()), &format!("disk:40=stall-{}", until.display()));
    let first_lost = number_after(&stalled(&mut run), "from step ");
    // Twenty-five steps an epoch.
    (0..20).for_each(|_| drop(run.wait_for_line("epoch ")));
    File::create(until).unwrap();
    run.wait_for_line("the disk answers again, after ");
    let caught_up = run.wait_for_line("the disk has caught up: ");
    let last_lost = number_after(&caught_up, " to ");
    assert!(caught_up.contains(&format!(" {first_lost} to {last_lost} have no record")), "{caught_up}");
    assert!(last_lost > first_lost + 19 * 25, "{caught_up}");
    wait_until(|| saved(folder.path()) > last_lost);
    for kind in ["disk_behind", "disk_stalled", "disk_answers", "disk_caught_up"] {
        wait_until(|| !events(folder.path(), kind).is_empty());
        assert_eq!(events(folder.path(), kind).len(), 1, "{kind} is told once");
    }
    survives_being_killed(run, folder.path());
}

#[test]
fn steps_go_on_while_a_file_of_records_stalls() {
    let folder = tempfile::tempdir().unwrap();
    // Of the queues, that of steps overflows first; both are the one thread's.
    let mut run = with_fault(endless(folder.path()), "record:60=stall");
    stalled(&mut run);
    let begin = Instant::now();
    run.signal(Signal::INT);
    let finished = run.finish();
    assert!(begin.elapsed() < END_BY_SIGNAL, "took {:?}", begin.elapsed());
    // The results lie on a disk of their own here, and are kept.
    assert_eq!(finished.code(), Some(130), "{finished}");
    assert!(finished.stderr.contains("the disk did not finish in time"), "{finished}");
    assert!(finished.summary()["steps"].as_u64() > Some(512));
}

#[test]
fn a_disk_that_hangs_for_ever_holds_up_no_end() {
    for fault in ["disk:40=stall", "results:1=stall"] {
        let folder = tempfile::tempdir().unwrap();
        let mut run = with_fault(endless(folder.path()), fault);
        run.wait_for_line("epoch     10/");
        let begin = Instant::now();
        run.signal(Signal::TERM);
        let finished = run.finish();
        assert!(begin.elapsed() < END_BY_SIGNAL, "{fault}: took {:?}", begin.elapsed());
        assert_eq!(finished.summary()["interrupted_by"], "SIGTERM", "{finished}");
        let kept = fault.starts_with("disk");
        assert_eq!(finished.code(), Some(if kept { 143 } else { 1 }), "{finished}");
        for file in ["model.safetensors", "summary.json"] {
            let named = format!("{file}: the disk does not answer");
            assert_eq!(!finished.stderr.contains(&named), kept, "{finished}");
        }
        if kept {
            // The summary alone can say it: the events hang behind the log.
            let verified = start(coordinator(folder.path()).args(["verify", "run"])).finish().done();
            let told = "before the run did, as the run says: the disk did not finish in time";
            assert!(verified.stdout.contains(told), "{verified}");
        }
    }
}

#[test]
fn a_signal_shortens_the_end_of_a_run_that_is_done_and_a_second_one_waits_for_nothing() {
    for signals in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = coordinator(folder.path());
        command.args(["--json", "--run-dir", "run"]).args(SMALL);
        let mut run = with_fault(command, "results:1=stall");
        // What is left is the test, and the end.
        run.wait_for_line("epoch 2/2");
        let begin = Instant::now();
        run.signal(Signal::INT);
        if signals == 2 {
            run.signal(Signal::TERM);
        }
        let finished = run.finish();
        assert!(begin.elapsed() < END_BY_SIGNAL, "took {:?}", begin.elapsed());
        if signals == 1 {
            assert_eq!(finished.code(), Some(1), "{finished}");
            assert_eq!(finished.summary()["steps"], 28);
        } else {
            assert!(matches!(finished.code(), Some(130 | 143)), "whichever is seen first: {finished}");
            assert_eq!(finished.stdout, "", "nothing was waited for: {}", finished.stderr);
        }
    }
}

#[test]
fn what_was_computed_is_printed_though_the_disk_is_full_and_kept_when_it_is_well_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--json", "--run-dir", "run"]).args(SMALL);
    let full = with_fault(command, "results:1=full-1000").finish();
    assert_eq!(full.code(), Some(1), "{full}");
    let errors: Vec<&str> = full.stderr.lines().filter(|line| line.contains("is not all kept")).collect();
    assert_eq!(errors.len(), 1, "{full}");
    for part in ["model.safetensors", "summary.json", "no storage space", "coordinator --resume run"] {
        assert!(errors[0].contains(part), "{part} is not in {}", errors[0]);
    }
    assert!(full.summary()["test_accuracy"].is_number(), "{full}");
    assert!(!folder.path().join("run/summary.json").exists());

    let resumed = start(coordinator(folder.path()).args(["--resume", "run", "--json"])).finish().done();
    for field in ["weights_digest", "test_accuracy", "test_loss", "val_loss", "steps"] {
        assert_eq!(resumed.summary()[field], full.summary()[field], "{field}");
    }
    for file in ["model.safetensors", "summary.json"] {
        assert!(folder.path().join("run").join(file).exists(), "{file}");
    }
}

#[test]
fn a_log_that_ends_early_for_a_full_disk_is_explained_by_the_summary() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = with_fault(endless(folder.path()), "disk:40=full-1000000");
    run.wait_for_line("no storage space");
    run.wait_for_line("epoch ");
    run.signal(Signal::INT);
    let finished = run.finish();
    let reason = finished.summary()["log_ends_early"].to_string();
    assert!(reason.contains("the records of steps ") && reason.contains(" are not kept"), "{finished}");
    // Also where no event is left that says so.
    std::fs::write(folder.path().join("run/events.jsonl"), "").unwrap();
    let verified = start(coordinator(folder.path()).args(["verify", "run"])).finish().done();
    assert!(verified.stdout.contains("as the run says: the records of steps "), "{verified}");
}

#[test]
fn a_disk_that_was_full_for_a_while_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = with_fault(endless(folder.path()), "disk:40=full-60");
    run.wait_for_line("no storage space");
    let step = saved(folder.path());
    wait_until(|| saved(folder.path()) > step + 20);
    survives_being_killed(run, folder.path());
}

/// A pipe that nobody reads and that takes nothing more, as a child's output.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

#[test]
fn a_terminal_that_takes_nothing_stops_no_step_and_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let (_read_by_nobody, output) = full_pipe();
    let errors = output.try_clone().unwrap();
    let mut command = endless(folder.path());
    let mut run = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().unwrap();
    wait_until(|| saved(folder.path()) > 2000);
    let begin = Instant::now();
    crate::harness::send_signal(run.id(), Signal::INT);
    let status = loop {
        if let Some(status) = run.try_wait().unwrap() {
            break status;
        }
        assert!(begin.elapsed() < END_BY_SIGNAL, "it does not end");
        std::thread::park_timeout(Duration::from_millis(5));
    };
    // It could not say what it found out, but has kept it.
    assert_eq!(status.code(), Some(1));
    let summary = File::open(folder.path().join("run/summary.json")).unwrap();
    let summary: Value = serde_json::from_reader(summary).unwrap();
    assert!(summary["steps"].as_u64() > Some(2000), "{summary}");
}
