//! What workers say: hello, nodes, signs of life; parsed from the wire and written to it.

use bytes::Bytes;
use lockstep_reduction::{NodeSum, Task, TaskKind};

use super::spans::Spans;
use super::{
    Fence, Heartbeat, MalformedMessage, fence, kind, length, run_and_term, text, wire_fence, wire_kind,
};
use crate::{Token, TokenError, WorkerMessage, wire};

/// Counts of an evaluation: 10 labels by 10 predictions.
const CONFUSION_COUNTS: usize = 100;

/// A worker's first message.
#[derive(Clone, Debug)]
pub struct Hello {
    /// [`crate::PROTOCOL_VERSION`] of the worker.
    pub protocol_version: u32,
    /// The worker's numerics version.
    pub numerics_version: u32,
    /// The run's join token.
    pub token: Token,
    /// The worker's name, for people.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// Its threads, at least 1.
    pub threads: u32,
    /// Its instruction set and CPU features, for people.
    pub cpu: String,
    /// SHA-256 of its canned shard's result.
    pub join_test_digest: [u8; 32],
    /// The run and highest term that this process has been welcomed by.
    pub known: Option<Fence>,
}

/// The sum over one node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeResult {
    /// The run and term.
    pub fence: Fence,
    /// What it answers.
    pub assignment_id: u64,
    /// What was computed.
    pub kind: TaskKind,
    /// The assignment's step.
    pub step: u64,
    /// Height of the node.
    pub level: u32,
    /// Place of the node in its level.
    pub index: u32,
    /// Wall time from the start of the assignment's arithmetic to the end of this node's.
    pub compute_nanoseconds: u64,
    /// The sum; `None` if the node has no examples.
    pub value: Option<NodeValue>,
}

/// The sum over a node that has examples.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeValue {
    /// Examples, at least 1.
    pub examples: u32,
    /// Sum of the losses.
    pub loss: f32,
    /// Correct predictions.
    pub correct: u32,
    /// Training: the gradient as little-endian f32, else empty.
    pub gradient: Bytes,
    /// Evaluation: 100 little-endian u32 counts [label, predicted], else empty.
    pub confusion: Bytes,
}

/// The counts of an evaluation, `[label * 10 + predicted]`.
type Counts = Box<[u32; CONFUSION_COUNTS]>;

impl NodeValue {
    /// The sum of a training step's node.
    pub fn into_gradient(self) -> NodeSum<Bytes> {
        let Self { examples, loss, correct, gradient, confusion: _ } = self;
        NodeSum { examples, loss, correct, payload: gradient }
    }

    /// The sum of an evaluation's node.
    pub fn into_counts(self) -> NodeSum<Counts> {
        let Self { examples, loss, correct, gradient: _, confusion } = self;
        let mut counts = Box::new([0; CONFUSION_COUNTS]);
        for (count, bytes) in counts.iter_mut().zip(confusion.as_chunks::<4>().0) {
            *count = u32::from_le_bytes(*bytes);
        }
        NodeSum { examples, loss, correct, payload: counts }
    }
}

impl From<NodeSum<Bytes>> for NodeValue {
    fn from(sum: NodeSum<Bytes>) -> Self {
        let NodeSum { examples, loss, correct, payload: gradient } = sum;
        Self { examples, loss, correct, gradient, confusion: Bytes::new() }
    }
}

impl From<NodeSum<Counts>> for NodeValue {
    fn from(sum: NodeSum<Counts>) -> Self {
        let NodeSum { examples, loss, correct, payload: counts } = sum;
        let confusion: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        Self { examples, loss, correct, gradient: Bytes::new(), confusion: confusion.into() }
    }
}

/// What a worker says.
#[derive(Clone, Debug)]
pub enum FromWorker {
    /// First.
    Hello(Hello),
    /// A result.
    Node(NodeResult),
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// When it did what, if that was asked for.
    Spans(Spans),
}

