//! `coordinator bench step` measures every arrangement, and trains the same weights in each.

use crate::harness::{coordinator, start};

#[test]
fn every_arrangement_of_a_step_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args("bench step --workers 3 --batch-size 40 --steps 3 --rounds 1 --json".split(' '));
    // Differing weights would be an error.
    let report = start(&mut command).finish().done().summary();
    let arrangements = report["arrangements"].as_array().unwrap();
    let names: Vec<&str> = arrangements.iter().map(|line| line["arrangement"].as_str().unwrap()).collect();
    let expected =
        ["kernels alone", "lock-step, no network", "lock-step over bare TCP", "gRPC, local workers"];
    assert_eq!(names, expected);
    for line in arrangements {
        assert!(line["examples_per_second"][0].as_f64().unwrap() > 0.0, "{line}");
    }
    assert_eq!(arrangements[0]["share_of_kernels"], 1.0);
}

#[test]
fn counts_of_nothing_are_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    for flag in ["--workers", "--threads-per-worker", "--batch-size", "--steps", "--rounds"] {
        let mut command = coordinator(folder.path());
        let finished = start(command.args(["bench", "step", flag, "0"])).finish();
        assert_eq!(finished.code(), Some(2), "{finished}");
        assert!(finished.stderr.contains(flag) && finished.stderr.lines().count() == 1, "{finished}");
    }
}
