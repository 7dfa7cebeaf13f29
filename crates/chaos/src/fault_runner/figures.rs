//! What faults cost, from the records of the run.
//!
//! A resumed coordinator cuts the records after the point where it goes on. So the faults that happened to one process
//! of the coordinator are settled when it is gone, and before the next one is started.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lockstep_records::EventRecord;

use crate::plan::Kind;
use crate::records::{self, Cost, PlacedEvent, Step};
use crate::verdict::{Injected, Recovery};

/// The records of one run, and the faults that have no figure yet.
pub(super) struct Figures {
    metrics: PathBuf,
    events: PathBuf,
    log: PathBuf,
    /// Faults since the coordinator was last started.
    open: Vec<Open>,
    /// The kill whose first new step is not there yet.
    resumption: Option<Resumption>,
}

struct Open {
    /// Its place among all faults.
    fault: usize,
    /// Length of `events.jsonl` when it happened.
    offset_bytes: u64,
}

struct Resumption {
    fault: usize,
    killed: Instant,
    /// The newest step in the log before; known when the process is gone.
    step: Option<u64>,
}

impl Figures {
    pub(super) fn new(run_directory: &Path) -> Self {
        Self {
            metrics: run_directory.join("metrics.jsonl"),
            events: run_directory.join("events.jsonl"),
            log: run_directory.join("steps.log"),
            open: Vec::new(),
            resumption: None,
        }
    }

    /// Whether so many workers have joined; not before the run has records.
    pub(super) fn all_joined(&self, workers: u32) -> bool {
        let events = records::events(&self.events).unwrap_or_default();
        let joined = events.iter().filter(|placed| placed.event.kind == "worker_joined");
        let names: HashSet<&str> = joined.filter_map(|placed| placed.event.worker.as_deref()).collect();
        names.len() >= workers as usize
    }

    /// The newest step in the log, which has each step as soon as it is done.
    pub(super) fn newest_step(&self) -> u64 {
        lockstep_checkpoint::newest_logged_step(&self.log).unwrap_or_default()
    }

    /// Notes a fault that is being injected.
    pub(super) fn injected(&mut self, fault: usize, kind: Kind) {
        let offset_bytes = fs::metadata(&self.events).map_or(0, |metadata| metadata.len());
        self.open.push(Open { fault, offset_bytes });
        if kind == Kind::KillCoordinator {
            // An earlier one that is not over yet has no figure of its own.
            self.resumption = Some(Resumption { fault, killed: Instant::now(), step: None });
        }
    }

    /// Notes that the killed coordinator is gone: what is on record now was before the kill.
    pub(super) fn coordinator_is_gone(&mut self) {
        let step = self.newest_step();
        if let Some(resumption) = &mut self.resumption {
            resumption.step = Some(step);
        }
    }

    /// Looks whether the resumed run has got beyond what was in the log before the kill.
    pub(super) fn look_for_resumption(&mut self, faults: &mut [Injected]) {
        let Some(Resumption { fault, killed, step: Some(step) }) = self.resumption else { return };
        if self.newest_step() > step {
            faults[fault].recovery = Some(Recovery::Resume { seconds: killed.elapsed().as_secs_f64() });
            self.resumption = None;
        }
    }

    /// Finds, for each fault of a worker since the coordinator was started, the step in which that was noticed.
    pub(super) fn settle(&mut self, faults: &mut [Injected]) {
        let open = std::mem::take(&mut self.open);
        // Records that cannot be read give no figures, and the report says how many there are.
        let events = records::events(&self.events).unwrap_or_default();
        let steps = records::steps(&self.metrics).unwrap_or_default();
        for (place, Open { fault, offset_bytes }) in open.iter().enumerate() {
            let target = &faults[*fault].target;
            // Whatever comes after the next fault of the same worker may be that one's.
            let next = open[place + 1..].iter().find(|open| faults[open.fault].target == *target);
            let window = *offset_bytes..next.map_or(u64::MAX, |next| next.offset_bytes);
            let in_window = |kind: &str| {
                let is_it = |placed: &&PlacedEvent| {
                    is_of(&placed.event, kind, target) && window.contains(&placed.offset_bytes)
                };
                events.iter().find(is_it).map(|placed| &placed.event)
            };
            // A joining worker costs nothing; that it is dropped is because it leaves again.
            faults[*fault].recovery = if faults[*fault].kind == Kind::Join {
                in_window("worker_joined").zip(in_window("worker_contributes")).map(joining)
            } else {
                in_window("worker_dropped").and_then(|event| loss(faults[*fault].step, event, &steps))
            }
            .or(faults[*fault].recovery);
        }
    }
}

/// What the slowest step cost, of those from the fault after step `after` to the one in which the worker was dropped.
fn loss(after: u64, dropped: &EventRecord, steps: &[Step]) -> Option<Recovery> {
    // What was done just before the fault may be in the log just after it.
    let (first, last) = (after.min(dropped.step) + 1, dropped.step + 1);
    let Cost { step, seconds, normal_seconds } = records::cost(steps, first..=last)?;
    Some(Recovery::Step { step, seconds, normal_seconds })
}

