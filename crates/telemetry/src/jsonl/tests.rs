//! Tests of the sinks of JSON lines: on a disk of memory, and on files.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use lockstep_records::examples;

use super::*;

const HEADER: &str = r#"{"kind":"header","schema_version":1,"run_id":"0011"}"#;
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

fn json(record: &impl Serialize) -> String {
    serde_json::to_string(record).unwrap()
}

#[test]
fn metrics_are_a_header_and_a_line_per_step_and_epoch() {
    let disk = Disk::new(usize::MAX);
    let mut sink = MetricsSink::new("metrics.jsonl", disk.clone(), "0011");
    sink.step(&examples::step());
    sink.event(&examples::event());
    sink.epoch(&examples::epoch());
    let (step, epoch) = (json(&examples::step()), json(&examples::epoch()));
    assert_eq!(disk.content(), format!("{HEADER}\n{step}\n{epoch}\n"));
}

#[test]
fn events_are_a_header_and_a_line_each_which_is_written_at_once() {
    let disk = Disk::new(usize::MAX);
    let mut sink = EventsSink::new("events.jsonl", disk.clone(), "0011");
    sink.step(&examples::step());
    sink.event(&examples::event());
    let nobody = EventRecord { worker: None, ..examples::event() };
    sink.event(&nobody);
    let expected = format!("{HEADER}\n{}\n{}\n", json(&examples::event()), json(&nobody));
    assert_eq!(disk.content(), expected);
    assert!(expected.contains(r#""worker":null"#));
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
            kind: if step == 0 { "joined" } else { "lost" }.into(),
            ..examples::event()
        });
    }
    drop(sink);
    let mut sink = EventsSink::resume(&path, "0011", Restored { step: 3, validated: false }).unwrap();
    sink.event(&EventRecord { step: 3, kind: "resumed".into(), ..examples::event() });
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