impl FromWorker {
    /// Parses a message of a worker whose gradients have `gradient_bytes`.
    ///
    /// # Errors
    ///
    /// If it is malformed: which field, and how.
    pub fn parse(message: WorkerMessage, gradient_bytes: usize) -> Result<Self, MalformedMessage> {
        use wire::worker_message::Body;
        match message.body.ok_or(MalformedMessage::NoBody)? {
            Body::Hello(hello) => Hello::parse(hello).map(Self::Hello),
            Body::Node(node) => NodeResult::parse(node, gradient_bytes).map(Self::Node),
            Body::Heartbeat(heartbeat) => Heartbeat::parse(heartbeat).map(Self::Heartbeat),
            Body::Spans(spans) => Spans::parse(spans).map(Self::Spans),
        }
    }
}

impl From<FromWorker> for WorkerMessage {
    fn from(message: FromWorker) -> Self {
        use wire::worker_message::Body;
        let body = match message {
            FromWorker::Hello(hello) => Body::Hello(hello.into_wire()),
            FromWorker::Node(node) => Body::Node(node.into_wire()),
            FromWorker::Heartbeat(heartbeat) => Body::Heartbeat(heartbeat.into_wire()),
            FromWorker::Spans(spans) => Body::Spans(spans.into_wire()),
        };
        Self { body: Some(body) }
    }
}

impl Hello {
    fn parse(hello: wire::Hello) -> Result<Self, MalformedMessage> {
        let token = std::str::from_utf8(&hello.token).map_err(|_| TokenError::Character)?;
        length("Hello", "join_test_digest", 32, hello.join_test_digest.len())?;
        if hello.threads == 0 || hello.threads > 1 << 16 {
            return Err(MalformedMessage::Range {
                message: "Hello",
                field: "threads",
                value: hello.threads.into(),
            });
        }
        let mut join_test_digest = [0; 32];
        join_test_digest.copy_from_slice(&hello.join_test_digest);
        Ok(Self {
            protocol_version: hello.protocol_version,
            numerics_version: hello.numerics_version,
            token: Token::new(token)?,
            name: text(&hello.name),
            host: text(&hello.host),
            pid: hello.pid,
            threads: hello.threads,
            cpu: text(&hello.cpu),
            join_test_digest,
            known: hello.known.map(|known| run_and_term("Hello", "known.run_id", known)).transpose()?,
        })
    }

    fn into_wire(self) -> wire::Hello {
        wire::Hello {
            protocol_version: self.protocol_version,
            numerics_version: self.numerics_version,
            token: Bytes::copy_from_slice(self.token.reveal().as_bytes()),
            name: self.name,
            host: self.host,
            pid: self.pid,
            threads: self.threads,
            cpu: self.cpu,
            join_test_digest: Bytes::copy_from_slice(&self.join_test_digest),
            known: self.known.and_then(wire_fence),
        }
    }
}

impl NodeResult {
    /// The task that was computed.
    pub fn task(&self) -> Task {
        Task { kind: self.kind, step: self.step }
    }

    fn parse(node: wire::NodeResult, gradient_bytes: usize) -> Result<Self, MalformedMessage> {
        const MESSAGE: &str = "NodeResult";
        let kind = kind(MESSAGE, node.kind)?;
        let (gradient_bytes, confusion_bytes) = match (kind, node.examples) {
            (_, 0) => (0, 0),
            (TaskKind::Train, _) => (gradient_bytes, 0),
            (TaskKind::Validate | TaskKind::Test, _) => (0, CONFUSION_COUNTS * 4),
        };
        length(MESSAGE, "gradient", gradient_bytes, node.gradient.len())?;
        length(MESSAGE, "confusion", confusion_bytes, node.confusion.len())?;
        if node.correct > node.examples {
            return Err(MalformedMessage::Range {
                message: MESSAGE,
                field: "correct",
                value: node.correct.into(),
            });
        }
        let value = (node.examples > 0).then_some(NodeValue {
            examples: node.examples,
            loss: node.loss,
            correct: node.correct,
            gradient: node.gradient,
            confusion: node.confusion,
        });
        Ok(Self {
            fence: fence(MESSAGE, node.fence)?,
            assignment_id: node.assignment_id,
            kind,
            step: node.step,
            level: node.level,
            index: node.index,
            compute_nanoseconds: node.compute_nanoseconds,
            value,
        })
    }

