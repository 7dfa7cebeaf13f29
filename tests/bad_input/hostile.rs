//! Members that send what no worker sends: each is dropped or ignored, and the run ends with the undisturbed bits.

use lockstep_proto::{Assignment, FromWorker, NodeResult, RunId, WorkerMessage};

use super::member::{End, Member, changed, converse, hello};
use super::{Waiting, assert_parts, only_reason};

/// One honest worker, and one that sends the lies made of its first assignment and the right answer to that.
/// Asserts that it is told every part, that the event of its end has them, too, and that the run ends undisturbed.
fn assert_dropped<M: Into<WorkerMessage>>(
    lies: impl FnOnce(Assignment, Vec<NodeResult>) -> Vec<M>,
    parts: &[&str],
) {
    let mut run = Waiting::for_workers(2);
    let honest = run.honest_worker();
    converse(async {
        let mut member = Member::join(&run.url, FromWorker::Hello(hello())).await.unwrap();
        let (assignment, answer) = member.first_work().await;
        for lie in lies(assignment, answer) {
            member.send(lie).await;
        }
        let End::Status(status) = member.end().await else { panic!("it was not told why") };
        assert_parts(status.message(), parts);
    });
    let events = run.ends_undisturbed();
    let reason = only_reason(&events, "worker_dropped");
    assert_parts(&reason, parts);
    assert_parts(&reason, &["worker 2 (", ") is dropped: "]);
    honest.finish().done();
}

/// The right answer with the first node's value changed.
fn with_change(
    change: impl FnOnce(&mut lockstep_proto::NodeValue),
) -> impl FnOnce(Assignment, Vec<NodeResult>) -> Vec<FromWorker> {
    |_, mut answer| {
        let first = changed(answer.remove(0), change);
        [first].into_iter().chain(answer).map(FromWorker::Node).collect()
    }
}

#[test]
fn a_message_over_the_limit() {
    let parts = ["message length too large", "1048", "262144"];
    assert_dropped(with_change(|value| value.gradient = vec![0; 1 << 20].into()), &parts);
}

#[test]
fn gradients_of_a_wrong_length() {
    for length in [0, 8, 132_772, 132_780] {
        let expected = format!("NodeResult.gradient has {length} bytes instead of 132776");
        assert_dropped(with_change(|value| value.gradient = vec![0; length].into()), &[&expected]);
    }
}

#[test]
fn more_correct_predictions_than_examples() {
    assert_dropped(with_change(|value| value.correct = value.examples + 1), &["NodeResult.correct is"]);
}

#[test]
fn counts_of_examples_that_no_node_has() {
    for count in [1, 17, u32::MAX] {
        let parts = [&format!("{count} examples instead of 16")[..], "step 1"];
        assert_dropped(
            with_change(|value| {
                value.examples = count;
                value.correct = 0;
            }),
            &parts,
        );
    }
    let absent = |_, answer: Vec<NodeResult>| {
        answer.into_iter().map(|node| FromWorker::Node(NodeResult { value: None, ..node })).collect()
    };
    assert_dropped(absent, &["0 examples instead of 16"]);
}

#[test]
fn nodes_that_no_task_has() {
    for (level, index) in [(40, 0), (u32::MAX, u32::MAX), (0, u32::MAX), (0, 16), (3, 2)] {
        let nowhere = |_, mut answer: Vec<NodeResult>| {
            vec![FromWorker::Node(NodeResult { level, index, ..answer.remove(0) })]
        };
        assert_dropped(nowhere, &[&format!("step 1 has no node ({level},{index})")]);
    }
    let never =
        |_, mut answer: Vec<NodeResult>| vec![FromWorker::Node(NodeResult { step: 0, ..answer.remove(0) })];
    assert_dropped(never, &["step 0 has no node (3,1)"]);
}

#[test]
fn messages_that_have_no_place() {
    assert_dropped(|_, _| vec![FromWorker::Hello(hello())], &["a second Hello"]);
    assert_dropped(|_, _| vec![WorkerMessage { body: None }], &["without a body"]);
}

