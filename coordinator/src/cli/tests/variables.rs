//! Every variable with every command: whom it is for, what an empty one means, and whether a message names it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::{env, process};

use clap::{Arg, value_parser};

use super::super::*;

/// Set in the process that the test starts for each case, because the environment belongs to the process: the name of
/// the variable that it is about.
const ABOUT: &str = "TEST_IS_ABOUT";

/// A line for each command, understood as it stands.
const LINES: [&[&str]; 16] = [
    &[],
    &["data", "download"],
    &["data", "verify"],
    &["data", "picture", "--out", "p.png"],
    &["verify", "run"],
    &["export", "run", "--format", "onnx"],
    &["evaluate", "run"],
    &["predict", "seven.png"],
    &["show", "run"],
    &["compare", "run", "run"],
    &["report", "run"],
    &["chaos", "--plan", "plan.toml"],
    &["bench", "kernels"],
    &["bench", "scaling"],
    &["bench", "step"],
    &["worker", "--coordinator", "host:1"],
];

/// Values that the type of a flag takes and its rules refuse.
const REFUSED_BY_RULES: [(&str, &str); 8] = [
    ("LOCKSTEP_WORKERS", "0"),
    ("LOCKSTEP_MAX_STEPS", "0"),
    ("LOCKSTEP_DEADLINE", "1ms"),
    ("LOCKSTEP_LEARNING_RATE", "-1"),
    ("LOCKSTEP_VALIDATION_SPLIT", "1"),
    ("LOCKSTEP_MICRO_SHARDS", "3"),
    ("LOCKSTEP_LISTEN", ":29400"),
    ("LOCKSTEP_TOKEN", "a b"),
];

/// The command that a line names.
fn leaf(line: &[&str]) -> ClapCommand {
    let mut command = command();
    for name in line {
        match command.find_subcommand(name) {
            Some(found) => command = found.clone(),
            None => break,
        }
    }
    command
}

fn variables(command: &ClapCommand) -> Vec<Arg> {
    command.get_arguments().filter(|argument| argument.get_env().is_some()).cloned().collect()
}

fn parsed(line: &[&str]) -> Result<Parsed, UsageError> {
    parse(["coordinator"].iter().chain(line).map(OsString::from))
}

/// Runs the test named `test` again, in an environment with these variables and no other of ours.
fn again(test: &str, about: &str, set: impl IntoIterator<Item = (OsString, OsString)>) {
    let mut command = process::Command::new(env::current_exe().unwrap());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(PREFIX)) {
        command.env_remove(name);
    }
    let test = format!("cli::tests::variables::{test}");
    let output = command.args(["--exact", &test]).env(ABOUT, about).envs(set).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report.contains("1 passed"), "about {about}: {report}");
}

fn all() -> Vec<Arg> {
    let mut all: Vec<Arg> = LINES.iter().flat_map(|line| variables(&leaf(line))).collect();
    all.sort_by_key(|argument| argument.get_env().map(OsStr::to_os_string));
    all.dedup_by_key(|argument| argument.get_env().map(OsStr::to_os_string));
    all
}

fn name(argument: &Arg) -> OsString {
    argument.get_env().unwrap().to_os_string()
}

#[test]
fn there_is_a_line_for_each_command() {
    fn count(command: &ClapCommand) -> usize {
        match command.get_subcommands().count() {
            0 => 1,
            _ => command.get_subcommands().map(count).sum(),
        }
    }
    // Training has no name.
    assert_eq!(count(&command()) + 1, LINES.len());
}

#[test]
fn an_empty_variable_is_not_set() {
    if env::var_os(ABOUT).is_none() {
        return again(
            "an_empty_variable_is_not_set",
            "all",
            all().iter().map(|argument| (name(argument), OsString::new())),
        );
    }
    for line in LINES {
        let parsed = parsed(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert!(parsed.variables.is_empty(), "{line:?}");
    }
}

#[test]
fn a_variable_is_for_its_own_commands_and_a_message_names_it() {
    const TEST: &str = "a_variable_is_for_its_own_commands_and_a_message_names_it";
    if let Ok(about) = env::var(ABOUT) {
        return judge(&about);
    }
    let mut cases: Vec<(OsString, OsString)> =
        REFUSED_BY_RULES.map(|(name, value)| (name.into(), value.into())).to_vec();
    for argument in all() {
        for value in [b"!".as_slice(), b"0", b"1", b"\xff"] {
            cases.push((name(&argument), OsStr::from_bytes(value).to_os_string()));
        }
    }
    for (name, value) in cases {
        let about = name.to_str().unwrap().to_owned();
        again(TEST, &about, [(name, value)]);
    }
}

/// In the process where `about` is set.
fn judge(about: &str) {
    let value = env::var_os(about).unwrap();
    for line in LINES {
        let own = variables(&leaf(line)).into_iter().find(|argument| name(argument) == *about);
        let Some(own) = own else {
            assert!(parsed(line).is_ok(), "{about} is nothing for {line:?}");
            continue;
        };
        match parsed(line) {
            Ok(parsed) => {
                // A flag on the line beats it.
                let given = own.get_long().is_some_and(|flag| line.contains(&format!("--{flag}").as_str()));
                assert_eq!(parsed.variables.is_empty(), given, "{line:?}");
                let rules = REFUSED_BY_RULES.iter().any(|case| *case == (about, &value.to_string_lossy()));
                assert!(!rules || line.first() == Some(&"worker"), "{about}={value:?} with {line:?}");
                assert!(!own.get_action().takes_values() || value != "!" || takes_any(&own), "{line:?}");
            }
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains(about), "{about}={value:?} with {line:?}: {message}");
                let flag = own.get_long().map(|flag| format!("--{flag} "));
                assert!(!flag.is_some_and(|flag| message.contains(&flag)), "{message}");
            }
        }
    }
}

/// Whether any text is a value of the argument: a path, a name, a token.
fn takes_any(argument: &Arg) -> bool {
    let text = ["LOCKSTEP_TOKEN", "LOCKSTEP_NAME", "LOCKSTEP_COORDINATOR"];
    text.iter().any(|text| argument.get_env() == Some(OsStr::new(text)))
        || argument.get_value_parser().type_id() == value_parser!(PathBuf).type_id()
}
