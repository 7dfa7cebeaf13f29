//! What the page shows of a run: small, bounded however long the run is, and shared with the loop.
//!
//! The loop's sink puts records in, each under a lock that nobody holds for long; the dashboard's thread takes out what
//! a page does not know yet, and turns it into JSON elsewhere.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lockstep_records::{
    EpochRecord, EvaluationKind, EvaluationRecord, EventRecord, StepRecord, WorkersRecord,
};
use lockstep_telemetry::Sink;
use serde::{Serialize, Serializer};

use super::curve::{Curve, Known, Point, Points};
use super::ended::Ended;
use super::facts::Facts;
use super::notices::{Notice, Notices};

/// Events that a page can see; `events.jsonl` has all.
const MAX_EVENTS: usize = 200;

/// Epochs that a page can see; of more, every second goes.
const MAX_EPOCHS: usize = 512;

/// Rates and splits are renewed when the steps since the last time took this long.
const RENEWAL_SECONDS: f64 = 0.25;

/// Weight of the newest step in the moving averages.
const SMOOTHING: f64 = 0.05;

/// Where the run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// The last step.
    pub step: u64,
    /// Its epoch.
    pub epoch: u32,
    /// It has no worker, and waits for one.
    pub waiting: bool,
    /// Moving averages; absent before the first step.
    pub loss: Option<f64>,
    /// Share classified correctly, 0 to 1.
    pub accuracy: Option<f64>,
    /// Over the last quarter of a second of steps or more; of a run that is over, over all of it, like all below.
    pub examples_per_second: Option<f64>,
    /// Likewise.
    pub steps_per_second: Option<f64>,
    /// Where a step's time goes, as shares: sending, waiting for workers, adding, updating, other.
    pub split: Option<[f64; 5]>,
    /// Payload bytes of a step, to workers and from them.
    pub bytes: Option<[f64; 2]>,
}

/// What a page does not know yet.
#[derive(Serialize)]
pub struct View {
    /// Absent if known, or not there yet.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shared")]
    pub facts: Option<Arc<Facts>>,
    /// Always.
    pub progress: Progress,
    /// Whether there are new points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curve: Option<Points>,
    /// All of them, if there is a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<Vec<EpochRecord>>,
    /// New ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventRecord>,
    /// All lines that stay, if there is a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notices: Option<Vec<Notice>>,
    /// The newest.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shared")]
    pub workers: Option<Arc<WorkersRecord>>,
    /// The last validation.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shared")]
    pub validation: Option<Arc<EvaluationRecord>>,
    /// The test.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shared")]
    pub test: Option<Arc<EvaluationRecord>>,
    /// How the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// With it: whether the server stays, so that a page may go on asking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stays: Option<bool>,
}

/// What is shared is written like what is owned.
pub fn shared<T: Serialize, S: Serializer>(value: &Option<Arc<T>>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_deref().serialize(serializer)
}

impl View {
    /// Whether there is anything but what a page has heard already.
    pub fn has_news(&self) -> bool {
        let Self {
            facts,
            progress: _,
            curve,
            epochs,
            events,
            notices,
            workers,
            validation,
            test,
            ended,
            stays: _,
        } = self;
        facts.is_some()
            || curve.is_some()
            || epochs.is_some()
            || !events.is_empty()
            || notices.is_some()
            || workers.is_some()
            || validation.is_some()
            || test.is_some()
            || ended.is_some()
    }
}

/// What a page knows.
#[derive(Default)]
pub struct Cursor {
    curve: Known,
    facts: u64,
    epochs: u64,
    events: u64,
    notices: u64,
    workers: u64,
    evaluations: u64,
    ended: bool,
}

/// Counts of changes, each beginning with 1 for the first.
#[derive(Default)]
struct Revisions {
    facts: u64,
    epochs: u64,
    events: u64,
    workers: u64,
    evaluations: u64,
}

#[derive(Default)]
struct History {
    facts: Arc<Facts>,
    progress: Progress,
    /// Since the last renewal.
    newest: Sums,
    /// Over the whole run.
    whole: Sums,
    curve: Curve,
    epochs: Vec<EpochRecord>,
    events: VecDeque<EventRecord>,
    notices: Notices,
    workers: Option<Arc<WorkersRecord>>,
    validation: Option<Arc<EvaluationRecord>>,
    test: Option<Arc<EvaluationRecord>>,
    weights: Option<(u64, Bytes)>,
    ended: Option<Ended>,
    stays: bool,
    revisions: Revisions,
}

