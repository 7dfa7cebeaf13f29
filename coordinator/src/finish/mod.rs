//! The end of a run: lets its workers go, waits for what is being saved, then writes and prints the results.
//!
//! Whatever may hang (a disk, a terminal, a pipe that nobody reads) is done on threads that are left behind, each under
//! a deadline: an end by signal is promised within 2 seconds. A phase that fails does not keep the next one from being
//! tried.

mod deadlines;
pub(crate) mod outcome;
mod result_files;

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use lockstep_command_line::Signals;
use lockstep_command_line::background::in_background;
use lockstep_command_line::exit::{EXIT_FAILED, sentence};
use lockstep_control::Outcome;
use lockstep_dashboard::Dashboard;
use lockstep_dataset::Examples;
use lockstep_html_report as html_report;
use lockstep_records::{Ended, Summary, WorkersRecord};
use lockstep_run_directory::{RunDirectory, workers_file};
use lockstep_telemetry::{Sink, Terminal};
use tokio::sync::mpsc;

use self::deadlines::{
    Deadlines, EARLIER_LINES, EndPhase, FILES, LAST_LINES, LAST_SAVE, MEASURING, PAGE, PRINT, REPORT,
    WORKER_EXIT_GRACE, WORKERS_LEAVE,
};
use self::outcome::{EndedRun, Results};
use self::result_files::{FileWrites, ResultFile};
use crate::local_workers::LocalWorkers;
use crate::run::Run;
use crate::transport::service::Incoming;

/// What reading records and drawing the report may take at an end by signal, which is promised within 2 seconds, and at
/// any other.
const SIGNAL_LIMIT: Duration = Duration::from_millis(400);
const NORMAL_LIMIT: Duration = Duration::from_secs(30);

/// All that is to be ended when the loop of a run is over.
pub(crate) struct Shutdown<'a> {
    /// The run.
    pub run: Run,
    /// What its workers send.
    pub incoming: mpsc::Receiver<Incoming>,
    /// Its local workers, if it has any.
    pub local: Option<LocalWorkers>,
    /// The operator's signals.
    pub signals: Signals,
    /// How it ended.
    pub ended: EndedRun<'a>,
    /// The first test digits, for the report.
    pub digits: Examples,
    /// Its live page, if it has one.
    pub dashboard: Option<Dashboard>,
    /// Where lines for people go.
    pub terminal: &'a Terminal,
}

impl Shutdown<'_> {
    /// Goes through all phases of the end; returns the exit code.
    ///
    /// # Errors
    ///
    /// If standard output refuses the summary.
    pub async fn finish(self) -> Result<u8> {
        let Self { mut run, mut incoming, local, signals, ended, digits, dashboard, terminal } = self;
        let mut end = End { deadlines: Deadlines::of(ended.outcome), signals, terminal };
        end.wait(WORKERS_LEAVE, drain(&mut run, ended.outcome, &mut incoming, local)).await;
        let measuring = end.deadlines.limit(MEASURING);
        if end.wait(LAST_SAVE, run.settle(measuring)).await.is_none() {
            run.not_settled();
        }
        // Behind the log: a run with a summary has the record of its last step, or says why not.
        let Results { summary, files, code } = ended.results(run.trainer(), run.totals());
        let mut writes = FileWrites::begin(files);
        let totals = run.into_totals();
        end.wait(FILES, writes.finished()).await;
        terminal.detach();

        let failures = writes.failures();
        let printed = match &summary {
            Some(summary) => end.print(&ended, summary).await,
            None => Ok(()),
        };
        ended.explain(&failures, &totals);
        if ended.may_write() {
            end.write_report(&ended, totals.workers.clone(), digits).await;
        }
        if let Some(dashboard) = dashboard {
            end.close_page(&ended, totals.workers.as_ref(), dashboard).await;
        }
        end.flush(LAST_LINES).await;
        // A result that is not kept is a failure.
        printed.map(|()| if failures.is_empty() { code } else { EXIT_FAILED })
    }
}

/// The end of a run while it goes on: its deadlines, and what may cut them short.
struct End<'a> {
    deadlines: Deadlines,
    signals: Signals,
    terminal: &'a Terminal,
}

impl End<'_> {
    /// The result of `work`, or `None` if the phase's limit comes first.
    async fn wait<T>(&mut self, phase: EndPhase, work: impl Future<Output = T>) -> Option<T> {
        self.deadlines.wait(&mut self.signals, phase, work).await
    }

    /// Waits until all lines printed so far are shown.
    async fn flush(&mut self, phase: EndPhase) {
        let (terminal, limit) = (self.terminal.clone(), self.deadlines.limit(phase));
        self.wait(phase, in_background("flush", move || terminal.flush(limit))).await;
    }

    async fn print(&mut self, ended: &EndedRun<'_>, summary: &Summary) -> Result<()> {
        let text = outcome::summary_text(ended.settings, summary);
        self.flush(EARLIER_LINES).await;
        let print = in_background("stdout", move || outcome::print(&text));
        self.wait(PRINT, print).await.unwrap_or_else(|| {
            Err(anyhow::anyhow!("cannot write the summary to standard output: nobody reads it"))
        })
    }

    async fn write_report(&mut self, ended: &EndedRun<'_>, workers: Option<WorkersRecord>, digits: Examples) {
        let (directory, run_id, outcome) = (ended.directory.clone(), ended.run_id, ended.outcome);
        let written = in_background("report", move || {
            if let Some(workers) = &workers {
                workers_file::write(&directory, run_id, workers);
            }
            write_report(&directory, digits, outcome);
        });
        if self.wait(REPORT, written).await.is_none() {
            tracing::warn!("the disk does not answer: workers.json and report.html are not written");
        }
    }

    /// Lets the page show the end; with `--stay` it is served until a signal comes.
    async fn close_page(
        &mut self,
        run: &EndedRun<'_>,
        workers: Option<&WorkersRecord>,
        dashboard: Dashboard,
    ) {
        let ended = match run.outcome {
            Outcome::Done => Ended::done(),
            other => Ended::early(&other.to_string()),
        };
        if let Some(workers) = workers {
            dashboard.history().workers(workers);
        }
        if run.settings.stay && !matches!(run.outcome, Outcome::Interrupted { .. }) {
            dashboard.stay(ended.clone());
            self.terminal.print_line(&format!("the dashboard stays at {} until Ctrl-C", dashboard.url()));
            self.deadlines.signalled(self.signals.next().await);
        }
        self.wait(PAGE, in_background("page", move || dashboard.end(ended))).await;
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

/// Lets the workers go; kills local ones that do not.
async fn drain(
    run: &mut Run,
    outcome: Outcome,
    incoming: &mut mpsc::Receiver<Incoming>,
    local: Option<LocalWorkers>,
) {
    run.dismiss(outcome);
    let Some(mut local) = local else {
        let all_left = async {
            while run.has_members()
                && let Some(incoming) = incoming.recv().await
            {
                run.drain(incoming);
            }
        };
        // A worker that has not left by then finds its stream ended.
        let _ = tokio::time::timeout(WORKER_EXIT_GRACE, all_left).await;
        return;
    };
    let kill = tokio::time::sleep(WORKER_EXIT_GRACE);
    tokio::pin!(kill);
    let mut killed = false;
    loop {
        tokio::select! {
            Some(incoming) = incoming.recv() => {
                run.drain(incoming);
            }
            () = local.ended() => break,
            () = &mut kill, if !killed => {
                local.kill();
                killed = true;
            }
        }
    }
    while let Ok(incoming) = incoming.try_recv() {
        run.drain(incoming);
    }
}
