//! Runs the text files in `scenarios/`: events in, the complete list of commands out.
//!
//! A line `run KEY=VALUE ...` configures, `> EVENT` happens, every other line is a command in the words of its
//! `Display`; `#` begins a comment. To write a new one, list the events, run the test with UPDATE_SCENARIOS=1, and
//! convince yourself of every line.

#![allow(clippy::unwrap_used, reason = "a test's helpers panic and print like the test")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use lockstep_control::{
    AssignmentId, Control, ControlSettings, Event, LeaveCause, Leaves, Progress, Signal, Task, TaskKind,
    TaskOrder, Time, WorkerId,
};
use lockstep_reduction::Node;

fn settings(line: &str) -> ControlSettings {
    let value = |key: &str| {
        let word = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        word.map(|word| word.parse::<u32>().unwrap())
    };
    let leaves = |count, per_assignment| Leaves { count, per_assignment };
    let shards = value("shards").unwrap();
    ControlSettings {
        tasks: TaskOrder {
            steps_per_epoch: value("epoch").unwrap().into(),
            steps: value("steps").unwrap().into(),
            train: leaves(shards, value("portion").unwrap_or(shards)),
            validate: value("validate").map(|count| leaves(count, 2)),
            test: leaves(value("test").unwrap(), 2),
        },
        expected_workers: value("workers").unwrap(),
        join_timeout: value("join").map(|seconds| Duration::from_secs(seconds.into())),
        patience: Duration::from_secs(value("patience").unwrap_or(0).into()),
        done: value("done").map(|step| Task { kind: TaskKind::Train, step: step.into() }),
        local: value("local").is_some_and(|local| local > 0),
        deadline: Duration::from_secs(1),
        checkpoint_every: Duration::from_secs(value("save").unwrap_or(1000).into()),
    }
}

fn node(text: &str) -> Node {
    let (level, index) = text.split_once(',').unwrap();
    Node::new(level.parse().unwrap(), index.parse().unwrap()).unwrap()
}

fn task(kind: &str, step: &str) -> Task {
    let kind = match kind {
        "step" => TaskKind::Train,
        "validation" => TaskKind::Validate,
        "test" => TaskKind::Test,
        other => panic!("no such task: {other}"),
    };
    Task { kind, step: step.parse().unwrap() }
}

fn event(text: &str) -> Event {
    let words: Vec<&str> = text.split_whitespace().collect();
    let worker = |word: &str| WorkerId(word.parse().unwrap());
    match words[..] {
        ["started"] => Event::Started,
        ["joined", id, threads] => Event::Joined { worker: worker(id), threads: threads.parse().unwrap() },
        ["ended"] => Event::ProcessEnded { worker: None, restarting: false },
        ["ended", id] => Event::ProcessEnded { worker: Some(worker(id)), restarting: false },
        ["restarting", id] => Event::ProcessEnded { worker: Some(worker(id)), restarting: true },
        ["heard", id] => Event::Heard { worker: worker(id), progress: None },
        ["heard", id, assignment, examples] => Event::Heard {
            worker: worker(id),
            progress: Some(Progress {
                assignment: AssignmentId(assignment.strip_prefix('#').unwrap().parse().unwrap()),
                examples: examples.parse().unwrap(),
            }),
        },
        ["saved"] => Event::Saved { durable: true },
        ["not", "saved"] => Event::Saved { durable: false },
        ["superseded", term] => Event::Superseded { term: term.parse().unwrap() },
        ["left", id, cause] => {
            let causes = [
                ("closed", LeaveCause::Closed),
                ("reset", LeaveCause::Reset),
                ("stalled", LeaveCause::Stalled),
                ("protocol", LeaveCause::Protocol),
            ];
            let cause = causes.iter().find(|(name, _)| *name == cause).unwrap().1;
            Event::Left { worker: worker(id), cause }
        }
        ["node", id, assignment, kind, step, address] => Event::NodeReceived {
            worker: worker(id),
            assignment: AssignmentId(assignment.strip_prefix('#').unwrap().parse().unwrap()),
            task: task(kind, step),
            node: node(address),
        },
        ["updated", kind, step] => Event::Updated { task: task(kind, step) },
        ["diverged", step] => Event::Diverged { step: step.parse().unwrap() },
        ["refuted", id, kind, step, address, how] => Event::Refuted {
            worker: worker(id),
            task: task(kind, step),
            node: node(address),
            counted: how == "counted",
        },
        ["timer"] => Event::Timer,
        ["stopped", "SIGINT"] => Event::Stopped { signal: Signal::Interrupt },
        ["stopped", "SIGTERM"] => Event::Stopped { signal: Signal::Terminate },
        ["stopped", "SIGHUP"] => Event::Stopped { signal: Signal::Hangup },
        _ => panic!("no such event: {text}"),
    }
}

/// A time in seconds with up to six decimals.
fn microseconds(seconds: &str) -> Time {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, ""));
    Time { us: format!("{whole}{part:0<6}").parse().unwrap() }
}

/// The file as it would be if its commands were those that the control plane gives.
fn replay(text: &str) -> String {
    let mut control = None;
    let mut now = Time::default();
    let mut actual = String::new();
    for line in text.lines() {
        if line.starts_with("run ") {
            control = Some(Control::new(settings(line)));
        } else if let Some(seconds) = line.strip_prefix("at ") {
            now = microseconds(seconds);
        } else if let Some(happened) = line.strip_prefix("> ") {
            writeln!(actual, "{line}").unwrap();
            let mut commands = Vec::new();
            control.as_mut().unwrap().handle(now, event(happened), &mut commands);
            for command in commands {
                writeln!(actual, "{command}").unwrap();
            }
            continue;
        } else if !line.starts_with('#') && !line.is_empty() {
            continue;
        }
        writeln!(actual, "{line}").unwrap();
    }
    actual
}

#[test]
fn every_scenario_gives_exactly_its_commands() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "the scenarios are there");
    for file in files {
        let expected = std::fs::read_to_string(&file).unwrap();
        let actual = replay(&expected);
        if std::env::var_os("UPDATE_SCENARIOS").is_some() {
            std::fs::write(&file, &actual).unwrap();
        }
        assert!(actual == expected, "{}: the control plane gives\n\n{actual}", file.display());
    }
}

#[test]
#[should_panic(expected = "worker 1 joins once")]
fn a_worker_cannot_join_twice() {
    let mut control = Control::new(settings("run workers=2 shards=2 steps=1 epoch=1 test=1"));
    let mut commands = Vec::new();
    for _ in 0..2 {
        control.handle(Time::default(), event("joined 1 1"), &mut commands);
    }
}