#[test]
fn gradients_and_losses_that_are_not_finite() {
    let parts = ["a result of worker 2 (", ") for step 1 differs from its recomputation"];
    let nan = f32::NAN.to_le_bytes().repeat(33_194);
    assert_dropped(with_change(|value| value.gradient = nan.into()), &parts);
    let mut infinite = vec![0; 132_776];
    infinite[132_772..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert_dropped(with_change(|value| value.gradient = infinite.into()), &parts);
    assert_dropped(with_change(|value| value.loss = f32::NAN), &parts);
}

/// Two answers to the same node, the first of several, with other bits; whichever is wrong, its sender is dropped.
fn assert_second_answer_convicts(
    answers: impl FnOnce(NodeResult, NodeResult) -> [NodeResult; 2],
    rolled_back: usize,
) {
    let mut run = Waiting::for_workers(3);
    let honest = [run.honest_worker(), run.honest_worker()];
    converse(async {
        let mut member = Member::join(&run.url, FromWorker::Hello(hello())).await.unwrap();
        let (_, answer) = member.first_work().await;
        assert!(answer.len() > 1, "the step cannot end before the second answer");
        let right = answer[0].clone();
        // The lowest bit of one number.
        let wrong = changed(right.clone(), |value| {
            let mut bytes = value.gradient.to_vec();
            bytes[4000] ^= 1;
            value.gradient = bytes.into();
        });
        for node in answers(right, wrong) {
            member.send_node(node).await;
        }
        let End::Status(status) = member.end().await else { panic!("it was not told why") };
        assert_parts(status.message(), &["differs from its recomputation"]);
    });
    let events = run.ends_undisturbed();
    let number = |kind: &str| events.iter().filter(|event| event.contains(kind)).count();
    assert_eq!((number("roll_back"), number("worker_dropped")), (rolled_back, 1), "{events:#?}");
    let differ = only_reason(&events, "copies_differ");
    assert_parts(
        &differ,
        &["a result of worker", "for step 1 differs from what worker", "one of them computes wrongly"],
    );
    honest.into_iter().for_each(|worker| drop(worker.finish().done()));
}

#[test]
fn a_second_answer_with_one_other_bit_convicts_whoever_is_wrong() {
    assert_second_answer_convicts(|right, wrong| [right, wrong], 0);
    assert_second_answer_convicts(|right, wrong| [wrong, right], 1);
}

#[test]
fn nodes_that_belong_elsewhere_are_ignored() {
    let mut run = Waiting::for_workers(2);
    let honest = run.honest_worker();
    converse(async {
        let mut member = Member::join(&run.url, FromWorker::Hello(hello())).await.unwrap();
        let (assignment, answer) = member.first_work().await;
        let right = &answer[0];
        // The shares of the next step are out already, and nobody can answer those before this step is over.
        let foreign = assignment.assignment_id + 1;
        let (mut other_run, mut other_term) = (right.clone(), right.clone());
        other_run.fence.run_id = RunId([7; 16]);
        other_term.fence.term += 1;
        for node in [
            other_run,
            other_term,
            NodeResult { assignment_id: foreign, ..right.clone() },
            NodeResult { assignment_id: u64::MAX, ..right.clone() },
            NodeResult { step: 2, ..right.clone() },
            NodeResult { step: u64::MAX, ..right.clone() },
        ] {
            member.send_node(node).await;
        }
        for node in answer {
            member.send_node(node).await;
        }
        let End::Finish(reason) = member.work_honestly().await else { panic!("it was a member to the end") };
        assert_eq!(reason, "all tasks are committed");
    });
    let events = run.ends_undisturbed();
    assert!(!events.iter().any(|event| event.contains("worker_dropped")), "{events:#?}");
    let rejected: Vec<&String> = events.iter().filter(|event| event.contains("node_rejected")).collect();
    let expected = [
        "of run 07070707070707070707070707070707, term 1",
        "term 2",
        "sent a result for a step that cannot have begun yet",
        "was complete already or had been given to others",
        "for another step than its work is of, step 1",
        "for another step than its work is of, step 1",
    ];
    assert_eq!(rejected.len(), expected.len(), "{rejected:#?}");
    for (event, part) in rejected.iter().zip(expected) {
        assert_parts(event, &[part, "\"worker\":\"hostile\""]);
    }
    honest.finish().done();
}