/// How long it took a worker that joined until a node of its was counted.
fn joining((joined, contributes): (&EventRecord, &EventRecord)) -> Recovery {
    // 1 for the step that was under way.
    let steps = contributes.step + 1 - joined.step;
    Recovery::Join { seconds: contributes.seconds - joined.seconds, steps }
}

/// Whether that kind of thing happened to that worker.
fn is_of(event: &EventRecord, kind: &str, worker: &str) -> bool {
    event.kind == kind && event.worker.as_deref() == Some(worker)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::ops::Range;
    use std::sync::Arc;

    use lockstep_checkpoint::{Disk, Kind as Logged, LogHeader, StepLog};
    use lockstep_records::{StepRecord, examples};

    use super::*;

    /// A run that writes its records as a coordinator would.
    struct Records {
        folder: tempfile::TempDir,
        figures: Figures,
    }

    fn records() -> Records {
        let folder = tempfile::tempdir().unwrap();
        let figures = Figures::new(folder.path());
        Records { folder, figures }
    }

    impl Records {
        fn add(&self, file: &str, lines: &str) {
            let path = self.folder.path().join(file);
            let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
            file.write_all(lines.as_bytes()).unwrap();
        }

        fn event(&self, step: u64, kind: &str, worker: &str) {
            let worker = Some(worker.to_string());
            let event = EventRecord { step, kind: kind.to_string().into(), worker, ..examples::event() };
            self.add("events.jsonl", &format!("{}\n", serde_json::to_string(&event).unwrap()));
        }

        fn steps(&self, steps: Range<u64>, seconds: f64) {
            for step in steps {
                let step = StepRecord { step, seconds, ..examples::step() };
                self.add("metrics.jsonl", &format!("{}\n", serde_json::to_string(&step).unwrap()));
            }
        }
    }

    fn fault(kind: Kind, target: &str) -> Injected {
        Injected {
            run: 1,
            kind,
            target: target.to_string(),
            at_seconds: 1.0,
            lasts_seconds: None,
            step: 0,
            skipped: None,
            recovery: None,
        }
    }

    #[test]
    fn all_have_joined_when_as_many_names_have() {
        let records = records();
        assert!(!records.figures.all_joined(2));
        records.event(0, "worker_joined", "w1");
        records.event(0, "worker_joined", "w1");
        assert!(!records.figures.all_joined(2));
        records.event(0, "worker_joined", "w2");
        assert!(records.figures.all_joined(2));
    }

    #[test]
    fn a_drop_is_the_cost_of_the_last_fault_of_that_worker_before_it() {
        let mut records = records();
        let mut faults = [
            (Kind::Slow, "w1"),
            (Kind::Kill, "w2"),
            (Kind::Kill, "w1"),
            (Kind::Stop, "w3"),
            (Kind::Join, "extra1"),
            (Kind::Join, "extra2"),
        ]
        .map(|(kind, target)| fault(kind, target));
        records.event(2, "worker_dropped", "w1");
        for (number, fault) in faults.iter().enumerate() {
            records.figures.injected(number, fault.kind);
        }
        records.event(10, "worker_dropped", "w1");
        records.event(10, "worker_joined", "w3");
        records.event(10, "worker_dropped", "extra1");
        records.event(12, "worker_joined", "extra2");
        records.event(13, "worker_contributes", "extra2");
        records.steps(1..11, 0.25);
        records.steps(11..12, 0.5);
        records.steps(12..30, 0.25);
        records.figures.settle(&mut faults);
        let expected = Recovery::Step { step: 11, seconds: 0.5, normal_seconds: 0.25 };
        assert_eq!(
            faults.map(|fault| fault.recovery),
            [None, None, Some(expected), None, None, Some(Recovery::Join { seconds: 0.0, steps: 2 })]
        );
    }

    #[test]
    fn a_resumption_lasts_until_the_first_new_step_is_in_the_log() {
        let mut records = records();
        let header = LogHeader::new([7; 16], "identity");
        let path = records.folder.path().join("steps.log");
        let mut log = StepLog::create(Arc::new(Disk), &path, &header).unwrap();
        let mut append = |kind, term, step| log.append(kind, term, step, [0; 32]).unwrap();
        append(Logged::Start, 1, 0);
        (1..=10).for_each(|step| append(Logged::Step, 1, step));
        let mut faults = [fault(Kind::KillCoordinator, "coordinator")];
        records.figures.injected(0, Kind::KillCoordinator);
        records.figures.look_for_resumption(&mut faults);
        assert_eq!(faults[0].recovery, None, "the coordinator is not gone yet");
        records.figures.coordinator_is_gone();
        append(Logged::Start, 2, 8);
        records.figures.look_for_resumption(&mut faults);
        assert_eq!(faults[0].recovery, None, "steps that are done again are not new");
        append(Logged::Step, 2, 11);
        let killed = records.figures.resumption.as_ref().unwrap().killed;
        records.figures.look_for_resumption(&mut faults);
        let Some(Recovery::Resume { seconds }) = faults[0].recovery else { panic!("{:?}", faults[0]) };
        assert!(seconds > 0.0 && seconds <= killed.elapsed().as_secs_f64(), "{seconds}");
    }
}
