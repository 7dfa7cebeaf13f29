//! A thread that cannot be made is an error with a sentence, in every command, however few the system gives.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::harness::{coordinator, start};

/// With as many processes and threads, each command gets further than with one less; with the last it has all it needs.
const LIMITS: std::ops::RangeInclusive<u32> = 1..=5;

/// A panic's exit code.
const PANICKED: i32 = 101;

const LINES: [&str; 12] = [
    "coordinator --dataset digits --examples 100 --batch-size 10 --epochs 1 --workers 2 --max-restarts 0",
    "coordinator verify run",
    "coordinator evaluate run --threads 3",
    "coordinator export run --format onnx --out model.onnx",
    "coordinator report run --out report.html",
    "coordinator compare run run",
    "coordinator data picture --out picture.png",
    "coordinator data download --data-dir data",
    "coordinator bench kernels --seconds 0.1",
    "coordinator bench step --steps 1 --rounds 1 --workers 2 --threads-per-worker 2",
    "worker --coordinator localhost:1 --token t --threads 3 --connect-timeout 100ms",
    "worker --coordinator 127.0.0.1:1 --token t --threads 1 --connect-timeout 100ms",
];

/// A user of whom nothing runs, so that a limit counts what the test starts; none where nobody else may be had.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn nobody_else() -> Option<u32> {
    let user = 200_000 + std::process::id() % 100_000;
    let output = limited(user, 2, Path::new("true")).output();
    let works = output.is_ok_and(|output| output.status.success());
    if !works {
        eprintln!("skipped: only root may start a process as another user, with `prlimit` and `setpriv`");
    }
    works.then_some(user)
}

/// The program as that user, who may have so many processes and threads.
fn limited(user: u32, limit: u32, program: &Path) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nproc={limit}:{limit}"));
    command.args(["setpriv", &format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]);
    command.arg(program);
    command
}

/// Has everybody read and write what is in the folder.
fn open_to_all(folder: &Path) {
    let status = Command::new("chmod").args(["-R", "a+rwX"]).arg(folder).status().unwrap();
    assert!(status.success());
}

#[test]
fn no_command_panics_where_the_system_gives_no_thread() {
    let Some(user) = nobody_else() else { return };
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // Where the test's own binaries lie others may not come.
    for (name, path) in
        [("coordinator", env!("CARGO_BIN_EXE_coordinator")), ("worker", env!("CARGO_BIN_EXE_worker"))]
    {
        fs::copy(path, here.join(name)).unwrap();
        fs::set_permissions(here.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut run = coordinator(here);
    run.args(["--dataset", "digits", "--examples", "100", "--batch-size", "10", "--epochs", "1"]);
    start(run.args(["--run-dir", "run"])).finish().done();
    open_to_all(here);
    let mut failures = 0;
    for line in LINES {
        for limit in LIMITS {
            let mut words = line.split(' ');
            let mut command = limited(user, limit, &here.join(words.next().unwrap()));
            command.args(words).current_dir(here).env_clear();
            // The name is looked up, and nobody answers.
            command.env("HTTPS_PROXY", "http://localhost:1").env("HOME", here).env("PATH", "/usr/bin:/bin");
            let finished = start(&mut command).finish();
            let panicked = finished.code() == Some(PANICKED) || finished.stderr.contains("panicked");
            assert!(!panicked, "{line} with {limit}: {finished}");
            let signalled = finished.code().is_none();
            assert!(!signalled, "{line} with {limit}: {finished}");
            failures += usize::from(finished.stderr.contains("Resource temporarily unavailable"));
        }
    }
    assert!(failures > LINES.len() / 2, "the limit of threads limits nothing: {failures}");
}
