//! The end of a run: its workers go, what is being saved is waited for, and what was found out is written and printed.
//!
//! Whatever may hang (a disk, a terminal, a pipe that nobody reads) is done on threads that are left behind, each under
//! a limit: an end by signal is promised within 2 seconds. What one part cannot do keeps no other from being tried.

mod aside;
mod deadline;
pub mod report;

use std::time::Duration;

use anyhow::Result;
use lockstep_control::Outcome;
use lockstep_dataset::Examples;
use lockstep_records::Ended;
use lockstep_telemetry::{Sink, Terminal};
use tokio::sync::mpsc;

use crate::cli::{EXIT_FAILED, sentence};
use crate::dashboard::Dashboard;
use crate::local_workers::LocalWorkers;
use crate::report as html_report;
use crate::run::{Run, Signals};
use crate::run_directory::{RunDirectory, workers_file};
use crate::transport::service::Incoming;
pub use aside::{Piece, Writing, aside};
use deadline::{
    Deadline, FAREWELL, FILES, LAST_SAVE, LAST_WORDS, MEASURING, PAGE, PRINT, REPORT, SEEN, WORKERS_LEAVE,
};
use report::{Ending, Report};

/// What reading records and drawing the report may take at an end by signal, which is promised within 2 seconds, and at
/// any other.
const SIGNAL_LIMIT: Duration = Duration::from_millis(400);
const NORMAL_LIMIT: Duration = Duration::from_secs(30);

/// What is left of a run when its loop is over.
pub struct Remains<'a> {
    /// The run.
    pub run: Run,
    /// What comes from its workers.
    pub incoming: mpsc::Receiver<Incoming>,
    /// Its local workers, if it has any.
    pub local: Option<LocalWorkers>,
    /// The operator's signals.
    pub signals: Signals,
    /// How it ended, for who reads.
    pub report: Report<'a>,
    /// The first test digits, for the page about the run.
    pub digits: Examples,
    /// Its live page, if it has one.
    pub dashboard: Option<Dashboard>,
    /// For people.
    pub terminal: &'a Terminal,
}

impl Remains<'_> {
    /// Does all of it; returns the exit code.
    ///
    /// # Errors
    ///
    /// If standard output refuses the summary.
    pub async fn finish(self) -> Result<u8> {
        let Self { mut run, mut incoming, local, mut signals, report, digits, dashboard, terminal } = self;
        let signals = &mut signals;
        let mut deadline = Deadline::of(report.outcome);
        deadline.wait(signals, WORKERS_LEAVE, wind_up(&mut run, report.outcome, &mut incoming, local)).await;
        let measuring = deadline.limit(MEASURING);
        if deadline.wait(signals, LAST_SAVE, run.settle(measuring)).await.is_none() {
            run.not_settled();
        }
        // Behind the log: a run with a summary has the record of its last step, or says why not.
        let Ending { summary, files, code } = report.ending(run.trainer(), run.results());
        let mut writing = Writing::begin(files);
        let results = run.into_results();
        deadline.wait(signals, FILES, writing.finished()).await;
        terminal.detach();

        let failures = writing.failures();
        let mut printed = Ok(());
        if let Some(summary) = &summary {
            // Its reader has seen all that came before, if that is read at all.
            deadline.wait(signals, SEEN, flushed(terminal, deadline.limit(SEEN))).await;
            let text = report::shown(report.settings, summary);
            let print = aside("stdout", move || report::print(&text));
            printed = deadline.wait(signals, PRINT, print).await.unwrap_or_else(|| {
                Err(anyhow::anyhow!("cannot write the summary to standard output: nobody reads it"))
            });
        }
        report.explain(&failures, &results);
        if report.belongs_here() {
            let (directory, run_id, outcome) = (report.directory.clone(), report.run_id, report.outcome);
            let workers = results.workers.clone();
            let written = aside("report", move || {
                if let Some(workers) = &workers {
                    workers_file::write(&directory, run_id, workers);
                }
                write_report(&directory, digits, outcome);
            });
            if deadline.wait(signals, REPORT, written).await.is_none() {
                tracing::warn!("the disk does not answer: workers.json and report.html are not written");
            }
        }
        if let Some(dashboard) = dashboard {
            let ended = match report.outcome {
                Outcome::Done => Ended::done(),
                other => Ended::early(&other.to_string()),
            };
            if let Some(workers) = &results.workers {
                dashboard.history().workers(workers);
            }
            if report.settings.stay && !matches!(report.outcome, Outcome::Interrupted { .. }) {
                dashboard.stay(ended.clone());
                terminal.print_line(&format!("the dashboard stays at {} until Ctrl-C", dashboard.url()));
                deadline.signalled(signals.next().await);
            }
            deadline.wait(signals, PAGE, aside("page", move || dashboard.end(ended))).await;
        }
        deadline.wait(signals, LAST_WORDS, flushed(terminal, deadline.limit(LAST_WORDS))).await;
        // What was found out and is not kept is a failure.
        printed.map(|()| if failures.is_empty() { code } else { EXIT_FAILED })
    }
}

/// Writes the report, which neither fails nor holds up the run.
fn write_report(directory: &RunDirectory, digits: Examples, outcome: Outcome) {
    let limit = if matches!(outcome, Outcome::Interrupted { .. }) { SIGNAL_LIMIT } else { NORMAL_LIMIT };
    if let Err(error) = html_report::write_within(limit, directory, digits) {
        tracing::warn!(
            "there is no report of this run: {}; write it with `coordinator report {}`",
            sentence(&error),
            directory.path().display()
        );
    }
}

/// Waits until all that was said is shown, for `limit` at most.
async fn flushed(terminal: &Terminal, limit: Duration) {
    let terminal = terminal.clone();
    aside("flush", move || terminal.flush(limit)).await;
}

/// Lets the workers go; kills local ones that do not.
async fn wind_up(
    run: &mut Run,
    outcome: Outcome,
    incoming: &mut mpsc::Receiver<Incoming>,
    local: Option<LocalWorkers>,
) {
    run.dismiss(outcome);
    let Some(mut local) = local else {
        let farewell = async {
            while run.has_members()
                && let Some(incoming) = incoming.recv().await
            {
                run.wind_up(incoming);
            }
        };
        // Whoever does not go by then finds the stream ended.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        return;
    };
    let kill = tokio::time::sleep(FAREWELL);
    tokio::pin!(kill);
    let mut killed = false;
    loop {
        tokio::select! {
            Some(incoming) = incoming.recv() => {
                run.wind_up(incoming);
            }
            () = local.ended() => break,
            () = &mut kill, if !killed => {
                local.kill();
                killed = true;
            }
        }
    }
    while let Ok(incoming) = incoming.try_recv() {
        run.wind_up(incoming);
    }
}