/// Sums over steps.
#[derive(Default)]
struct Sums {
    steps: u64,
    examples: u64,
    seconds: f64,
    parts: [f64; 4],
    bytes: [u64; 2],
}

impl Sums {
    fn add(&mut self, record: &StepRecord) {
        self.steps += 1;
        self.examples += u64::from(record.examples);
        self.seconds += record.seconds;
        let parts = [record.send_seconds, record.wait_seconds, record.reduce_seconds, record.update_seconds];
        self.parts.iter_mut().zip(parts).for_each(|(sum, seconds)| *sum += seconds);
        let bytes = [record.bytes_sent, record.bytes_received];
        self.bytes.iter_mut().zip(bytes).for_each(|(sum, bytes)| *sum += bytes);
    }
}

impl Progress {
    /// Rates and splits of these steps.
    fn renew(&mut self, sums: &Sums) {
        let Sums { steps, examples, seconds, parts, bytes } = sums;
        self.examples_per_second = Some(*examples as f64 / seconds);
        self.steps_per_second = Some(*steps as f64 / seconds);
        let [send, wait, reduce, update] = parts.map(|part| part / seconds);
        let other = (1.0 - send - wait - reduce - update).max(0.0);
        self.split = Some([send, wait, reduce, update, other]);
        self.bytes = Some(bytes.map(|bytes| bytes as f64 / *steps as f64));
    }
}

impl History {
    fn end(&mut self, ended: Ended, stays: bool) {
        (self.ended, self.stays) = (Some(ended), stays);
        // What its last moment was like is nothing to know a run by.
        if self.whole.seconds > 0.0 {
            self.progress.renew(&self.whole);
        }
    }
}

/// The history, shared by the loop's sink and the dashboard's thread.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<History>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, History> {
        // A panic elsewhere leaves nothing half done here that a page could not bear.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what does not change.
    pub fn set_facts(&self, facts: Facts) {
        let mut history = self.lock();
        history.facts = Arc::new(facts);
        history.revisions.facts += 1;
    }

    /// The run is over, and its server ends.
    pub fn end(&self, ended: Ended) {
        self.lock().end(ended, false);
    }

    /// The run is over, and its server stays.
    pub fn stay(&self, ended: Ended) {
        self.lock().end(ended, true);
    }

    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// The newest weights and their step.
    pub fn newest_weights(&self) -> Option<(u64, Bytes)> {
        self.lock().weights.clone()
    }

    /// The last step.
    pub fn newest_step(&self) -> u64 {
        self.lock().progress.step
    }

    /// The whole curve, up to the last step.
    pub fn curve(&self) -> Vec<Point> {
        self.lock().curve.whole()
    }

    /// Adds an event.
    pub fn add_event(&self, event: EventRecord) {
        let mut history = self.lock();
        if history.events.len() == MAX_EVENTS {
            history.events.pop_front();
        }
        history.notices.event(&event.kind, &event.reason);
        history.events.push_back(event);
        history.revisions.events += 1;
    }

    /// The steps without a record, from the log itself.
    pub fn log_says(&self, gaps: &[RangeInclusive<u64>]) {
        self.lock().notices.log_says(gaps);
    }

    /// What is new since `cursor`, which knows it then.
    pub fn view(&self, cursor: &mut Cursor) -> View {
        let history = self.lock();
        let Revisions { facts, epochs, events, workers, evaluations } = history.revisions;
        let notices = history.notices.revision();
        let curve = history.curve.since(&mut cursor.curve);
        let new_events = events.saturating_sub(cursor.events).min(history.events.len() as u64) as usize;
        let evaluated = cursor.evaluations != evaluations;
        let view = View {
            facts: (cursor.facts != facts).then(|| history.facts.clone()),
            progress: history.progress.clone(),
            curve: (curve.replace || !curve.points.is_empty()).then_some(curve),
            epochs: (cursor.epochs != epochs).then(|| history.epochs.clone()),
            events: history.events.range(history.events.len() - new_events..).cloned().collect(),
            notices: (cursor.notices != notices).then(|| history.notices.list().to_vec()),
            workers: history.workers.clone().filter(|_| cursor.workers != workers),
            validation: history.validation.clone().filter(|_| evaluated),
            test: history.test.clone().filter(|_| evaluated),
            ended: history.ended.clone().filter(|_| !cursor.ended),
            stays: (!cursor.ended && history.ended.is_some()).then_some(history.stays),
        };
        let ended = history.ended.is_some();
        *cursor = Cursor { curve: cursor.curve, facts, epochs, events, notices, workers, evaluations, ended };
        view
    }
}

