//! The variables of the environment that are flags, in whole processes: they are for the process whose flags they are.

use std::fs;

use rustix::process::Signal;

use crate::harness::{coordinator, start};

#[test]
fn local_workers_inherit_no_variable_but_the_instruction_set() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    // A flag beats a variable, however wrong that is; what a worker has for itself is nothing for its coordinator.
    command.args(["--dataset", "digits", "--examples", "500", "--epochs", "100000"]);
    command.args(["--run-dir", "run", "--workers", "2", "--max-restarts", "0"]);
    command.env("LOCKSTEP_EPOCHS", "ten").env("LOCKSTEP_SEED", "").env("LOCKSTEP_TOKEN", "a-token");
    for variable in ["LOCKSTEP_THREADS", "LOCKSTEP_CONNECT_TIMEOUT", "LOCKSTEP_COORDINATOR", "LOCKSTEP_NAME"]
    {
        command.env(variable, "!");
    }
    command.env("LOCKSTEP_CPU", "scalar");
    let mut run = start(&mut command);
    for worker in run.wait_for_workers(2) {
        let variables = fs::read(format!("/proc/{worker}/environ")).unwrap();
        let variables = String::from_utf8_lossy(&variables).into_owned();
        let own: Vec<&str> =
            variables.split('\0').filter(|variable| variable.starts_with("LOCKSTEP_")).collect();
        assert_eq!(own, ["LOCKSTEP_CPU=scalar"]);
    }
    run.signal(Signal::TERM);
    assert_eq!(run.finish().code(), Some(143));
}

#[test]
fn a_message_about_a_variable_names_it() {
    for (name, value, code, parts) in [
        ("LOCKSTEP_EPOCHS", "ten", 2, &["'ten'", "LOCKSTEP_EPOCHS"][..]),
        // Found out later, when the data are there.
        ("LOCKSTEP_BATCH_SIZE", "1000000", 2, &["LOCKSTEP_BATCH_SIZE is 1000000 but"]),
        ("LOCKSTEP_INIT", "absent.safetensors", 1, &["LOCKSTEP_INIT", "absent.safetensors"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = coordinator(folder.path());
        command.args(["--dataset", "digits", "--examples", "100", "--micro-shards", "1024"]).env(name, value);
        let finished = start(&mut command).finish();
        assert_eq!(finished.code(), Some(code), "{finished}");
        assert!(parts.iter().all(|part| finished.stderr.contains(part)), "{finished}");
        assert!(
            !finished.stderr.contains(&format!("--{}", &name[9..].to_lowercase().replace('_', "-"))),
            "{finished}"
        );
    }
}
