//! Workers of other machines: the binary `worker` dials a coordinator that spawns nothing.

use std::path::Path;

use crate::harness::{
    Finished, Running, SMALL, coordinator, json_lines, run_small, start, wait_until, worker,
};

fn start_external(folder: &Path, workers: &str) -> (Running, String) {
    let mut command = coordinator(folder);
    command
        .args(["--json", "--run-dir", "run", "--external", "--token", "secret", "--workers", workers])
        .args(SMALL);
    let mut run = start(&mut command);
    let url = run.wait_for(|line| {
        let (_, after) = line.split_once("--coordinator ")?;
        after.split_whitespace().next().map(str::to_string)
    });
    (run, url)
}

fn start_worker(folder: &Path, url: &str, threads: &str) -> Running {
    start(worker(folder).args(["--coordinator", url, "--threads", threads]).env("LOCKSTEP_TOKEN", "secret"))
}

#[test]
fn external_workers_of_different_sizes_give_the_same_bits_and_end_with_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (run, url) = start_external(folder.path(), "3");
    let workers: Vec<Running> =
        ["1", "2", "3"].iter().map(|threads| start_worker(folder.path(), &url, threads)).collect();
    let finished = run.finish().done();
    for worker in workers {
        let worker: Finished = worker.finish();
        assert_eq!(worker.code(), Some(0), "{worker}");
        assert!(worker.stderr.contains("the run is over: all tasks are committed"), "{worker}");
    }
    assert_eq!(finished.digest(), run_small(&["--workers", "1"]).0.done().digest());
    assert!(finished.summary()["threads_per_worker"].is_null());
}

/// TCP ports on which a process listens.
fn listening(process: u32) -> usize {
    let sockets =
        |file: &str| std::fs::read_to_string(format!("/proc/{process}/net/{file}")).unwrap_or_default();
    let mut inodes = Vec::new();
    for line in [sockets("tcp"), sockets("tcp6")].iter().flat_map(|text| text.lines()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.get(3) == Some(&"0A") {
            inodes.push(format!("socket:[{}]", fields[9]));
        }
    }
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str())).count()
}

#[test]
fn a_run_of_local_workers_opens_no_port_unless_it_is_told_to_listen() {
    for (flags, ports) in [(&["--no-dashboard"][..], 0), (&["--no-dashboard", "--listen", "127.0.0.1:0"], 1)]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut command = coordinator(folder.path());
        command
            .args(["--run-dir", "run", "--epochs", "100000", "--workers", "1"])
            .args(&SMALL[..6])
            .args(flags);
        let mut run = start(&mut command);
        run.wait_for_workers(1);
        assert_eq!(listening(run.pid()), ports, "{flags:?}");
        run.signal(rustix::process::Signal::TERM);
        run.finish();
    }
}

#[test]
fn external_workers_join_local_ones() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--run-dir", "run", "--workers", "1", "--listen", "127.0.0.1:0", "--token", "secret"]);
    command.args(&SMALL[..6]).args(["--epochs", "100000"]);
    let mut run = start(&mut command);
    let url = run.wait_for(|line| {
        let (_, after) = line.split_once("worker --coordinator ")?;
        after.split_whitespace().next().map(str::to_string)
    });
    let external = start_worker(folder.path(), &url, "1");
    run.wait_for_workers(2);
    let events = folder.path().join("run/events.jsonl");
    let contributes =
        || json_lines(&events).iter().filter(|event| event["kind"] == "worker_contributes").count();
    wait_until(|| contributes() == 2);
    run.signal(rustix::process::Signal::TERM);
    run.finish();
    assert_eq!(external.finish().code(), Some(0));
    start(coordinator(folder.path()).args(["verify", "run"])).finish().done();
}

#[test]
fn a_worker_may_start_before_its_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{port}");
    let mut early = start(
        worker(folder.path())
            .args(["--coordinator", &url, "--token", "secret"])
            .env("RUST_LOG", "lockstep_worker=debug"),
    );
    early.wait_for_line("cannot reach");
    let mut command = coordinator(folder.path());
    command.args([
        "--json",
        "--external",
        "--token",
        "secret",
        "--workers",
        "1",
        "--listen",
        &port.to_string(),
    ]);
    let finished = start(command.args(SMALL)).finish().done();
    assert_eq!(early.finish().code(), Some(0), "{finished}");
}

#[test]
fn a_worker_whose_coordinator_stays_away_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, url) = start_external(folder.path(), "2");
    let mut command = worker(folder.path());
    command.args(["--coordinator", &url, "--threads", "1", "--connect-timeout", "1"]);
    let mut lonely = start(command.env("LOCKSTEP_TOKEN", "secret"));
    lonely.wait_for_line("joined");
    run.wait_for_workers(1);
    run.signal(rustix::process::Signal::KILL);
    drop(run);
    let lonely = lonely.finish();
    assert_eq!(lonely.code(), Some(75), "{lonely}");
    assert!(lonely.stderr.contains("is gone") && lonely.stderr.contains("tried for"), "{lonely}");
}
