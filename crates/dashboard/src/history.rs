//! What a page knows of a run: its history and facts, its newest weights, its end; shared with the loop.
//!
//! The loop's sink puts records in, each under a lock that nobody holds for long; the dashboard's thread takes out what
//! a page does not know yet, and turns it into JSON elsewhere.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lockstep_records::{
    self as records, Ended, EpochRecord, EvaluationRecord, EventRecord, News, Revisioned, RunHistory,
    StepRecord, WorkersRecord, serialize_shared,
};
use lockstep_telemetry::Sink;
use serde::Serialize;

use super::facts::Facts;

/// What a page does not know yet.
#[derive(Serialize)]
pub struct View {
    /// Absent if known, or not there yet.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "serialize_shared")]
    pub facts: Option<Arc<Facts>>,
    /// Of the history.
    #[serde(flatten)]
    pub news: News,
    /// How the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// With it: whether the server stays, so that a page may go on asking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stays: Option<bool>,
}

impl View {
    /// Whether there is anything but what a page has heard already.
    pub fn has_news(&self) -> bool {
        let Self { facts, news, ended, stays: _ } = self;
        facts.is_some() || news.is_any() || ended.is_some()
    }
}

/// What a page knows.
#[derive(Default)]
pub struct Cursor {
    history: records::Cursor,
    facts: u64,
    ended: bool,
}

#[derive(Default)]
struct State {
    history: RunHistory,
    facts: Revisioned<Arc<Facts>>,
    weights: Option<(u64, Bytes)>,
    ended: Option<Ended>,
    stays: bool,
}

impl State {
    fn end(&mut self, ended: Ended, stays: bool) {
        (self.ended, self.stays) = (Some(ended), stays);
        self.history.end();
    }
}

/// What a page knows of a run, shared by the loop's sink and the dashboard's thread.
#[derive(Clone, Default)]
pub struct SharedHistory(Arc<Mutex<State>>);

impl SharedHistory {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done here that a page could not bear.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what does not change.
    pub fn set_facts(&self, facts: Facts) {
        self.lock().facts.set(Arc::new(facts));
    }

    /// Takes in what the files of the run `run_id` have: `metrics.jsonl` and then `events.jsonl`.
    ///
    /// # Errors
    ///
    /// If a file that is there cannot be read, is of another run, or has another shape.
    pub fn restore(&self, files: &[PathBuf], run_id: &str) -> io::Result<()> {
        records::each_record(files, run_id, |record| self.lock().history.take(&record))
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
        self.lock().history.progress().step
    }

    /// The end that the summary tells of, or the last events; see [`Ended::of_files`].
    pub fn end_of_files(&self, summary: Option<&records::Summary>) -> Ended {
        Ended::of_files(summary, self.lock().history.events().iter())
    }

    /// The steps without a record, from the log itself.
    pub fn log_says(&self, gaps: &[RangeInclusive<u64>]) {
        self.lock().history.log_says(gaps);
    }

    /// What is new since `cursor`, which knows it then.
    pub fn view(&self, cursor: &mut Cursor) -> View {
        let state = self.lock();
        let ended = state.ended.clone().filter(|_| !cursor.ended);
        cursor.ended = state.ended.is_some();
        View {
            facts: state.facts.news(&mut cursor.facts).cloned(),
            news: state.history.news(&mut cursor.history),
            stays: ended.is_some().then_some(state.stays),
            ended,
        }
    }
}

impl Sink for SharedHistory {
    fn step(&mut self, record: &StepRecord) {
        self.lock().history.step(record);
    }

    fn epoch(&mut self, record: &EpochRecord) {
        self.lock().history.epoch(record);
    }

    fn event(&mut self, record: &EventRecord) {
        self.lock().history.event(record);
    }

    fn workers(&mut self, record: &WorkersRecord) {
        let record = Arc::new(record.clone());
        self.lock().history.workers(record);
    }

    fn evaluation(&mut self, record: &EvaluationRecord) {
        let record = Arc::new(record.clone());
        self.lock().history.evaluation(record);
    }

