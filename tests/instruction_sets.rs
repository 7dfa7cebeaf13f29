//! One digest on every instruction set of this machine, and `LOCKSTEP_CPU`, which forces one.

use std::fs;
use std::process::Command;

use lockstep_model::Cpu;

use crate::harness::{Finished, coordinator, start, worker};

const USAGE: i32 = 2;

/// Generated digits in the files of `--data-dir`: few to evaluate on, as the slowest instruction set is very slow.
fn write_digits(folder: &std::path::Path) {
    let train = lockstep_dataset::digits_train(40);
    let test = lockstep_dataset::digits_test(20);
    fs::create_dir(folder).unwrap();
    for (name, examples) in [("train", train), ("t10k", test)] {
        let count = examples.len() as u32;
        let images = [0x0803, count, 28, 28].map(u32::to_be_bytes).concat();
        let labels = [0x0801, count].map(u32::to_be_bytes).concat();
        fs::write(folder.join(format!("{name}-images-idx3-ubyte")), [images, examples.images].concat())
            .unwrap();
        fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), [labels, examples.labels].concat())
            .unwrap();
    }
}

/// Four steps with two workers on the instruction set `cpu`.
fn train(cpu: &str) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    write_digits(&folder.path().join("digits"));
    let mut command = coordinator(folder.path());
    command.env("LOCKSTEP_CPU", cpu).args(["--data-dir", "digits", "--workers", "2", "--json"]);
    command.args(["--batch-size", "8", "--max-steps", "4", "--epochs", "1", "--validation-split", "0.2"]);
    start(&mut command).finish().done()
}

#[test]
fn every_instruction_set_trains_to_the_same_bits() {
    let mut digests = Vec::new();
    for cpu in Cpu::available() {
        let cpu = cpu.to_string();
        let finished = train(&cpu);
        // Workers say what they compute with as they join, and the variable is no unknown one.
        assert!(finished.stderr.matches(&format!("1 thread, {cpu} ")).count() == 2, "{finished}");
        assert!(!finished.stderr.contains("LOCKSTEP_CPU"), "{finished}");
        digests.push((finished.digest(), cpu));
    }
    assert!(digests.iter().all(|(digest, _)| *digest == digests[0].0), "{digests:?}");
}

/// The one line with which a command ends that is refused.
fn refusal(command: &mut Command) -> String {
    let finished = start(command).finish();
    assert_eq!(finished.code(), Some(USAGE), "{finished}");
    assert_eq!((finished.stdout.as_str(), finished.stderr.lines().count()), ("", 1), "{finished}");
    finished.stderr
}

#[test]
fn an_instruction_set_that_cannot_be_had_is_refused_before_anything_starts() {
    let elsewhere = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
    let have = Cpu::available().iter().map(Cpu::to_string).collect::<Vec<_>>().join(", ");
    for (value, cause) in [
        (elsewhere, format!("this machine does not have it; it has {have}")),
        ("sse9", format!("no such instruction set; this machine has {have}")),
    ] {
        let expected = format!(
            "LOCKSTEP_CPU is '{value}': {cause}; choose one of these, or unset LOCKSTEP_CPU for the fastest"
        );
        let folder = tempfile::tempdir().unwrap();
        for command in [&[][..], &["verify", "run"], &["data", "verify"]] {
            let line = refusal(coordinator(folder.path()).env("LOCKSTEP_CPU", value).args(command));
            assert_eq!(line, format!("error: {expected}\n"));
        }
        let line = refusal(worker(folder.path()).env("LOCKSTEP_CPU", value).args([
            "--coordinator",
            "http://127.0.0.1:1",
            "--token",
            "a-token-for-tests",
        ]));
        assert!(line.contains(&expected), "{line}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was started");
    }
}