impl Sink for Shared {
    fn step(&mut self, record: &StepRecord) {
        let mut history = self.lock();
        history.curve.step(record);
        history.whole.add(record);
        history.newest.add(record);
        let progress = &mut history.progress;
        (progress.step, progress.epoch) = (record.step, record.epoch);
        progress.waiting = false;
        smooth(&mut progress.loss, record.loss.into());
        smooth(&mut progress.accuracy, record.accuracy.into());
        if history.newest.seconds >= RENEWAL_SECONDS {
            let newest = std::mem::take(&mut history.newest);
            history.progress.renew(&newest);
        }
    }

    fn epoch(&mut self, record: &EpochRecord) {
        let mut history = self.lock();
        if history.epochs.len() == MAX_EPOCHS {
            let mut index = 0;
            history.epochs.retain(|_| {
                index += 1;
                index % 2 == 0
            });
        }
        history.epochs.push(record.clone());
        history.revisions.epochs += 1;
    }

    fn event(&mut self, record: &EventRecord) {
        match &*record.kind {
            "waiting" => self.lock().progress.waiting = true,
            "worker_joined" => self.lock().progress.waiting = false,
            _ => {}
        }
        self.add_event(record.clone());
    }

    fn workers(&mut self, record: &WorkersRecord) {
        let record = Arc::new(record.clone());
        let mut history = self.lock();
        history.workers = Some(record);
        history.revisions.workers += 1;
    }

    fn evaluation(&mut self, record: &EvaluationRecord) {
        let record = Arc::new(record.clone());
        let mut history = self.lock();
        match record.of {
            EvaluationKind::Validation => history.validation = Some(record),
            EvaluationKind::Test => history.test = Some(record),
        }
        history.revisions.evaluations += 1;
    }

    fn weights(&mut self, step: u64, weights: &Bytes) {
        let old = self.lock().weights.replace((step, weights.clone()));
        // Their buffer goes back to its pool here, outside of the lock.
        drop(old);
    }
}

