//! Tests of the sinks of JSON lines: on a disk of memory, and on files.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use super::*;
use crate::record::examples;

const HEADER: &str = r#"{"kind":"header","schema_version":1,"run_id":"0011"}"#;
const STEP: &str = concat!(
    r#"{"kind":"step","step":1,"epoch":1,"loss":2.25,"accuracy":0.125,"examples":64,"seconds":0.004,"#,
    r#""examples_per_second":16000.0,"send_seconds":0.0005,"compute_seconds_median":0.001,"#,
    r#""compute_seconds_max":0.0015,"wait_seconds":0.002,"reduce_seconds":0.00025,"update_seconds":0.00001,"#,
    r#""bytes_sent":531104,"bytes_received":132776,"workers":4}"#,
);

/// Keeps every write apart; fails all writes after the first `good`.
#[derive(Clone)]
struct Disk {
    writes: Arc<Mutex<Vec<String>>>,
    good: usize,
}

impl Disk {
    fn new(good: usize) -> Self {
        Self { writes: Arc::default(), good }
    }

    fn content(&self) -> String {
        self.writes.lock().unwrap().concat()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut writes = self.writes.lock().unwrap();
        if writes.len() == self.good {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        writes.push(String::from_utf8(bytes.to_vec()).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn metrics_are_exactly_these_lines() {
    let disk = Disk::new(usize::MAX);
    let mut sink = MetricsSink::new("metrics.jsonl", disk.clone(), "0011");
    sink.step(&examples::step());
    sink.event(&examples::event());
    sink.epoch(&examples::epoch());
    let digest = "1a2b3c4d5e6f7890".repeat(4);
    let epoch = format!(
        r#"{{"kind":"epoch","epoch":3,"step":2391,"val_loss":0.1123,"val_accuracy":0.967,"weights_digest":"{digest}"}}"#
    );
    assert_eq!(disk.content(), format!("{HEADER}\n{STEP}\n{epoch}\n"));
}

#[test]
fn events_are_exactly_these_lines_and_are_written_at_once() {
    let disk = Disk::new(usize::MAX);
    let mut sink = EventsSink::new("events.jsonl", disk.clone(), "0011");
    sink.step(&examples::step());
    sink.event(&examples::event());
    sink.event(&EventRecord { worker: None, ..examples::event() });
    let line = |worker| {
        format!(
            r#"{{"seconds":1.5,"step":12,"kind":"worker_lost","worker":{worker},"reason":"stream reset"}}"#
        )
    };
    let expected = format!("{HEADER}\n{}\n{}\n", line(r#""local-2""#), line("null"));
    assert_eq!(disk.content(), expected);
}

#[test]
fn what_is_not_finite_is_null() {
    let disk = Disk::new(usize::MAX);
    let mut sink = MetricsSink::new("metrics.jsonl", disk.clone(), "0011");
    sink.step(&StepRecord { loss: f32::NAN, examples_per_second: f64::INFINITY, ..examples::step() });
    sink.epoch(&EpochRecord { val_loss: Some(f32::NAN), val_accuracy: None, ..examples::epoch() });
    let content = disk.content();
    for part in [
        r#""loss":null,"#,
        r#""examples_per_second":null,"#,
        r#""val_loss":null,"#,
        r#""val_accuracy":null,"#,
    ] {
        assert!(content.contains(part), "{part} is not in {content}");
    }
}

#[test]
fn floats_keep_their_bits() {
    for bits in [0x3e99_999a, 0x0000_0001, 0x7f7f_ffff, 0x3f80_0001] {
        let loss = f32::from_bits(bits);
        let line = serde_json::to_string(&StepRecord { loss, ..examples::step() }).unwrap();
        let shown = line.split(r#""loss":"#).nth(1).unwrap().split(',').next().unwrap();
        assert_eq!(shown.parse::<f32>().unwrap().to_bits(), bits, "{shown}");
    }
}

#[test]
fn lines_leave_once_a_second_of_recorded_time_and_always_whole() {
    let disk = Disk::new(usize::MAX);
    let mut sink = MetricsSink::new("metrics.jsonl", disk.clone(), "0011");
    let slow = StepRecord { seconds: 0.4, ..examples::step() };
    sink.step(&slow);
    sink.step(&slow);
    assert_eq!(disk.content(), "", "nothing is due yet");
    sink.step(&slow);
    assert_eq!(disk.content().lines().count(), 4);
    sink.step(&slow);
    assert_eq!(disk.content().lines().count(), 4);
    sink.flush().unwrap();
    assert_eq!(disk.content().lines().count(), 5);
    let fast = StepRecord { seconds: 0.0, ..examples::step() };
    for _ in 0..1000 {
        sink.step(&fast);
    }
    drop(sink);
    assert_eq!(disk.content().lines().count(), 1005);
    let writes = disk.writes.lock().unwrap();
    assert!(writes.len() > 5 && writes.iter().all(|write| write.ends_with("}\n")));
}

#[test]
fn the_line_buffer_is_reused() {
    let mut sink = MetricsSink::new("metrics.jsonl", io::sink(), "0011");
    let capacity = sink.lines.pending.capacity();
    for _ in 0..1000 {
        sink.step(&examples::step());
    }
    assert_eq!(sink.lines.pending.capacity(), capacity);
}

#[test]
fn a_failing_disk_turns_the_sink_off_and_is_reported_once() {
    let disk = Disk::new(1);
    let mut sink = MetricsSink::new("metrics.jsonl", disk.clone(), "0011");
    sink.flush().unwrap();
    sink.epoch(&examples::epoch());
    for _ in 0..1000 {
        sink.step(&examples::step());
    }
    assert!(sink.lines.pending.is_empty(), "a sink that is off gathers no lines");
    let message = sink.flush().unwrap_err().to_string();
    assert!(message.starts_with("writing metrics.jsonl failed"), "{message}");
    assert!(message.contains("training goes on"), "{message}");
    sink.flush().unwrap();
    sink.step(&examples::step());
    sink.flush().unwrap();
    assert_eq!(disk.content(), format!("{HEADER}\n"));
}

fn step(step: u64) -> StepRecord {
    StepRecord { step, seconds: 2.0, ..examples::step() }
}

fn epoch(step: u64) -> EpochRecord {
    EpochRecord { step, ..examples::epoch() }
}

#[test]
fn resumed_metrics_have_each_step_and_epoch_once() {
    let directory = tempfile::tempdir().unwrap();
    let (undisturbed, resumed) = (directory.path().join("undisturbed"), directory.path().join("resumed"));
    let mut sink = MetricsSink::create(&undisturbed, "0011").unwrap();
    for number in 1..=6 {
        sink.step(&step(number));
        if number % 2 == 0 {
            sink.epoch(&epoch(number));
        }
    }
    drop(sink);

    let mut sink = MetricsSink::create(&resumed, "0011").unwrap();
    sink.step(&step(1));
    sink.step(&step(2));
    sink.epoch(&epoch(2));
    sink.step(&step(3));
    drop(sink);
    let (mut sink, _) =
        MetricsSink::resume(&resumed, "0011", Restored { step: 2, validated: false }).unwrap();
    sink.epoch(&epoch(2));
    (3..=5).for_each(|number| sink.step(&step(number)));
    drop(sink);
    let (mut sink, _) =
        MetricsSink::resume(&resumed, "0011", Restored { step: 4, validated: false }).unwrap();
    sink.epoch(&epoch(4));
    (5..=6).for_each(|number| sink.step(&step(number)));
    sink.epoch(&epoch(6));
    drop(sink);
    assert_eq!(fs::read_to_string(&resumed).unwrap(), fs::read_to_string(&undisturbed).unwrap());
}

#[test]
fn resumed_events_keep_those_up_to_the_restored_step() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let mut sink = EventsSink::create(&path, "0011").unwrap();
    for step in [0, 3, 3, 4] {
        // An event is no epoch, whatever it is called.
        sink.event(&EventRecord {
            step,
            kind: if step == 0 { "joined" } else { "lost" },
            ..examples::event()
        });
    }
    drop(sink);
    let mut sink = EventsSink::resume(&path, "0011", Restored { step: 3, validated: false }).unwrap();
    sink.event(&EventRecord { step: 3, kind: "resumed", ..examples::event() });
    let content = fs::read_to_string(&path).unwrap();
    let kinds: Vec<_> = content.lines().map(|line| line.split(r#""kind":""#).nth(1).unwrap()).collect();
    let kinds: Vec<_> = kinds.iter().map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(kinds, ["header", "joined", "lost", "lost", "resumed"]);
}

#[test]
fn resuming_without_a_file_creates_it() {
    let directory = tempfile::tempdir().unwrap();
    let restored = Restored { step: 0, validated: false };
    let (metrics, events) = (directory.path().join("m"), directory.path().join("e"));
    drop(MetricsSink::resume(&metrics, "0011", restored).unwrap());
    drop(EventsSink::resume(&events, "0011", restored).unwrap());
    for path in [metrics, events] {
        assert_eq!(fs::read_to_string(path).unwrap(), format!("{HEADER}\n"));
    }
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.jsonl");
    drop(MetricsSink::create(&path, "0011").unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{HEADER}\n"));
    for error in
        [MetricsSink::create(&path, "2233").err().unwrap(), EventsSink::create(&path, "2233").err().unwrap()]
    {
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{HEADER}\n"));
}
