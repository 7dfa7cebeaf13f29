//! Attacks of peers that have the token: workers that do not do what workers do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lockstep_kernels::Cpu;
use lockstep_model::{NUMERICS_VERSION, PARAMETER_BYTES, PIXELS, join_test};
use lockstep_proto::{
    Assignment, CoordinatorMessage, Encoded, Fence, FromWorker, Heartbeat, Hello, Messages, NodeResult,
    NodeValue, PROTOCOL_VERSION, Spans, ToWorker, Token, TraceId, WorkerMessage,
};
use lockstep_reduction::TaskKind;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::target::TOKEN;

/// A hello that is right but for its token.
pub fn hello(name: &str, token: &str) -> Hello {
    Hello {
        protocol_version: PROTOCOL_VERSION,
        numerics_version: NUMERICS_VERSION,
        token: Token::new(token).expect("a token of this program"),
        name: name.to_string(),
        host: "attacker".to_string(),
        pid: std::process::id(),
        threads: 64,
        cpu: "none".to_string(),
        join_test_digest: join_test(Cpu::detect()).0,
        known: None,
    }
}

/// A hello as it goes over the wire, without gRPC's prefix.
pub fn encoded(hello: Hello) -> Vec<u8> {
    WorkerMessage::from(FromWorker::Hello(hello)).encode_to_vec()
}

/// An attack of members.
pub struct Attack {
    /// What it is called.
    pub name: &'static str,
    /// How many members do it.
    pub members: usize,
    /// Only the full form lasts long enough to judge it: what does nothing is noticed after deadlines.
    pub slow: bool,
    /// What each says after its welcome, again and again; `None` ends its membership.
    pub say: fn(&Seen) -> Said,
}

/// What a member has seen of the run.
#[derive(Default)]
pub struct Seen {
    fence: Option<Fence>,
    assignment: Option<Assignment>,
}

/// What a member says next.
pub enum Said {
    /// These messages, at once, as many as the connection takes.
    Flood(FromWorker),
    /// A sign of life, in the time that was asked for.
    Alive,
}

/// All of them.
pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "heartbeats without end",
        members: 1,
        slow: false,
        say: |seen| Said::Flood(heartbeat(seen)),
    },
    Attack {
        name: "nodes that nobody asked for",
        members: 1,
        slow: false,
        say: |seen| Said::Flood(node(seen, 77)),
    },
    Attack {
        name: "nodes of another run",
        members: 1,
        slow: false,
        say: |seen| Said::Flood(other_run(node(seen, 77))),
    },
    Attack {
        name: "spans that nobody asked for",
        members: 1,
        slow: false,
        say: |seen| Said::Flood(spans(seen)),
    },
    Attack {
        name: "20 members that take work and do nothing",
        members: 20,
        slow: true,
        say: |_| Said::Alive,
    },
    Attack {
        name: "200 members that take work and do nothing",
        members: 200,
        slow: true,
        say: |_| Said::Alive,
    },
    Attack { name: "4 members that answer NaN, and come again", members: 4, slow: false, say: not_a_number },
];

fn fence(seen: &Seen) -> Fence {
    seen.fence.expect("welcomed")
}

fn heartbeat(seen: &Seen) -> FromWorker {
    FromWorker::Heartbeat(Heartbeat { fence: fence(seen), progress: None })
}

fn node(seen: &Seen, assignment_id: u64) -> FromWorker {
    FromWorker::Node(NodeResult {
        fence: fence(seen),
        assignment_id,
        kind: TaskKind::Train,
        step: 1,
        level: 0,
        index: 0,
        compute_nanoseconds: 1,
        value: Some(value(4, 1.0)),
    })
}

fn value(examples: u32, number: f32) -> NodeValue {
    NodeValue {
        examples,
        loss: number,
        correct: 0,
        gradient: Bytes::from(number.to_le_bytes().repeat(PARAMETER_BYTES / 4)),
        confusion: Bytes::new(),
    }
}

fn other_run(message: FromWorker) -> FromWorker {
    match message {
        FromWorker::Node(node) => {
            let mut fence = node.fence;
            fence.run_id.0[0] ^= 1;
            FromWorker::Node(NodeResult { fence, ..node })
        }
        other => other,
    }
}

fn spans(seen: &Seen) -> FromWorker {
    FromWorker::Spans(Spans {
        fence: fence(seen),
        assignment_id: 1,
        step: 1,
        trace: TraceId([7; 16]),
        received: Duration::ZERO,
        sent: Duration::ZERO,
        spans: Vec::new(),
        omitted: 0,
    })
}

/// One leaf of what was assigned, with numbers that are none.
fn not_a_number(seen: &Seen) -> Said {
    let Some(assignment) = &seen.assignment else { return Said::Alive };
    let examples = assignment.leaf_examples.first().copied().unwrap_or(0);
    Said::Flood(FromWorker::Node(NodeResult {
        fence: assignment.fence,
        assignment_id: assignment.assignment_id,
        kind: assignment.kind,
        step: assignment.step,
        level: 0,
        index: assignment.first_leaf,
        compute_nanoseconds: 1,
        value: Some(value(examples, f32::NAN)),
    }))
}

/// Does an attack until it is told to stop; a member that is dropped comes again.
pub fn run(attack: &Attack, to: SocketAddr, stop: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let members = (0..attack.members).map(|number| {
            let name = format!("member-{number}");
            async move {
                while !stop.load(Ordering::Relaxed) {
                    // Why it ended does not matter here.
                    let _ = member(attack, &name, to, stop).await;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
        join_all(members).await;
    });
}

async fn join_all(members: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut members: Vec<_> = members.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        members.retain_mut(|member| member.as_mut().poll(context).is_pending());
        if members.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await
}

async fn member(attack: &Attack, name: &str, to: SocketAddr, stop: &AtomicBool) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(format!("http://{to}"))?.connect().await?;
    let (outbound, messages) = mpsc::channel(8);
    outbound.send(FromWorker::Hello(hello(name, TOKEN)).into()).await?;
    let mut inbound = lockstep_proto::join(channel, ReceiverStream::new(messages)).await?;
    let mut seen = Seen::default();
    let mut beats = tokio::time::interval(Duration::from_millis(200));
    while !stop.load(Ordering::Relaxed) {
        tokio::select! {
            received = receive(&mut inbound) => match received? {
                ToWorker::Welcome(welcome) => seen.fence = Some(welcome.fence),
                ToWorker::Assignment(assignment) => seen.assignment = Some(assignment),
                _ => {}
            },
            _ = beats.tick(), if seen.fence.is_some() => outbound.send(heartbeat(&seen).into()).await?,
            sent = flood(attack, &seen, &outbound) => sent?,
        }
    }
    Ok(())
}

/// Sends one message of a flood; waits for ever if there is none to send.
async fn flood(attack: &Attack, seen: &Seen, outbound: &mpsc::Sender<Encoded>) -> anyhow::Result<()> {
    if seen.fence.is_some()
        && let Said::Flood(message) = (attack.say)(seen)
    {
        outbound.send(message.into()).await?;
        tokio::task::yield_now().await;
        return Ok(());
    }
    std::future::pending().await
}

async fn receive(inbound: &mut Messages<CoordinatorMessage>) -> anyhow::Result<ToWorker> {
    let message = inbound.message().await?;
    let message = message.ok_or_else(|| anyhow::anyhow!("the stream ended"))?;
    Ok(ToWorker::parse(message, PARAMETER_BYTES, PIXELS)?)
}