fn smooth(average: &mut Option<f64>, value: f64) {
    *average = Some(average.map_or(value, |average| average + SMOOTHING * (value - average)));
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::curve::tests::step;
    use super::*;

    fn event(step: u64) -> EventRecord {
        EventRecord {
            seconds: 1.0,
            step,
            kind: "copied".into(),
            worker: None,
            reason: format!("event {step}"),
        }
    }

    fn epoch(epoch: u32) -> EpochRecord {
        EpochRecord { epoch, step: 1, val_loss: None, val_accuracy: None, weights_digest: String::new() }
    }

    #[test]
    fn a_page_is_told_what_is_new_and_a_late_one_everything() {
        let mut shared = Shared::default();
        let mut cursor = Cursor::default();
        shared.set_facts(Facts { run_id: "ab".to_string(), ..Facts::default() });
        let first = shared.view(&mut cursor);
        assert_eq!(first.facts.unwrap().run_id, "ab");
        assert!(first.ended.is_none() && first.epochs.is_none() && first.events.is_empty());
        (1..=4).for_each(|number| shared.step(&step(number, 2.0)));
        shared.event(&event(1));
        shared.epoch(&epoch(1));
        let second = shared.view(&mut cursor);
        assert!(second.facts.is_none());
        assert_eq!(second.curve.unwrap().points.len(), 4);
        assert_eq!((second.events.len(), second.epochs.unwrap().len()), (1, 1));
        assert_eq!(second.progress.step, 4);
        let split = second.progress.split.unwrap();
        for (share, expected) in split.iter().zip([0.1, 0.5, 0.2, 0.1, 0.1]) {
            assert!((share - expected).abs() < 1e-9, "{split:?}");
        }
        let third = shared.view(&mut cursor);
        assert!(third.curve.is_none() && third.epochs.is_none() && third.events.is_empty());
        shared.end(Ended::of_files(None, &[]));
        let end = shared.view(&mut cursor);
        assert_eq!((end.ended, end.stays), (Some(Ended::of_files(None, &[])), Some(false)));
        let nothing = shared.view(&mut cursor);
        assert_eq!((nothing.ended, nothing.stays), (None, None), "told once");
        let late = shared.view(&mut Cursor::default());
        assert!(late.facts.is_some() && late.curve.unwrap().replace && late.ended.is_some());
        shared.stay(Ended::of_files(None, &[]));
        assert_eq!(shared.view(&mut Cursor::default()).stays, Some(true));
    }

    #[test]
    fn a_run_waits_until_a_worker_comes() {
        let mut shared = Shared::default();
        let mut waits = |kind| {
            shared.event(&EventRecord { kind: Cow::Borrowed(kind), ..event(1) });
            shared.view(&mut Cursor::default()).progress.waiting
        };
        let told = ["worker_dropped", "waiting", "process_ended", "worker_joined"].map(&mut waits);
        assert_eq!(told, [false, true, true, false]);
        assert!(waits("waiting"));
        shared.step(&step(1, 2.0));
        assert!(!shared.view(&mut Cursor::default()).progress.waiting);
    }

    #[test]
    fn a_run_that_is_over_is_told_by_its_mean_and_not_by_its_last_moment() {
        let mut shared = Shared::default();
        let progress = |shared: &Shared| shared.view(&mut Cursor::default()).progress;
        // A run of a moment has nothing but its mean.
        (1..=2).for_each(|number| shared.step(&step(number, 2.0)));
        assert_eq!((progress(&shared).examples_per_second, progress(&shared).split), (None, None));
        shared.end(Ended::of_files(None, &[]));
        assert_eq!(progress(&shared).examples_per_second, Some(640.0));

        // 10 steps of 0.1 s, and then 2 of 1 s of which all is waiting.
        let mut shared = Shared::default();
        (1..=10).for_each(|number| shared.step(&step(number, 2.0)));
        for number in 11..=12 {
            let idle =
                StepRecord { send_seconds: 0.0, wait_seconds: 1.0, reduce_seconds: 0.0, ..step(number, 2.0) };
            shared.step(&StepRecord { seconds: 1.0, update_seconds: 0.0, bytes_sent: 70, ..idle });
        }
        let last = progress(&shared);
        assert_eq!((last.examples_per_second, last.bytes), (Some(64.0), Some([70.0, 20.0])));
        shared.end(Ended::of_files(None, &[]));
        let mean = progress(&shared);
        assert!((mean.examples_per_second.unwrap() - 12.0 * 64.0 / 3.0).abs() < 1e-9, "{mean:?}");
        assert!((mean.split.unwrap()[1] - 2.5 / 3.0).abs() < 1e-9, "{mean:?}");
        assert_eq!(mean.bytes, Some([20.0, 20.0]));
    }

    #[test]
    fn a_line_that_stays_outlives_the_events_and_is_told_to_a_late_page() {
        let mut shared = Shared::default();
        let mut cursor = Cursor::default();
        let sentence = "steps are not recorded".to_string();
        shared.event(&EventRecord { kind: "log_failed".into(), reason: sentence.clone(), ..event(1) });
        assert_eq!(shared.view(&mut cursor).notices.unwrap()[0].sentence, sentence);
        (0..2 * MAX_EVENTS).for_each(|step| shared.event(&event(step as u64)));
        let view = shared.view(&mut cursor);
        assert!(view.notices.is_none() && !view.events.is_empty());
        let late = shared.view(&mut Cursor::default());
        assert!(late.events.iter().all(|event| event.kind != "log_failed"));
        assert_eq!(late.notices.unwrap()[0].sentence, sentence);
    }

    #[test]
    fn nothing_grows_without_a_bound() {
        let mut shared = Shared::default();
        let mut cursor = Cursor::default();
        for number in 0..5000 {
            shared.event(&event(number));
            shared.epoch(&epoch(number as u32));
        }
        let view = shared.view(&mut cursor);
        assert_eq!(view.events.len(), MAX_EVENTS);
        assert_eq!(view.events.last().unwrap().reason, "event 4999");
        let epochs = view.epochs.unwrap();
        assert!(epochs.len() <= MAX_EPOCHS);
        assert_eq!(epochs.last().unwrap().epoch, 4999);
    }
}
