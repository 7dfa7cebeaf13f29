//! Runs the text files in this folder: what happens goes in, and the complete list of commands comes out.
//!
//! - `# ...` is a comment; the first line is one, and says what the scenario is about.
//! - `run KEY=VALUE ...` is the run; it starts at once.
//! - `at SECONDS` is the time from here on.
//! - `> EVENT` happens, in the words of `events.rs`.
//! - `every SECONDS s until SECONDS: > EVENT; EVENT ...` happens again and again, first after that many seconds. The
//!   commands stand once for all the times that give the same; where they change, `from SECONDS s:` comes before them.
//! - Every other line is a command in the words of its `Display`; for timers it is how far ahead they are set.
//!
//! To write a new one, list what happens, run the test with UPDATE_SCENARIOS=1, and convince yourself of every line.

#![allow(clippy::unwrap_used, reason = "a test's helpers panic and print like the test")]

mod events;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use lockstep_control::{Command, Control, ControlSettings, Event, Leaves, Task, TaskKind, TaskOrder, Time};

/// What is wrong with a line.
type Mistake = String;

fn settings(words: &str) -> Result<ControlSettings, Mistake> {
    let (mut workers, mut shards, mut steps, mut epoch, mut test) = (None, None, None, None, None);
    let (mut portion, mut validate, mut join, mut patience, mut done, mut local, mut save) =
        (None, None, None, None, None, None, None);
    for word in words.split_whitespace() {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("{word} is not KEY=VALUE"))?;
        let value: u32 = value.parse().map_err(|_| format!("{word}: not a number"))?;
        let place = match key {
            "workers" => &mut workers,
            "shards" => &mut shards,
            "steps" => &mut steps,
            "epoch" => &mut epoch,
            "test" => &mut test,
            "portion" => &mut portion,
            "validate" => &mut validate,
            "join" => &mut join,
            "patience" => &mut patience,
            "done" => &mut done,
            "local" => &mut local,
            "save" => &mut save,
            _ => return Err(format!("a run has no {key}")),
        };
        *place = Some(value);
    }
    let needed = |value: Option<u32>, key| value.ok_or_else(|| format!("a run needs {key}="));
    let leaves = |count, per_assignment| Leaves { count, per_assignment };
    let seconds = |value: u32| Duration::from_secs(value.into());
    let shards = needed(shards, "shards")?;
    Ok(ControlSettings {
        tasks: TaskOrder {
            steps_per_epoch: needed(epoch, "epoch")?.into(),
            steps: needed(steps, "steps")?.into(),
            train: leaves(shards, portion.unwrap_or(shards)),
            validate: validate.map(|count| leaves(count, 2)),
            test: leaves(needed(test, "test")?, 2),
        },
        expected_workers: needed(workers, "workers")?,
        join_timeout: join.map(seconds),
        patience: seconds(patience.unwrap_or(0)),
        done: done.map(|step| Task { kind: TaskKind::Train, step: step.into() }),
        local: local.is_some_and(|local| local > 0),
        deadline: Duration::from_secs(1),
        checkpoint_every: seconds(save.unwrap_or(1000)),
    })
}

/// A time in seconds with up to six decimals.
fn time(seconds: &str) -> Result<Time, Mistake> {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, ""));
    let us =
        format!("{whole}{part:0<6}").parse().map_err(|_| format!("{seconds} is not a time in seconds"))?;
    Ok(Time { us })
}

/// Seconds as they are written in a scenario.
fn seconds(duration: Duration) -> String {
    let (whole, part) = (duration.as_secs(), duration.subsec_micros());
    match part {
        0 => whole.to_string(),
        _ => format!("{whole}.{part:06}").trim_end_matches('0').to_owned(),
    }
}

/// A scenario as it is played.
struct Scenario {
    control: Option<Control>,
    now: Time,
}

impl Scenario {
    /// What follows from an event, a line for each command.
    fn happens(&mut self, event: Event) -> Result<String, Mistake> {
        let control = self.control.as_mut().ok_or("there is no run yet")?;
        let mut commands = Vec::new();
        control.handle(self.now, event, &mut commands);
        let mut lines = String::new();
        for command in commands {
            match command {
                Command::SetTimer { at, deadline } => {
                    let ahead = seconds(at.since(self.now));
                    writeln!(lines, "set timer {ahead} s ahead: {deadline}").unwrap();
                }
                command => writeln!(lines, "{command}").unwrap(),
            }
        }
        Ok(lines)
    }

