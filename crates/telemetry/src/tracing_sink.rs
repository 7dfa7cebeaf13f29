//! Every record as one `tracing` event with named fields, for subscribers.
//!
//! Targets are `lockstep::step`, `lockstep::epoch` (both debug: the console and `metrics.jsonl` have them already) and
//! `lockstep::event` (info). Without a subscriber that wants them, a record costs one atomic load.

use lockstep_records::{EpochRecord, EventRecord, StepRecord};

use crate::Sink;

/// Emits records as `tracing` events.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingSink;

impl Sink for TracingSink {
    fn step(&mut self, record: &StepRecord) {
        tracing::debug!(
            target: "lockstep::step",
            step = record.step,
            epoch = record.epoch,
            loss = record.loss,
            accuracy = record.accuracy,
            examples = record.examples,
            seconds = record.seconds,
            examples_per_second = record.examples_per_second,
            send_seconds = record.send_seconds,
            compute_seconds_median = record.compute_seconds_median,
            compute_seconds_max = record.compute_seconds_max,
            wait_seconds = record.wait_seconds,
            reduce_seconds = record.reduce_seconds,
            update_seconds = record.update_seconds,
            bytes_sent = record.bytes_sent,
            bytes_received = record.bytes_received,
            workers = record.workers,
            "step"
        );
    }

    fn epoch(&mut self, record: &EpochRecord) {
        tracing::debug!(
            target: "lockstep::epoch",
            epoch = record.epoch,
            step = record.step,
            val_loss = record.val_loss,
            val_accuracy = record.val_accuracy,
            weights_digest = record.weights_digest,
            "epoch"
        );
    }

    fn event(&mut self, record: &EventRecord) {
        // The sentence names who and why; the other fields are in `events.jsonl`.
        if WORK_KINDS.contains(&&*record.kind) {
            tracing::debug!(target: "lockstep::event", step = record.step, "{}", record.reason);
        } else if ALARM_KINDS.contains(&&*record.kind) {
            tracing::error!(target: "lockstep::event", step = record.step, "{}", record.reason);
        } else {
            tracing::info!(target: "lockstep::event", step = record.step, "{}", record.reason);
        }
    }
}

/// Kinds of events that somebody should look into.
const ALARM_KINDS: [&str; 7] = [
    "contradicted",
    "copies_differ",
    "disk_behind",
    "disk_stalled",
    "log_failed",
    "not_saved",
    "records_lost",
];

/// Kinds of events about single pieces of work: a busy machine makes many of them, and none wants attention.
const WORK_KINDS: [&str; 5] = ["copied", "node_rejected", "reassigned", "revoked", "worker_contributes"];

#[cfg(test)]
mod tests {
    use std::{
        fmt::Debug,
        sync::{Arc, Mutex},
    };

    use lockstep_records::examples;
    use tracing::{Event, Metadata, Subscriber, field, span};

    use super::*;

    /// Keeps `target name=value ...` of every event.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    struct Line(String);

    impl field::Visit for Line {
        fn record_debug(&mut self, field: &field::Field, value: &dyn Debug) {
            self.0.push_str(&format!(" {field}={value:?}"));
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut line = Line(format!("{} {}", event.metadata().level(), event.metadata().target()));
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn every_record_is_one_event_with_named_fields() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            TracingSink.step(&examples::step());
            TracingSink.epoch(&EpochRecord { val_loss: None, ..examples::epoch() });
            TracingSink.event(&examples::event());
        });
        let lines = log.0.lock().unwrap();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("DEBUG lockstep::step "), "{}", lines[0]);
        for field in [" step=1", " examples=64", " seconds=0.004", " bytes_sent=531104", " workers=4"] {
            assert!(lines[0].contains(field), "{field} is not in {}", lines[0]);
        }
        assert!(lines[1].starts_with("DEBUG lockstep::epoch "), "{}", lines[1]);
        assert!(
            lines[1].contains(" weights_digest=\"1a2b") && !lines[1].contains("val_loss"),
            "{}",
            lines[1]
        );
        assert_eq!(lines[2], "INFO lockstep::event message=stream reset step=12");
    }
}
