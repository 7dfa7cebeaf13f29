//! Tests of the command line.

mod settings;
mod variables;

use super::*;
use crate::commands::data::{DataCommand, PictureDataset};
use lockstep_command_line::exit::EXIT_DONE;

fn parsed(arguments: &[&str]) -> Result<Invocation, UsageError> {
    parse(["coordinator"].iter().chain(arguments).map(OsString::from)).map(|parsed| parsed.invocation)
}

fn refusal(arguments: &[&str]) -> String {
    match parsed(arguments) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{arguments:?} was accepted"),
    }
}

#[test]
fn the_definition_is_sound() {
    command().debug_assert();
}

#[test]
fn every_flag_is_an_environment_variable() {
    for argument in command().get_arguments() {
        let flag = argument.get_long().unwrap();
        if !["help", "version"].contains(&flag) {
            let expected = format!("{PREFIX}{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env().unwrap().to_str(), Some(expected.as_str()));
        }
    }
}

#[test]
fn help_is_for_users() {
    let help = refusal(&["--help"]);
    for part in [
        "[default: 4]",
        "[default: auto]",
        "[default: processors / workers]",
        "[default: 60s]",
        "--resume-or-start <RUN_DIR>",
        "[env: LOCKSTEP_BATCH_SIZE=]",
        "Examples:",
        "Exit codes:",
        "--external[=<BOOL>]",
    ] {
        assert!(help.contains(part), "{part} is not in\n{help}");
    }
    assert!(!help.contains("Run as a worker"), "the worker subcommand is hidden:\n{help}");
    assert_eq!(refusal(&["--version"]), format!("coordinator {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn switches_can_be_turned_off_again() {
    for (arguments, expected) in
        [(&["--json"][..], true), (&["--json=true"], true), (&["--json=off"], false), (&[], false)]
    {
        let Ok(Invocation::Train(settings)) = parsed(arguments) else { panic!("{arguments:?}") };
        assert_eq!(settings.json, expected, "{arguments:?}");
    }
    assert!(refusal(&["--json", "false"]).contains("'false'"));
}

#[test]
fn data_subcommands() {
    let data = |arguments: &[&str]| match parsed(arguments) {
        Ok(Invocation::Command(Command::Data(data))) => data.command,
        _ => panic!("{arguments:?}"),
    };
    assert_eq!(data(&["data", "download"]), DataCommand::Download { data_dir: None });
    assert_eq!(
        data(&["data", "download", "--data-dir", "d"]),
        DataCommand::Download { data_dir: Some("d".into()) }
    );
    assert_eq!(data(&["data", "verify", "d"]), DataCommand::Verify { data_dir: Some("d".into()) });
    assert_eq!(
        data(&["data", "picture", "--out", "p.png"]),
        DataCommand::Picture { out: "p.png".into(), dataset: PictureDataset::Digits, data_dir: None }
    );
    assert_eq!(
        data(&["data", "picture", "--out", "p.png", "--dataset", "mnist", "--data-dir", "d"]),
        DataCommand::Picture {
            out: "p.png".into(),
            dataset: PictureDataset::Mnist,
            data_dir: Some("d".into())
        }
    );
    assert!(refusal(&["data", "picture"]).contains("--out"));
}

#[test]
fn verify_takes_a_run_and_a_range_of_steps() {
    let verify = |arguments: &[&str]| match parsed(&[&["verify"], arguments].concat()) {
        Ok(Invocation::Command(Command::Verify(run))) => (run.run_dir, run.from, run.to, run.threads),
        _ => panic!("{arguments:?}"),
    };
    assert_eq!(verify(&["r"]), ("r".into(), 1, None, None));
    let all = ["--from", "3", "r", "--to", "3", "--threads", "2"];
    assert_eq!(verify(&all), ("r".into(), 3, Some(3), Some(2)));
    assert!(refusal(&["verify"]).contains("<RUN_DIR>"));
    for wrong in [["--from", "0"], ["--to", "0"], ["--to", "-1"], ["--threads", "0"], ["--threads", "1025"]] {
        assert!(refusal(&[&["verify", "r"][..], &wrong].concat()).contains(wrong[0]), "{wrong:?}");
    }
}

#[test]
fn compare_takes_two_to_sixteen_runs() {
    let parsed_runs = |count: usize| match parsed(&[&["compare"], &vec!["run"; count][..]].concat()) {
        Ok(Invocation::Command(Command::Compare(arguments))) => Some(arguments.run_dirs.len()),
        _ => None,
    };
    assert_eq!([0, 1, 2, 16, 17].map(parsed_runs), [None, None, Some(2), Some(16), None]);
}

#[test]
fn bench_kernels_refuses_what_it_cannot_measure() {
    assert!(matches!(parsed(&["bench", "kernels"]), Ok(Invocation::Command(Command::Bench(_)))));
    let all =
        ["bench", "kernels", "--layer", "conv2", "--layer", "dense1", "--cpu", "scalar", "--seconds", "0.5"];
    assert!(matches!(parsed(&all), Ok(Invocation::Command(Command::Bench(_)))));
    for (wrong, parts) in [
        (["--layer", "conv9"], ["'conv9'", "--layer", "conv1, conv2, conv3, dense1, dense2"]),
        (["--cpu", "sse9"], ["'sse9'", "--cpu", "this machine has "]),
        (["--seconds", "0"], ["'0'", "--seconds", "above 0"]),
        (["--seconds", "-3"], ["'-3'", "--seconds", "above 0"]),
        (["--seconds", "soon"], ["'soon'", "--seconds", "above 0"]),
    ] {
        let message = refusal(&[&["bench", "kernels"][..], &wrong].concat());
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    assert!(refusal(&["bench"]).contains("kernels"));
}

#[test]
fn flags_of_a_training_run_do_not_go_with_a_subcommand() {
    assert!(refusal(&["--workers", "2", "data", "verify"]).contains("cannot be used with"));
}

#[test]
fn the_worker_subcommand_takes_the_arguments_of_the_worker() {
    let arguments = ["worker", "--coordinator", "http://127.0.0.1:1", "--threads", "2", "--name", "local-0"];
    assert!(matches!(parsed(&arguments), Ok(Invocation::Command(Command::Worker(_)))));
}

#[test]
fn errors_have_exit_code_2_and_help_has_0() {
    let code = |arguments: &[&str]| parsed(arguments).err().unwrap().report();
    assert_eq!(code(&["--workers", "0"]), EXIT_USAGE);
    assert_eq!(code(&["--wrokers", "4"]), EXIT_USAGE);
    assert_eq!(code(&["bench", "kernels", "--layer", "conv9"]), EXIT_USAGE);
    assert_eq!(code(&["--version"]), EXIT_DONE);
}

#[test]
fn unknown_variables_are_named_with_the_nearest_known_one() {
    let names = [
        "LOCKSTEP_EPOCH",
        "LOCKSTEP_CPU",
        "LOCKSTEP_DATA",
        "LOCKSTEP_DATA_DIR",
        "LOCKSTEP_MOMENTUM",
        "HOME",
        "EPOCH",
    ];
    assert_eq!(
        unknown_variables(names.map(OsString::from)),
        [
            "the environment variable LOCKSTEP_EPOCH is unknown and ignored; did you mean LOCKSTEP_EPOCHS?",
            "the environment variable LOCKSTEP_MOMENTUM is unknown and ignored",
        ]
    );
}