    /// `SECONDS s until SECONDS: > EVENT; EVENT ...`
    fn repeated(&mut self, words: &str) -> Result<String, Mistake> {
        let form = "it is not like: every 1 s until 8: > EVENT; EVENT";
        let (times, happened) = words.split_once(": > ").ok_or(form)?;
        let (period, until) = times.split_once(" s until ").ok_or(form)?;
        let (period, until) = (time(period)?.since(Time::default()), time(until)?);
        if period.is_zero() {
            return Err("it would never end".to_owned());
        }
        let (mut all, mut last) = (String::new(), None);
        while self.now.after(period) <= until {
            self.now = self.now.after(period);
            let mut lines = String::new();
            for event in happened.split("; ") {
                for event in events::parse(event)? {
                    lines += &self.happens(event)?;
                }
            }
            if last.as_ref().is_some_and(|last| *last != lines) {
                writeln!(all, "from {} s:", seconds(self.now.since(Time::default()))).unwrap();
            }
            if last.as_ref() != Some(&lines) {
                all += &lines;
            }
            last = Some(lines);
        }
        Ok(all)
    }

    /// The line and what has to follow it; nothing for a line that is itself what follows.
    fn line(&mut self, line: &str) -> Result<Option<String>, Mistake> {
        let follows = if let Some(words) = line.strip_prefix("run ") {
            self.control = Some(Control::new(settings(words)?));
            self.happens(Event::Started)?
        } else if let Some(seconds) = line.strip_prefix("at ") {
            self.now = time(seconds)?;
            String::new()
        } else if let Some(happened) = line.strip_prefix("> ") {
            let mut lines = String::new();
            for event in events::parse(happened)? {
                lines += &self.happens(event)?;
            }
            lines
        } else if let Some(words) = line.strip_prefix("every ") {
            self.repeated(words)?
        } else if line.starts_with('#') || line.is_empty() {
            String::new()
        } else {
            return Ok(None);
        };
        Ok(Some(format!("{line}\n{follows}")))
    }
}

/// The file as it would be if its commands were those that the control plane gives.
///
/// # Errors
///
/// The line that makes no sense, with its number.
fn replay(text: &str) -> Result<String, String> {
    if !text.starts_with("# ") {
        return Err("1: the first line says what the scenario is about, after a #".to_owned());
    }
    let mut scenario = Scenario { control: None, now: Time::default() };
    let mut actual = String::new();
    for (number, line) in text.lines().enumerate() {
        let shown = scenario.line(line).map_err(|mistake| format!("{}: {line}: {mistake}", number + 1))?;
        actual += &shown.unwrap_or_default();
    }
    Ok(actual)
}

#[test]
fn every_scenario_gives_exactly_its_commands() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 8, "the scenarios are there");
    let mut wrong = String::new();
    for file in files {
        let expected = std::fs::read_to_string(&file).unwrap();
        match replay(&expected) {
            Ok(actual) if actual == expected => {}
            Ok(actual) => {
                if std::env::var_os("UPDATE_SCENARIOS").is_some() {
                    std::fs::write(&file, &actual).unwrap();
                }
                writeln!(wrong, "{}: the control plane gives\n\n{actual}", file.display()).unwrap();
            }
            Err(mistake) => writeln!(wrong, "{}:{mistake}", file.display()).unwrap(),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_mistake_in_a_scenario_is_told_with_its_line() {
    let run = "# A run.\nrun workers=2 shards=2 steps=1 epoch=1 test=1\n";
    let refused = [
        ("run workers=2\n", "1: the first line says what the scenario is about, after a #"),
        ("# A run.\n> worker 1 joins", "2: > worker 1 joins: there is no run yet"),
        ("# A run.\nrun workers=2", "2: run workers=2: a run needs shards="),
        ("# A run.\nrun wrkers=2", "2: run wrkers=2: a run has no wrkers"),
        (&format!("{run}> worker one joins"), "3: > worker one joins: one is not a number"),
        (&format!("{run}\n> it rains"), "4: > it rains: no such event"),
        (&format!("{run}at noon"), "3: at noon: noon is not a time in seconds"),
        (&format!("{run}every 0 s until 8: > the timer fires"), "it would never end"),
    ];
    for (text, expected) in refused {
        let mistake = replay(text).unwrap_err();
        assert!(mistake.contains(expected), "{mistake}");
    }
}

#[test]
#[should_panic(expected = "worker 1 joins once")]
fn a_worker_cannot_join_twice() {
    let text =
        "# A run.\nrun workers=2 shards=2 steps=1 epoch=1 test=1\n> worker 1 joins\n> worker 1 joins\n";
    let _ = replay(text);
}
