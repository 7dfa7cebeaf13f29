//! Every run leaves one page that stands alone, and `coordinator report` writes the same one from the run's files.

use std::fs;

use rustix::process::Signal;

use crate::harness::{SMALL, coordinator, run_small, start};

/// Steps of a small run: 425 examples in batches of 32, twice.
const LAST_STEP: &str = "training, step 28: ";

/// Asserts that a page asks nobody for anything and runs nothing.
fn assert_alone(page: &str) {
    for address in ["http:", "https:", "<script", "<link", "<iframe", "@import", " src=", " href="] {
        assert!(!page.contains(address), "{address}");
    }
    assert!(page.match_indices("url(").all(|(at, _)| page[at..].starts_with("url(data:image/png;base64,")));
}

#[test]
fn a_run_leaves_a_page_that_its_files_give_again() {
    let (finished, folder) = run_small(&["--workers", "2"]);
    let digest = finished.done().digest();
    let path = folder.path().join("run/report.html");
    let page = fs::read_to_string(&path).unwrap();
    assert!(page.contains(&digest));
    assert!(page.contains(LAST_STEP), "both curves reach the last step");
    assert_eq!(page.matches("<svg").count(), 2);
    assert_eq!(
        page.matches("<li class=\"right\">").count() + page.matches("<li class=\"wrong\">").count(),
        100
    );
    // Who joined, and what each did.
    for worker in ["local-1", "local-2"] {
        assert_eq!(page.matches(&format!("<td><bdi>{worker}</bdi>")).count(), 2, "{worker}");
    }
    assert_eq!(page.matches("</td><td>computed ").count(), 2);
    // What the page itself says trains the same again, with another number of workers.
    let (_, command) = page.split_once("<pre><span>coordinator</span> ").unwrap();
    let command = command.split_once("</pre>").unwrap().0.replace("<span>", "").replace("</span>", "");
    assert!(command.contains("--examples 500 ") && command.ends_with("--workers 2"), "{command}");
    let command = command.replace("--workers 2", "--workers 3");
    let mut again = coordinator(folder.path());
    again.args(["--json", "--run-dir", "again"]).args(command.split(' '));
    assert_eq!(start(&mut again).finish().done().digest(), digest);
    assert_alone(&page);

    fs::remove_file(&path).unwrap();
    let said = start(coordinator(folder.path()).args(["report", "run"])).finish().done();
    assert_eq!(said.stdout, "report run/report.html\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), page);
    start(coordinator(folder.path()).args(["report", "run/", "--out", "other.html"])).finish().done();
    assert_eq!(fs::read_to_string(folder.path().join("other.html")).unwrap(), page);
}

#[test]
fn a_run_that_is_interrupted_or_keeps_no_records_has_a_page_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--json", "--run-dir", "run"]).args(&SMALL[..6]).args(["--epochs", "100000"]);
    let mut run = start(&mut command);
    run.wait_for_line("epoch      2/100000");
    run.signal(Signal::TERM);
    let finished = run.finish();
    assert_eq!(finished.code(), Some(143), "{finished}");
    let path = folder.path().join("run/report.html");
    if finished.stderr.contains("there is no report of this run: reading its records takes longer") {
        // A machine that is too busy: the run says so, rather than to end late.
        start(coordinator(folder.path()).args(["report", "run"])).finish().done();
    }
    let page = fs::read_to_string(&path).unwrap();
    assert!(page.contains("interrupted by SIGTERM") && page.contains("coordinator --resume run<"), "{page}");
    assert!(page.contains(&finished.digest()));
    start(coordinator(folder.path()).args(["report", "run"])).finish().done();
    assert_eq!(fs::read_to_string(&path).unwrap(), page);
    // A run that goes on has none until it ends again.
    let mut run = start(coordinator(folder.path()).args(["--json", "--resume", "run"]));
    run.wait_for_line("epoch ");
    assert!(!path.exists());
    run.signal(Signal::KILL);
    run.finish();

    let (finished, folder) = run_small(&["--no-metrics"]);
    let digest = finished.done().digest();
    let page = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(page.contains(&digest) && page.contains("There are no curves: "));
    assert!(page.contains("<table class=\"confusion\">"));
    assert_alone(&page);
}

#[test]
fn what_cannot_be_reported_on_is_one_clear_line() {
    let (finished, folder) = run_small(&[]);
    finished.done();
    let refused = |arguments: &[&str]| {
        let finished = start(coordinator(folder.path()).arg("report").args(arguments)).finish();
        assert_eq!((finished.stderr.lines().count(), &*finished.stdout), (1, ""), "{finished}");
        (finished.code().unwrap(), finished.stderr.trim_end().to_string())
    };
    let (code, line) = refused(&["nowhere"]);
    assert!(code == 1 && line.starts_with("error: there is no run directory nowhere"), "{line}");
    let (code, line) = refused(&["run", "--out", "missing/report.html"]);
    assert!(code == 1 && line.contains("missing/report.html"), "{line}");
    let summary = folder.path().join("run/summary.json");
    let text = fs::read_to_string(&summary).unwrap();
    fs::write(&summary, &text[..text.len() / 2]).unwrap();
    let before = fs::read(folder.path().join("run/report.html")).unwrap();
    let (code, line) = refused(&["run"]);
    assert!(code == 1 && line.starts_with("error: run/summary.json is no summary of a run: "), "{line}");
    assert_eq!(fs::read(folder.path().join("run/report.html")).unwrap(), before, "the old page stays");
}

#[test]
fn a_page_that_cannot_be_written_fails_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--json", "--run-dir", "run"]).args(&SMALL[..6]).args(["--epochs", "100000"]);
    let mut run = start(&mut command);
    run.wait_for_line("epoch      1/100000");
    // A folder of that name cannot be replaced by a file.
    fs::create_dir_all(folder.path().join("run/report.html/in-the-way")).unwrap();
    run.signal(Signal::INT);
    let finished = run.finish();
    assert_eq!(finished.code(), Some(130), "{finished}");
    assert_eq!(finished.stderr.matches("there is no report of this run: ").count(), 1, "{finished}");
    assert!(finished.stderr.contains("`coordinator report run`"), "{finished}");
}
