//! What an earlier process of a run has recorded, put into the history of the page.

use std::io;

use lockstep_proto::RunId;
use lockstep_records::{Record, each_record};
use lockstep_telemetry::Sink;

use super::history::Shared;
use crate::run_directory::RunDirectory;

/// Puts what `metrics.jsonl` and `events.jsonl` of the run `run_id` have into the history.
///
/// # Errors
///
/// If a file that is there cannot be read, is of another run, or has another shape.
pub fn restore(shared: &mut Shared, directory: &RunDirectory, run_id: RunId) -> io::Result<()> {
    let files = [directory.metrics(), directory.events()];
    each_record(&files, &run_id.to_string(), |record| shared.take(record))
}

impl Shared {
    /// Takes in what a file has recorded.
    pub fn take(&mut self, record: Record) {
        match record {
            Record::Step(record) => self.step(&record),
            Record::Epoch(record) => self.epoch(&record),
            Record::Event(record) => self.add_event(record),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_records::{EpochRecord, EventRecord, MAX_LINE_BYTES};
    use lockstep_telemetry::{EventsSink, MetricsSink};

    use super::super::curve::tests::step;
    use super::super::history::Cursor;
    use super::*;

    #[test]
    fn what_the_sinks_have_written_is_shown_like_what_they_were_told() {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(&folder.path().join("run")).unwrap();
        let [metrics, events] = [directory.metrics(), directory.events()];
        let (run, id) = (RunId([0xab; 16]), "ab".repeat(16));
        let live = Shared::default();
        let mut sinks: Vec<Box<dyn Sink>> = vec![
            Box::new(MetricsSink::create(&metrics, &id).unwrap()),
            Box::new(EventsSink::create(&events, &id).unwrap()),
            Box::new(live.clone()),
        ];
        let epoch = EpochRecord {
            epoch: 1,
            step: 3,
            val_loss: Some(0.5),
            val_accuracy: None,
            weights_digest: "ab".repeat(32),
        };
        let event = EventRecord {
            seconds: 0.5,
            step: 2,
            kind: "copied".into(),
            worker: None,
            reason: "late".to_string(),
        };
        for sink in &mut sinks {
            (1..=3).for_each(|number| sink.step(&step(number, 1.0 / number as f32)));
            sink.epoch(&epoch);
            sink.event(&event);
            sink.flush().unwrap();
        }
        let json = |shared: &Shared| serde_json::to_string(&shared.view(&mut Cursor::default())).unwrap();
        let mut restored = Shared::default();
        restore(&mut restored, &directory, run).unwrap();
        assert_eq!(json(&restored), json(&live));

        // A torn end is passed over, and a missing file has nothing to tell.
        let text = std::fs::read_to_string(&metrics).unwrap();
        std::fs::write(&metrics, &text[..text.len() - 5]).unwrap();
        std::fs::remove_file(&events).unwrap();
        let mut torn = Shared::default();
        restore(&mut torn, &directory, run).unwrap();
        let view = torn.view(&mut Cursor::default());
        assert_eq!((view.progress.step, view.epochs.map_or(0, |epochs| epochs.len())), (3, 0));
        // A line that does not end, as a crash leaves it, is passed over as well, and what is behind it is read.
        let zeros = "\0".repeat(3 * MAX_LINE_BYTES + 5);
        let last = text.lines().rfind(|line| line.contains("\"epoch\":1,\"step\"")).unwrap();
        std::fs::write(&metrics, format!("{zeros}\n{last}\n{zeros}")).unwrap();
        let mut holed = Shared::default();
        restore(&mut holed, &directory, run).unwrap();
        assert_eq!(holed.view(&mut Cursor::default()).epochs.map_or(0, |epochs| epochs.len()), 1);

        // A file of another run, or of another shape, is not taken for this one's.
        let refusal = |text: String| {
            std::fs::write(&metrics, text).unwrap();
            restore(&mut Shared::default(), &directory, run).unwrap_err().to_string()
        };
        let other = refusal(text.replacen("abab", "abac", 1));
        assert!(
            other.contains("metrics.jsonl is of run abac") && other.contains("not of run abab"),
            "{other}"
        );
        let newer = refusal(text.replacen("\"schema_version\":1", "\"schema_version\":9", 1));
        assert!(newer.contains("has schema version 9 and this program reads 1"), "{newer}");
    }
}