    fn into_wire(self) -> wire::NodeResult {
        let value = self.value.unwrap_or(NodeValue {
            examples: 0,
            loss: 0.0,
            correct: 0,
            gradient: Bytes::new(),
            confusion: Bytes::new(),
        });
        wire::NodeResult {
            fence: wire_fence(self.fence),
            assignment_id: self.assignment_id,
            kind: wire_kind(self.kind),
            step: self.step,
            level: self.level,
            index: self.index,
            examples: value.examples,
            loss: value.loss,
            correct: value.correct,
            compute_nanoseconds: self.compute_nanoseconds,
            confusion: value.confusion,
            gradient: value.gradient,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Progress, RunId};

    const FENCE: Fence = Fence { run_id: RunId([7; 16]), term: 3 };

    fn node() -> NodeResult {
        NodeResult {
            fence: FENCE,
            assignment_id: 5,
            kind: TaskKind::Train,
            step: 9,
            level: 2,
            index: 1,
            compute_nanoseconds: 1000,
            value: Some(NodeValue {
                examples: 4,
                loss: 9.25,
                correct: 1,
                gradient: Bytes::from_static(&[1; 12]),
                confusion: Bytes::new(),
            }),
        }
    }

    fn hello() -> Hello {
        Hello {
            protocol_version: crate::PROTOCOL_VERSION,
            numerics_version: 4,
            token: Token::new("secret").unwrap(),
            name: "n".to_string(),
            host: "h".to_string(),
            pid: 5,
            threads: 6,
            cpu: "c".to_string(),
            join_test_digest: [8; 32],
            known: Some(FENCE),
        }
    }

    fn parse(message: FromWorker) -> Result<FromWorker, MalformedMessage> {
        FromWorker::parse(message.into(), 12)
    }

    fn parse_node(node: NodeResult) -> Result<FromWorker, MalformedMessage> {
        parse(FromWorker::Node(node))
    }

    #[test]
    fn messages_survive_the_wire() {
        assert!(matches!(parse_node(node()), Ok(FromWorker::Node(parsed)) if parsed == node()));
        let absent = NodeResult { value: None, ..node() };
        assert!(matches!(parse_node(absent.clone()), Ok(FromWorker::Node(parsed)) if parsed == absent));
        for progress in [None, Some(Progress { assignment_id: 5, examples_done: 9 })] {
            let heartbeat = Heartbeat { fence: FENCE, progress };
            let parsed = parse(FromWorker::Heartbeat(heartbeat));
            assert!(matches!(parsed, Ok(FromWorker::Heartbeat(parsed)) if parsed == heartbeat));
        }
    }

    #[test]
    fn a_hello_names_the_term_it_knows_or_none() {
        for known in [Some(FENCE), None] {
            let parsed = parse(FromWorker::Hello(Hello { known, ..hello() })).unwrap();
            let FromWorker::Hello(parsed) = parsed else { panic!("{parsed:?}") };
            assert_eq!((parsed.known, parsed.threads, parsed.name), (known, 6, "n".to_string()));
        }
        let mut message = WorkerMessage::from(FromWorker::Hello(hello()));
        let Some(wire::worker_message::Body::Hello(wire)) = &mut message.body else { panic!() };
        wire.known = Some(wire::Fence { run_id: Bytes::from_static(&[1; 4]), term: 1 });
        let error = FromWorker::parse(message, 12).unwrap_err();
        assert_eq!(error.to_string(), "Hello.known.run_id has 4 bytes instead of 16");
    }

    #[test]
    fn malformed_nodes_are_refused_by_field() {
        let short = NodeValue { gradient: Bytes::from_static(&[1; 8]), ..node().value.unwrap() };
        let error = parse_node(NodeResult { value: Some(short), ..node() }).unwrap_err();
        assert_eq!(error.to_string(), "NodeResult.gradient has 8 bytes instead of 12");
        let error = parse_node(NodeResult { kind: TaskKind::Test, ..node() }).unwrap_err();
        assert_eq!(error.to_string(), "NodeResult.gradient has 12 bytes instead of 0");
        let many = NodeValue { correct: 5, ..node().value.unwrap() };
        let error = parse_node(NodeResult { value: Some(many), ..node() }).unwrap_err();
        assert_eq!(error.to_string(), "NodeResult.correct is 5, which is out of range");
        let error = FromWorker::parse(WorkerMessage { body: None }, 12).unwrap_err();
        assert_eq!(error, MalformedMessage::NoBody);
    }
}