    fn weights(&mut self, step: u64, weights: &Bytes) {
        let old = self.lock().weights.replace((step, weights.clone()));
        // Their buffer goes back to its pool here, outside of the lock.
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use lockstep_records::{MAX_LINE_BYTES, examples};
    use lockstep_telemetry::{EventsSink, MetricsSink};

    use super::*;

    #[test]
    fn a_page_is_told_facts_and_the_end_once_and_a_late_one_everything() {
        let mut shared = SharedHistory::default();
        let mut cursor = Cursor::default();
        shared.set_facts(Facts { run_id: "ab".to_string(), ..Facts::default() });
        let first = shared.view(&mut cursor);
        assert_eq!(first.facts.as_ref().unwrap().run_id, "ab");
        assert!(first.has_news() && first.ended.is_none());
        shared.step(&examples::step());
        let second = shared.view(&mut cursor);
        assert!(second.facts.is_none() && second.has_news());
        assert_eq!(second.news.curve.unwrap().points.len(), 1);
        assert!(!shared.view(&mut cursor).has_news());
        shared.end(Ended::done());
        let end = shared.view(&mut cursor);
        assert_eq!((end.ended, end.stays), (Some(Ended::done()), Some(false)));
        let nothing = shared.view(&mut cursor);
        assert_eq!((nothing.ended, nothing.stays), (None, None), "told once");
        let late = shared.view(&mut Cursor::default());
        assert!(late.facts.is_some() && late.news.curve.unwrap().replace && late.ended.is_some());
        shared.stay(Ended::done());
        assert_eq!(shared.view(&mut Cursor::default()).stays, Some(true));
    }

    #[test]
    fn what_the_sinks_have_written_is_shown_like_what_they_were_told() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["metrics.jsonl", "events.jsonl"].map(|name| folder.path().join(name));
        let [metrics, events] = &files;
        let id = "ab".repeat(16);
        let live = SharedHistory::default();
        let mut sinks: Vec<Box<dyn Sink>> = vec![
            Box::new(MetricsSink::create(metrics, &id).unwrap()),
            Box::new(EventsSink::create(events, &id).unwrap()),
            Box::new(live.clone()),
        ];
        let step = |step| StepRecord { step, loss: 1.0 / step as f32, ..examples::step() };
        for sink in &mut sinks {
            (1..=3).for_each(|number| sink.step(&step(number)));
            sink.epoch(&EpochRecord { step: 3, val_accuracy: None, ..examples::epoch() });
            sink.event(&examples::event());
            sink.flush().unwrap();
        }
        let restored = || {
            let restored = SharedHistory::default();
            restored.restore(&files, &id).map(|()| restored)
        };
        let json =
            |shared: &SharedHistory| serde_json::to_string(&shared.view(&mut Cursor::default())).unwrap();
        assert_eq!(json(&restored().unwrap()), json(&live));

        // A torn end is passed over, and a missing file has nothing to tell.
        let text = std::fs::read_to_string(metrics).unwrap();
        std::fs::write(metrics, &text[..text.len() - 5]).unwrap();
        std::fs::remove_file(events).unwrap();
        let news = restored().unwrap().view(&mut Cursor::default()).news;
        assert_eq!((news.progress.step, news.epochs.map_or(0, |epochs| epochs.len())), (3, 0));
        // A line that does not end, as a crash leaves it, is passed over as well, and what is behind it is read.
        let zeros = "\0".repeat(3 * MAX_LINE_BYTES + 5);
        let last = text.lines().last().unwrap();
        std::fs::write(metrics, format!("{zeros}\n{last}\n{zeros}")).unwrap();
        let news = restored().unwrap().view(&mut Cursor::default()).news;
        assert_eq!(news.epochs.map_or(0, |epochs| epochs.len()), 1);

        // A file of another run, or of another shape, is not taken for this one's.
        std::fs::write(metrics, text.replacen("abab", "abac", 1)).unwrap();
        let other = restored().err().unwrap().to_string();
        assert!(
            other.contains("metrics.jsonl is of run abac") && other.contains("not of run abab"),
            "{other}"
        );
        std::fs::write(metrics, text.replacen("\"schema_version\":1", "\"schema_version\":9", 1)).unwrap();
        let newer = restored().err().unwrap().to_string();
        assert!(newer.contains("has schema version 9 and this program reads 1"), "{newer}");
    }
}
