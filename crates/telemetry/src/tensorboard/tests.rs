//! Tests of the event files, on disks of memory; whole runs are read back in the tests of the program.

use std::{
    io,
    sync::{Arc, Mutex},
};

use lockstep_records::{TensorNorms, examples};
use prost::Message;

use super::*;

const SESSION: Session =
    Session { term: 1, restored: None, began: 1000.0, earlier_seconds: 0.0, steps: 20_000 };

/// Keeps every write apart; fails all writes after the first `good`.
#[derive(Clone)]
struct Disk {
    writes: Arc<Mutex<Vec<Vec<u8>>>>,
    good: usize,
}

impl Disk {
    fn new(good: usize) -> Self {
        Self { writes: Arc::default(), good }
    }

    /// The events, each once its framing is checked: every write ends with a whole record.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for write in self.writes.lock().unwrap().iter() {
            let mut rest = &write[..];
            while !rest.is_empty() {
                let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
                events.push(Event::decode(&rest[12..12 + length]).unwrap());
                rest = &rest[16 + length..];
            }
        }
        events
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut writes = self.writes.lock().unwrap();
        if writes.len() == self.good {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        writes.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sink(train: &Disk, validation: &Disk, session: Session) -> TensorBoardSink<Disk> {
    TensorBoardSink::new(("train", train.clone()), ("validation", validation.clone()), session)
}

fn steps_of_summaries(disk: &Disk) -> Vec<i64> {
    let events = disk.events().into_iter();
    events.filter(|event| matches!(event.what, Some(What::Summary(_)))).map(|event| event.step).collect()
}

#[test]
fn a_file_begins_with_these_bytes() {
    let (train, validation) = (Disk::new(9), Disk::new(9));
    sink(&train, &validation, SESSION).flush().unwrap();
    // What TensorBoard's own writer makes of this event.
    let version = b"\x18\0\0\0\0\0\0\0\xa3\x7fK\"\x09\0\0\0\0\0@\x8f@\x1a\x0dbrain.Event:2s\xaekV";
    for disk in [train, validation] {
        assert_eq!(disk.writes.lock().unwrap().concat(), version);
    }
}

#[test]
fn a_long_run_has_every_so_many_th_step_as_it_is() {
    let (train, validation) = (Disk::new(usize::MAX), Disk::new(usize::MAX));
    let mut sink = sink(&train, &validation, SESSION);
    for step in 1..=20_000 {
        sink.step(&StepRecord { step, ..examples::step() });
    }
    sink.flush().unwrap();
    let steps = steps_of_summaries(&train);
    assert_eq!(steps[..4], [1, 4, 8, 12]);
    assert_eq!((steps.len(), steps.last()), (5001, Some(&20_000)));
    let bytes = train.writes.lock().unwrap().concat().len();
    assert!(bytes < 2_500_000, "{bytes} bytes");
    assert!(steps_of_summaries(&validation).is_empty());
}

#[test]
fn wall_times_are_those_of_the_records() {
    let (train, validation) = (Disk::new(usize::MAX), Disk::new(usize::MAX));
    let session =
        Session { earlier_seconds: 7.0, restored: Some(Restored { step: 10, validated: true }), ..SESSION };
    let mut sink = sink(&train, &validation, Session { steps: 100, ..session });
    sink.step(&StepRecord { step: 11, seconds: 0.5, ..examples::step() });
    sink.event(&EventRecord { seconds: 9.0, ..examples::event() });
    sink.step(&StepRecord { step: 12, seconds: 0.25, ..examples::step() });
    sink.event(&EventRecord { seconds: 1.0, ..examples::event() });
    sink.flush().unwrap();
    let times: Vec<(i64, f64)> = train.events().iter().map(|event| (event.step, event.wall_time)).collect();
    assert_eq!(times, [(0, 1007.0), (11, 1007.0), (11, 1007.5), (12, 1009.25)]);
}

#[test]
fn a_restart_is_marked_at_the_first_step_that_comes_again() {
    for (restored, train_mark, validation_mark) in [
        (Restored { step: 10, validated: true }, 11, 11),
        (Restored { step: 10, validated: false }, 11, 10),
        (Restored { step: 0, validated: true }, 1, 1),
    ] {
        let (train, validation) = (Disk::new(9), Disk::new(9));
        drop(sink(&train, &validation, Session { restored: Some(restored), ..SESSION }));
        for (disk, mark) in [(train, train_mark), (validation, validation_mark)] {
            let start = What::SessionLog(SessionLog { status: START });
            let events = disk.events();
            assert_eq!(events[1], Event { wall_time: 1000.0, step: mark, what: Some(start) });
        }
    }
}

#[test]
fn norms_and_pictures_get_to_their_files() {
    let (train, validation) = (Disk::new(9), Disk::new(9));
    let mut sink = sink(&train, &validation, SESSION);
    let tensors = vec![TensorNorms { name: "conv1.kernel", weights: 3.0, gradient: 0.5 }];
    sink.norms(&NormsRecord { step: 40, tensors });
    sink.picture(&PictureRecord { step: 41, width: 5, height: 6, png: vec![1, 2, 3] });
    drop(sink);
    let scalars = |pairs: &[(&str, f32)]| pairs.iter().map(|(tag, value)| scalar(tag, *value)).collect();
    let expected = scalars(&[
        ("weight_norm/total", 3.0),
        ("gradient_norm/total", 0.5),
        ("weight_norm/conv1.kernel", 3.0),
        ("gradient_norm/conv1.kernel", 0.5),
    ]);
    assert_eq!(train.events()[1].what, Some(What::Summary(Summary { values: expected })));
    let [_, picture] = &validation.events()[..] else { panic!("a version and a picture") };
    let Some(What::Summary(Summary { values })) = &picture.what else { panic!("{picture:?}") };
    let image = Image { height: 6, width: 5, colorspace: 3, encoded: vec![1, 2, 3] };
    assert_eq!((picture.step, &values[0].content), (41, &Some(Content::Image(image))));
}

#[test]
fn a_full_disk_switches_both_files_off_with_one_warning() {
    for (good_train, good_validation, culprit) in [(1, 9, "train"), (9, 1, "validation")] {
        let (train, validation) = (Disk::new(good_train), Disk::new(good_validation));
        let mut sink = sink(&train, &validation, SESSION);
        sink.flush().unwrap();
        sink.step(&examples::step());
        sink.epoch(&examples::epoch());
        let error = sink.flush().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("writing {culprit} failed, nothing more is written to it")),
            "{error}"
        );
        let written = |disk: &Disk| disk.writes.lock().unwrap().len();
        let before = (written(&train), written(&validation));
        for _ in 0..1000 {
            sink.step(&StepRecord { seconds: 2.0, ..examples::step() });
            sink.epoch(&examples::epoch());
            sink.flush().unwrap();
        }
        assert_eq!((written(&train), written(&validation)), before);
        assert!(sink.train.is_off() && sink.validation.is_off());
    }
}
