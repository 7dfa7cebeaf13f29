//! Where the records of a run go: to the console and the log at once, to files on the journal's thread.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use lockstep_control::TaskOrder;
use lockstep_telemetry::{
    ConsoleSink, EventsSink, MetricsSink, Recorder, Session, TensorBoardSink, Terminal, TracingSink,
};

use super::open_run::{OpenRun, ResumePoint};
use crate::settings::Settings;

/// The sinks of a run.
pub(super) struct Sinks {
    /// Those that take a record at once.
    pub recorder: Recorder,
    /// Those that write to the disk.
    pub files: Recorder,
}

impl Sinks {
    /// Opens the sinks that the settings ask for; files of an earlier process of the run go on where it is resumed.
    ///
    /// # Errors
    ///
    /// If a file cannot be created, read or written.
    pub fn open(
        settings: &Settings,
        terminal: &Terminal,
        open: &OpenRun,
        point: &ResumePoint,
        tasks: &TaskOrder,
        start: Instant,
    ) -> Result<Self> {
        let (mut recorder, mut files) = (Recorder::default(), Recorder::default());
        let restored = point.restored(tasks);
        recorder.add(TracingSink);
        let (epochs, progress) = (settings.epochs.get(), settings.progress);
        let mut console =
            ConsoleSink::new(terminal.clone(), epochs, tasks.steps_per_epoch, tasks.steps, progress);
        if settings.metrics {
            let run_id = open.run_id.to_string();
            let (metrics, events) = (open.directory.metrics(), open.directory.events());
            if settings.resume.is_some() {
                let (metrics, epoch) = MetricsSink::resume(&metrics, &run_id, restored)?;
                console.resume(epoch);
                files.add(metrics);
                files.add(EventsSink::resume(&events, &run_id, restored)?);
            } else {
                files.add(MetricsSink::create(&metrics, &run_id)?);
                files.add(EventsSink::create(&events, &run_id)?);
            }
        }
        recorder.add(console);
        if settings.tensorboard {
            let earlier_seconds = point.totals.earlier_seconds;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let session = Session {
                term: point.term,
                restored: settings.resume.is_some().then_some(restored),
                began: now.saturating_sub(start.elapsed()).as_secs_f64() - earlier_seconds,
                earlier_seconds,
                steps: tasks.steps,
            };
            files.add(TensorBoardSink::create(&open.directory.tensorboard(), session)?);
        }
        Ok(Self { recorder, files })
    }
}
