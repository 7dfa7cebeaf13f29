//! Whole workers against a coordinator that says what a test has it say.

use std::time::Duration;

use lockstep_proto::{
    Assignment, Fence, Finish, FromWorker, NodeResult, Revoke, RunId, ToWorker, Weights, Welcome,
};
use lockstep_reduction::TaskKind;
use tonic::Status;

use crate::fake_coordinator::{FakeCoordinator, Peer, welcome};
use crate::test_messages::{FENCE, assignment, long_assignment, weights};

fn term(term: u64) -> Fence {
    Fence { term, ..FENCE }
}

impl Peer {
    async fn finish(&self, fence: Fence) {
        self.say(ToWorker::Finish(Finish { fence, reason: "all is done".to_string() })).await;
    }

    async fn assign(&self, assignment: Assignment) {
        self.say(ToWorker::Assignment(assignment)).await;
    }

    /// The next node; heartbeats are passed over and counted.
    async fn node(&mut self) -> (NodeResult, u32) {
        let mut heartbeats = 0;
        loop {
            match self.hear().await.expect("the worker goes on") {
                FromWorker::Node(node) => return (node, heartbeats),
                FromWorker::Heartbeat(heartbeat) => {
                    assert_eq!(heartbeat.fence, FENCE);
                    heartbeats += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits for the end of the worker's side of the stream, which brings no node.
    async fn left(mut self) {
        while let Some(message) = self.hear().await {
            assert!(matches!(message, FromWorker::Heartbeat(_)), "{message:?}");
        }
    }
}

#[tokio::test]
async fn a_worker_whose_stream_breaks_joins_again_and_computes_on() {
    let mut coordinator = FakeCoordinator::start().await;
    let worker = coordinator.worker(|_| {});
    let peer = coordinator.next().await;
    assert_eq!(peer.hello.known, None);
    peer.refuse(Status::unavailable("the run is over")).await;
    // Not welcomed yet: it knows of no term.
    let peer = coordinator.next_member(welcome(FENCE)).await;
    assert_eq!(peer.hello.known, None);
    peer.say(ToWorker::Weights(weights(0))).await;
    drop(peer);
    let peer = coordinator.next_member(welcome(FENCE)).await;
    assert_eq!(peer.hello.known, Some(FENCE));
    peer.refuse(Status::aborted("dropped for silence")).await;
    let mut peer = coordinator.next_member(welcome(FENCE)).await;
    // Weights of an earlier stream do not count: the assignment waits for those of this one.
    peer.assign(assignment(7, TaskKind::Train, 1, 0..8)).await;
    peer.say(ToWorker::Weights(weights(0))).await;
    assert_eq!(peer.node().await.0.assignment_id, 7);
    peer.finish(FENCE).await;
    assert_eq!(worker.end().await.unwrap(), "all is done");
}

#[tokio::test]
async fn a_local_worker_joins_again_too() {
    let mut coordinator = FakeCoordinator::start().await;
    let worker = coordinator.worker(|config| config.local = true);
    drop(coordinator.next_member(welcome(FENCE)).await);
    coordinator.next_member(welcome(FENCE)).await.finish(FENCE).await;
    assert_eq!(worker.end().await.unwrap(), "all is done");
}

#[tokio::test]
async fn a_coordinator_of_a_lower_term_is_left() {
    let mut coordinator = FakeCoordinator::start().await;
    let worker = coordinator.worker(|_| {});
    drop(coordinator.next_member(welcome(term(3))).await);
    let replaced = coordinator.next_member(welcome(term(2))).await;
    assert_eq!(replaced.hello.known, Some(term(3)));
    replaced.assign(Assignment { fence: term(2), ..assignment(1, TaskKind::Train, 1, 0..8) }).await;
    replaced.say(ToWorker::Weights(Weights { fence: term(2), ..weights(0) })).await;
    replaced.left().await;
    // The same term again, a higher one, and any term of another run are welcome.
    let other_run = Fence { run_id: RunId([9; 16]), term: 1 };
    for (fence, known) in [(term(3), term(3)), (term(5), term(3)), (other_run, term(5))] {
        let peer = coordinator.next_member(welcome(fence)).await;
        assert_eq!(peer.hello.known, Some(known));
    }
    let peer = coordinator.next_member(welcome(other_run)).await;
    peer.finish(other_run).await;
    assert_eq!(worker.end().await.unwrap(), "all is done");
}

#[tokio::test]
async fn revoked_and_outdated_work_is_not_computed() {
    let mut coordinator = FakeCoordinator::start().await;
    let worker = coordinator.worker(|_| {});
    let mut peer = coordinator.next_member(welcome(FENCE)).await;
    peer.assign(assignment(1, TaskKind::Train, 1, 0..8)).await;
    peer.assign(assignment(2, TaskKind::Train, 1, 0..8)).await;
    peer.say(ToWorker::Revoke(Revoke { fence: FENCE, assignment_id: 1 })).await;
    peer.say(ToWorker::Revoke(Revoke { fence: FENCE, assignment_id: 1000 })).await;
    peer.say(ToWorker::Weights(weights(0))).await;
    assert_eq!(peer.node().await.0.assignment_id, 2);
    peer.say(ToWorker::Weights(weights(5))).await;
    peer.assign(assignment(3, TaskKind::Train, 5, 0..8)).await;
    peer.assign(assignment(4, TaskKind::Train, 6, 0..8)).await;
    assert_eq!(peer.node().await.0.assignment_id, 4);
    peer.finish(FENCE).await;
    assert_eq!(worker.end().await.unwrap(), "all is done");
}

#[tokio::test]
async fn messages_of_another_term_are_ignored() {
    let mut coordinator = FakeCoordinator::start().await;
    let worker = coordinator.worker(|_| {});
    let mut peer = coordinator.next_member(welcome(FENCE)).await;
    peer.assign(assignment(1, TaskKind::Train, 1, 0..8)).await;
    peer.say(ToWorker::Revoke(Revoke { fence: term(9), assignment_id: 1 })).await;
    peer.say(ToWorker::Finish(Finish { fence: term(9), reason: "a lie".to_string() })).await;
    peer.say(ToWorker::Weights(weights(0))).await;
    assert_eq!(peer.node().await.0.assignment_id, 1);
    peer.finish(FENCE).await;
    assert_eq!(worker.end().await.unwrap(), "all is done");
}

#[tokio::test]
async fn a_busy_worker_gives_signs_of_life() {
    const HEARTBEAT: Duration = Duration::from_millis(1);
    let mut coordinator = FakeCoordinator::start().await;
    let worker = coordinator.worker(|_| {});
    let mut peer = coordinator.next_member(Welcome { heartbeat: HEARTBEAT, ..welcome(FENCE) }).await;
    peer.say(ToWorker::Weights(weights(0))).await;
    // One leaf: the computing thread does nothing else until it is done, for a tenth of a second or more.
    let examples = if cfg!(debug_assertions) { 50 } else { 3000 };
    peer.assign(long_assignment(1, 1, examples)).await;
    let (node, heartbeats) = peer.node().await;
    let most = Duration::from_nanos(node.compute_nanoseconds).as_millis() / HEARTBEAT.as_millis();
    assert!(most > 20, "the leaf took {} ns", node.compute_nanoseconds);
    // A busy machine delays some, and those are left out; one that is silent while it computes gives one before.
    assert!(heartbeats > 1, "{heartbeats} heartbeats of {most}");
    peer.finish(FENCE).await;
    assert_eq!(worker.end().await.unwrap(), "all is done");
}

#[tokio::test]
async fn a_silent_coordinator_is_left_and_tried_again() {
    let mut coordinator = FakeCoordinator::start().await;
    let worker = coordinator.worker(|_| {});
    let silent = Welcome { silence: Some(Duration::from_millis(50)), ..welcome(FENCE) };
    let silent = coordinator.next_member(silent).await;
    let peer = coordinator.next_member(welcome(FENCE)).await;
    silent.left().await;
    peer.finish(FENCE).await;
    assert_eq!(worker.end().await.unwrap(), "all is done");
}

#[tokio::test]
async fn a_stuck_stream_holds_up_nothing_of_the_next() {
    let mut coordinator = FakeCoordinator::start().await;
    let worker = coordinator.worker(|_| {});
    let silence = Some(Duration::from_secs(1));
    let stuck = coordinator.next_member(Welcome { silence, ..welcome(FENCE) }).await;
    stuck.say(ToWorker::Weights(weights(0))).await;
    // Nobody reads: gradients fill the connection, and then nodes without examples the queue before it.
    for id in 0..10 {
        stuck.assign(assignment(id, TaskKind::Train, 1, 0..1)).await;
    }
    for assignment_id in 10..14 {
        let leaf_examples = vec![0; (1 << 16) - 2];
        let nothing = Assignment { assignment_id, leaf_examples, ..assignment(0, TaskKind::Train, 1, 1..1) };
        stuck.assign(nothing).await;
    }
    let mut peer = coordinator.next_member(welcome(FENCE)).await;
    peer.say(ToWorker::Weights(weights(0))).await;
    peer.assign(assignment(99, TaskKind::Train, 1, 0..8)).await;
    assert_eq!(peer.node().await.0.assignment_id, 99);
    peer.finish(FENCE).await;
    assert_eq!(worker.end().await.unwrap(), "all is done");
}

#[tokio::test]
async fn a_local_coordinator_may_be_silent() {
    let mut coordinator = FakeCoordinator::start().await;
    let worker = coordinator.worker(|config| config.local = true);
    let brief = Duration::from_millis(10);
    let mut peer =
        coordinator.next_member(Welcome { heartbeat: brief, silence: Some(brief), ..welcome(FENCE) }).await;
    for _ in 0..10 {
        assert!(matches!(peer.hear().await, Some(FromWorker::Heartbeat(_))), "it stays");
    }
    peer.finish(FENCE).await;
    assert_eq!(worker.end().await.unwrap(), "all is done");
}

#[tokio::test]
async fn damaged_weights_cost_the_stream_and_not_the_worker() {
    let mut coordinator = FakeCoordinator::start().await;
    let worker = coordinator.worker(|_| {});
    let peer = coordinator.next_member(welcome(FENCE)).await;
    peer.say(ToWorker::Weights(Weights { crc32c: 1, ..weights(0) })).await;
    peer.assign(assignment(1, TaskKind::Train, 1, 0..8)).await;
    peer.left().await;
    let mut peer = coordinator.next_member(welcome(FENCE)).await;
    peer.say(ToWorker::Weights(weights(0))).await;
    peer.assign(assignment(2, TaskKind::Train, 1, 0..8)).await;
    assert_eq!(peer.node().await.0.assignment_id, 2);
    peer.finish(FENCE).await;
    assert_eq!(worker.end().await.unwrap(), "all is done");
}

#[tokio::test]
async fn a_refusal_ends_the_worker_at_whatever_time_it_comes() {
    for status in [Status::unauthenticated("no"), Status::failed_precondition("no")] {
        let mut coordinator = FakeCoordinator::start().await;
        let worker = coordinator.worker(|_| {});
        drop(coordinator.next_member(welcome(FENCE)).await);
        coordinator.next().await.refuse(status).await;
        let error = worker.end().await.unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(
            error.to_string(),
            format!("the coordinator at {} refuses this worker: no", coordinator.url)
        );
    }
}

#[tokio::test]
async fn a_broken_protocol_ends_the_worker() {
    let many = || (0..).map(|id| ToWorker::Assignment(assignment(id, TaskKind::Train, 9, 0..8))).take(17);
    let huge = Assignment { first_leaf: u32::MAX - 8, ..assignment(1, TaskKind::Train, 1, 0..8) };
    let huge = [ToWorker::Weights(weights(0)), ToWorker::Assignment(huge)];
    let cases: [(Vec<ToWorker>, &str); 3] = [
        (many().collect(), "more than 16 assignments ahead"),
        (huge.into(), "an assignment that reaches beyond the largest tree"),
        (vec![ToWorker::Welcome(welcome(FENCE))], "a second welcome"),
    ];
    for (messages, cause) in cases {
        let mut coordinator = FakeCoordinator::start().await;
        let worker = coordinator.worker(|_| {});
        let peer = coordinator.next_member(welcome(FENCE)).await;
        for message in messages {
            peer.say(message).await;
        }
        let error = worker.end().await.unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(error.to_string(), format!("the coordinator at {} sent {cause}", coordinator.url));
    }
}

#[tokio::test]
async fn a_coordinator_that_does_not_come_back_is_said_to_be_gone() {
    let mut coordinator = FakeCoordinator::start().await;
    let worker = coordinator.worker(|config| config.connect_timeout = Duration::from_secs(1));
    let peer = coordinator.next_member(welcome(FENCE)).await;
    let url = coordinator.url.clone();
    drop((peer, coordinator));
    let error = worker.end().await.unwrap_err();
    assert_eq!(error.exit_code(), 75);
    let line = error.to_string();
    assert!(line.starts_with(&format!("the coordinator at {url} is gone: ")), "{line}");
    assert!(line.ends_with("; tried for 1s"), "{line}");
}
