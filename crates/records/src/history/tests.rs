//! Tests of the history: what a reader is told when, and that nothing grows without a bound.

use std::borrow::Cow;

use super::curve::tests::step;
use super::*;

fn event(step: u64) -> EventRecord {
    EventRecord { seconds: 1.0, step, kind: "copied".into(), worker: None, reason: format!("event {step}") }
}

fn epoch(epoch: u32) -> EpochRecord {
    EpochRecord { epoch, step: 1, val_loss: None, val_accuracy: None, weights_digest: String::new() }
}

#[test]
fn a_reader_is_told_what_is_new_and_a_late_one_everything() {
    let mut history = RunHistory::default();
    let mut cursor = Cursor::default();
    let first = history.news(&mut cursor);
    assert!(first.epochs.is_none() && first.events.is_empty());
    (1..=4).for_each(|number| history.step(&step(number, 2.0)));
    history.event(&event(1));
    history.epoch(&epoch(1));
    let second = history.news(&mut cursor);
    assert_eq!(second.curve.unwrap().points.len(), 4);
    assert_eq!((second.events.len(), second.epochs.unwrap().len()), (1, 1));
    assert_eq!(second.progress.step, 4);
    let split = second.progress.split.unwrap();
    for (share, expected) in split.iter().zip([0.1, 0.5, 0.2, 0.1, 0.1]) {
        assert!((share - expected).abs() < 1e-9, "{split:?}");
    }
    let third = history.news(&mut cursor);
    assert!(third.curve.is_none() && third.epochs.is_none() && third.events.is_empty() && !third.is_any());
    let late = history.news(&mut Cursor::default());
    assert!(late.curve.unwrap().replace && late.events.len() == 1);
}

#[test]
fn a_run_waits_until_a_worker_comes() {
    let mut history = RunHistory::default();
    let mut waits = |kind| {
        history.event(&EventRecord { kind: Cow::Borrowed(kind), ..event(1) });
        history.news(&mut Cursor::default()).progress.waiting
    };
    let told = ["worker_dropped", "waiting", "process_ended", "worker_joined"].map(&mut waits);
    assert_eq!(told, [false, true, true, false]);
    assert!(waits("waiting"));
    history.step(&step(1, 2.0));
    assert!(!history.news(&mut Cursor::default()).progress.waiting);
}

#[test]
fn a_run_that_is_over_is_told_by_its_mean_and_not_by_its_last_moment() {
    let mut history = RunHistory::default();
    let progress = |history: &RunHistory| history.news(&mut Cursor::default()).progress;
    // A run of a moment has nothing but its mean.
    (1..=2).for_each(|number| history.step(&step(number, 2.0)));
    assert_eq!((progress(&history).examples_per_second, progress(&history).split), (None, None));
    history.end();
    assert_eq!(progress(&history).examples_per_second, Some(640.0));

    // 10 steps of 0.1 s, and then 2 of 1 s of which all is waiting.
    let mut history = RunHistory::default();
    (1..=10).for_each(|number| history.step(&step(number, 2.0)));
    for number in 11..=12 {
        let idle =
            StepRecord { send_seconds: 0.0, wait_seconds: 1.0, reduce_seconds: 0.0, ..step(number, 2.0) };
        history.step(&StepRecord { seconds: 1.0, update_seconds: 0.0, bytes_sent: 70, ..idle });
    }
    let last = progress(&history);
    assert_eq!((last.examples_per_second, last.bytes), (Some(64.0), Some([70.0, 20.0])));
    history.end();
    let mean = progress(&history);
    assert!((mean.examples_per_second.unwrap() - 12.0 * 64.0 / 3.0).abs() < 1e-9, "{mean:?}");
    assert!((mean.split.unwrap()[1] - 2.5 / 3.0).abs() < 1e-9, "{mean:?}");
    assert_eq!(mean.bytes, Some([20.0, 20.0]));
}

#[test]
fn a_line_that_stays_outlives_the_events_and_is_told_to_a_late_page() {
    let mut history = RunHistory::default();
    let mut cursor = Cursor::default();
    let sentence = "steps are not recorded".to_string();
    history.event(&EventRecord { kind: "log_failed".into(), reason: sentence.clone(), ..event(1) });
    assert_eq!(history.news(&mut cursor).notices.unwrap()[0].sentence, sentence);
    (0..2 * MAX_EVENTS).for_each(|step| history.event(&event(step as u64)));
    let view = history.news(&mut cursor);
    assert!(view.notices.is_none() && !view.events.is_empty());
    let late = history.news(&mut Cursor::default());
    assert!(late.events.iter().all(|event| event.kind != "log_failed"));
    assert_eq!(late.notices.unwrap()[0].sentence, sentence);
}

#[test]
fn nothing_grows_without_a_bound() {
    let mut history = RunHistory::default();
    let mut cursor = Cursor::default();
    for number in 0..5000 {
        history.event(&event(number));
        history.epoch(&epoch(number as u32));
    }
    let view = history.news(&mut cursor);
    assert_eq!(view.events.len(), MAX_EVENTS);
    assert_eq!(view.events.last().unwrap().reason, "event 4999");
    let epochs = view.epochs.unwrap();
    assert!(epochs.len() <= MAX_EPOCHS);
    assert_eq!(epochs.last().unwrap().epoch, 4999);
}
