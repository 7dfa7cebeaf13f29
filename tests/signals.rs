//! Every process ends by an operator's signals: in every command, at every moment, and as the first process of a container,
//! which has no default action. A signal that a process is to ignore stays ignored.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Running, SMALL, coordinator, send_signal, start, wait_until, worker};

const SIGNALS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::HUP];

/// Flags with which a process becomes the first one of a container; none if the system allows that to nobody.
#[expect(clippy::print_stderr, reason = "a part that is left out says so")]
fn container() -> Option<Vec<&'static str>> {
    let as_root = vec!["--pid", "--fork", "--kill-child", "--mount-proc"];
    let as_anybody = [&["--user", "--map-root-user"], &as_root[..]].concat();
    let works = |flags: &Vec<&str>| {
        let output = Command::new("unshare").args(flags).arg("true").output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = [as_root, as_anybody].into_iter().find(works);
    if found.is_none() {
        eprintln!("not as the first process of a container, which `unshare` may not make here");
    }
    found
}

/// The same command behind another that executes it.
fn behind(program: &str, flags: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(program);
    outer.args(flags).arg(command.get_program()).args(command.get_args());
    outer.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Starts the command, as the first process of a container where possible; gives the number of its own process, too.
fn contained(command: &Command, container: Option<&Vec<&str>>) -> (Running, impl Fn() -> Option<u32>) {
    let running = match container {
        Some(flags) => start(&mut behind("unshare", flags, command)),
        None => start(&mut behind("env", &[], command)),
    };
    let (outer, inside) = (running.pid(), container.is_some());
    (running, move || if inside { child_of(outer) } else { Some(outer) })
}

fn child_of(parent: u32) -> Option<u32> {
    let line = format!("PPid:\t{parent}");
    let numbers =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.into_iter().find(|number| status(*number).lines().any(|found| found == line))
}

fn status(process: u32) -> String {
    fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default()
}

/// Whether the process has the signal in one of its sets: `SigCgt`, those that it takes, or `SigIgn`.
fn has(process: u32, set: &str, signal: Signal) -> bool {
    let status = status(process);
    let set = status.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(":\t"));
    set.is_some_and(|set| u64::from_str_radix(set, 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1)
}

/// What a command is doing when the signal comes.
enum Moment {
    /// It waits for what is written to this pipe, which it was told to read.
    Reads(&'static str),
    /// It waits for this server's answer.
    Asks(TcpListener),
    /// It computes, or tries to reach somebody.
    Works,
}

/// What a test line is made of: the arguments, with the port of a silent proxy as `PORT`, and the moment.
fn moments() -> Vec<(Vec<&'static str>, Moment)> {
    let proxy = || Moment::Asks(TcpListener::bind("127.0.0.1:0").unwrap());
    vec![
        (vec!["coordinator", "--config", "pipe"], Moment::Reads("pipe")),
        (vec!["coordinator", "--dataset", "digits", "--init", "pipe"], Moment::Reads("pipe")),
        (vec!["coordinator", "--dataset", "mnist", "--offline=false"], proxy()),
        (vec!["coordinator", "data", "download"], proxy()),
        (vec!["coordinator", "predict", "pipe"], Moment::Reads("pipe")),
        (vec!["coordinator", "evaluate", "pipe"], Moment::Reads("pipe")),
        (vec!["coordinator", "export", "pipe", "--format", "onnx"], Moment::Reads("pipe")),
        (vec!["coordinator", "verify", "run"], Moment::Reads("run/config.toml")),
        (vec!["coordinator", "show", "run"], Moment::Reads("run/config.toml")),
        (vec!["coordinator", "report", "run"], Moment::Reads("run/config.toml")),
        (vec!["coordinator", "compare", "run", "other"], Moment::Reads("run/config.toml")),
        (vec!["coordinator", "chaos", "--plan", "pipe"], Moment::Reads("pipe")),
        (vec!["coordinator", "bench", "kernels", "--seconds", "3600"], Moment::Works),
        (vec!["coordinator", "bench", "step", "--steps", "1000000"], Moment::Works),
        (vec!["worker", "--coordinator", "127.0.0.1:1", "--token", "t"], Moment::Works),
    ]
}

fn make_pipe(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Waits until somebody reads the pipe; who writes nothing keeps the reader waiting for as long as this is open.
fn until_read(pipe: &Path) -> File {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut opened = None;
    wait_until(|| {
        opened = File::options().write(true).custom_flags(nonblocking).open(pipe).ok();
        opened.is_some()
    });
    opened.unwrap()
}

fn names(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn a_signal_ends_every_command_at_once_before_it_has_anything_to_leave_in_order() {
    let container = container();
    for signal in SIGNALS {
        for (line, moment) in moments() {
            let folder = tempfile::tempdir().unwrap();
            let mut command = match line[0] {
                "worker" => worker(folder.path()),
                _ => coordinator(folder.path()),
            };
            command.args(&line[1..]);
            // The data of nobody.
            fs::create_dir(folder.path().join("cache")).unwrap();
            match &moment {
                Moment::Reads(pipe) => make_pipe(&folder.path().join(pipe)),
                Moment::Asks(proxy) => {
                    let address = format!("http://{}", proxy.local_addr().unwrap());
                    command.env("HTTPS_PROXY", &address).env("ALL_PROXY", &address);
                }
                Moment::Works => {}
            }
            let before = names(folder.path());
            let (running, process) = contained(&command, container.as_ref());
            let _open = match &moment {
                Moment::Reads(pipe) => Some(until_read(&folder.path().join(pipe))),
                Moment::Asks(proxy) => Some(File::from(OwnedFd::from(proxy.accept().unwrap().0))),
                Moment::Works => {
                    wait_until(|| process().is_some_and(|process| has(process, "SigCgt", signal)));
                    None
                }
            };
            send_signal(process().unwrap(), signal);
            let finished = running.finish();
            assert_eq!(finished.code(), Some(128 + signal.as_raw()), "{line:?}, {signal:?}: {finished}");
            assert_eq!(names(folder.path()), before, "{line:?}, {signal:?}");
        }
    }
}

#[test]
fn what_a_process_is_to_ignore_does_not_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--json", "--dataset", "digits", "--examples", "500", "--epochs", "100000"]);
    let ignoring = ["-c", "trap '' HUP INT; exec \"$@\"", "sh"];
    let mut run = start(&mut behind("sh", &ignoring, &command));
    let workers = run.wait_for_workers(4);
    run.signal(Signal::HUP);
    run.signal(Signal::INT);
    for signal in [Signal::HUP, Signal::INT] {
        assert!(has(run.pid(), "SigIgn", signal) && has(workers[0], "SigIgn", signal), "{signal:?}");
    }
    // It goes on.
    run.wait_for_line("epoch      2/100000");
    run.signal(Signal::TERM);
    let finished = run.finish();
    assert_eq!(finished.code(), Some(143), "{finished}");
    assert_eq!(finished.summary()["interrupted_by"], "SIGTERM");
}

#[test]
fn a_file_that_may_not_grow_is_a_failed_write() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(SMALL).args(["--run-dir", "run"]);
    // 32 blocks of 512 bytes: less than a model has.
    let limited = ["-c", "ulimit -f 32; exec \"$@\"", "sh"];
    let finished = start(&mut behind("sh", &limited, &command)).finish();
    assert!(finished.code().is_some(), "{finished}");
    assert!(finished.stderr.contains("File too large"), "{finished}");
}
