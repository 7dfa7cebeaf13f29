//! Peers that are not let in: each is told why, and the run waits for better ones.

use lockstep_control::TaskKind;
use lockstep_model::NUMERICS_VERSION;
use lockstep_proto::{Fence, FromWorker, Hello, NodeResult, PROTOCOL_VERSION, RunId, Token, WorkerMessage};
use tonic::Code;

use super::member::{Member, converse, hello};
use super::{TOKEN, Waiting, assert_parts};

/// What a peer that begins with `first` is told.
fn refusal(run: &Waiting, first: impl Into<WorkerMessage>, code: Code) -> String {
    let Err(status) = converse(Member::join(&run.url, first)) else { panic!("it was let in") };
    assert_eq!(status.code(), code, "{status:?}");
    assert!(!status.message().contains(TOKEN), "{status:?}");
    status.message().to_string()
}

#[test]
fn who_computes_or_speaks_otherwise_is_told_both_sides() {
    let mut run = Waiting::for_workers(1);
    let mut told = Vec::new();

    let protocol_version = PROTOCOL_VERSION + 6;
    let other = FromWorker::Hello(Hello { protocol_version, ..hello() });
    told.push(refusal(&run, other, Code::FailedPrecondition));
    assert_parts(
        &told[0],
        &[
            &format!("protocol version {protocol_version}"),
            &format!("coordinator {PROTOCOL_VERSION};"),
            "same release",
        ],
    );

    let numerics_version = NUMERICS_VERSION + 6;
    let other = FromWorker::Hello(Hello { numerics_version, ..hello() });
    told.push(refusal(&run, other, Code::FailedPrecondition));
    let here = format!("this coordinator with {NUMERICS_VERSION};");
    assert_parts(&told[1], &[&format!("numerics version {numerics_version}"), &here, "same release"]);

    let other = FromWorker::Hello(Hello { join_test_digest: [0xab; 32], ..hello() });
    told.push(refusal(&run, other, Code::FailedPrecondition));
    let right = lockstep_model::Digest(hello().join_test_digest).to_string();
    assert_parts(&told[2], &["join test", &"ab".repeat(32), &right, "a CPU for tests"]);

    let other = FromWorker::Hello(Hello { token: Token::new("another").unwrap(), ..hello() });
    told.push(refusal(&run, other, Code::Unauthenticated));
    assert_parts(&told[3], &["join token", "--token"]);

    let other = FromWorker::Hello(Hello { threads: 0, ..hello() });
    told.push(refusal(&run, other, Code::InvalidArgument));
    assert_parts(&told[4], &["Hello.threads is 0"]);

    let fence = Fence { run_id: RunId([0; 16]), term: 1 };
    let node = NodeResult {
        fence,
        assignment_id: 1,
        kind: TaskKind::Train,
        step: 1,
        level: 0,
        index: 0,
        compute_nanoseconds: 0,
        value: None,
    };
    told.push(refusal(&run, FromWorker::Node(node), Code::InvalidArgument));
    assert_parts(&told[5], &["no Hello"]);
    told.push(refusal(&run, WorkerMessage { body: None }, Code::InvalidArgument));
    assert_parts(&told[6], &["without a body"]);

    // The one who is let in finds a run that nobody has disturbed.
    let honest = run.honest_worker();
    let events = run.ends_undisturbed();
    let refused: Vec<&String> = events.iter().filter(|event| event.contains("worker_refused")).collect();
    assert_eq!(refused.len(), told.len(), "{refused:#?}");
    for (event, told) in refused.iter().zip(&told) {
        assert_parts(event, &["a worker from 127.0.0.1:", " is refused: ", told]);
    }
    honest.finish().done();
}
