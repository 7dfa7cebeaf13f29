//! Typed messages and their conversion to and from the wire. No I/O.

use std::fmt;

use bytes::Bytes;

use crate::{CoordinatorMessage, WorkerMessage, wire};

/// Counts of an evaluation: 10 labels by 10 predictions.
const CONFUSION_COUNTS: usize = 100;

/// The most characters of a peer's name, host or CPU that are kept.
const MAX_TEXT_CHARACTERS: usize = 200;

/// The 128 random bits that name a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunId(pub [u8; 16]);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What lets a worker into a run. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Token(String);

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is empty or too long.
    #[error("a join token has 1 to 128 characters, this one has {0}")]
    Length(usize),
    /// It has blanks or control characters.
    #[error("a join token has neither blanks nor control characters")]
    Character,
}

impl Token {
    /// Takes a token as people write it.
    ///
    /// # Errors
    ///
    /// If it is empty, longer than 128 bytes, or not printable.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        if text.is_empty() || text.len() > 128 {
            return Err(TokenError::Length(text.len()));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(TokenError::Character);
        }
        Ok(Self(text.to_string()))
    }

    /// A token of 128 random bits, given by the caller.
    pub fn from_random(bits: [u8; 16]) -> Self {
        Self(RunId(bits).to_string())
    }

    /// The text, to hand it to a worker.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares without revealing by its time where two tokens differ.
    pub fn matches(&self, other: &Self) -> bool {
        let (a, b) = (self.0.as_bytes(), other.0.as_bytes());
        a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Whose message it is: the run, and the coordinator's fencing counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The run.
    pub run_id: RunId,
    /// Grows with every start of a coordinator for the run.
    pub term: u64,
}

/// What a task computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// Gradients of a step.
    Train,
    /// Loss and predictions of the validation set.
    Validate,
    /// Loss and predictions of the test set.
    Test,
}

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
}

/// The coordinator's answer to [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The run and term.
    pub fence: Fence,
    /// The member's number.
    pub worker_id: u32,
}

/// Leaves of a task, with their data.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The run and term.
    pub fence: Fence,
    /// Its name.
    pub assignment_id: u64,
    /// What to compute.
    pub kind: TaskKind,
    /// Training: the step. Evaluation: the step after which it stands.
    pub step: u64,
    /// The first leaf of the interval.
    pub first_leaf: u32,
    /// Examples of each leaf.
    pub leaf_examples: Vec<u32>,
    /// A byte an example, below 10.
    pub labels: Bytes,
    /// 784 bytes an example.
    pub pixels: Bytes,
}

/// The weights after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The run and term.
    pub fence: Fence,
    /// The step.
    pub step: u64,
    /// CRC-32C of `values`.
    pub crc32c: u32,
    /// Little-endian f32 in the canonical layout.
    pub values: Bytes,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// The run and term.
    pub fence: Fence,
    /// Why, for people.
    pub reason: String,
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

/// What a worker says.
#[derive(Clone, Debug)]
pub enum FromWorker {
    /// First.
    Hello(Hello),
    /// A result.
    Node(NodeResult),
}

/// What a coordinator says.
#[derive(Clone, Debug)]
pub enum ToWorker {
    /// First.
    Welcome(Welcome),
    /// Work.
    Assignment(Assignment),
    /// Weights.
    Weights(Weights),
    /// Last.
    Finish(Finish),
}

/// A message that is no message of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedMessage {
    /// Nothing in it that this version knows.
    #[error("a message without a body that protocol version {} knows", crate::PROTOCOL_VERSION)]
    NoBody,
    /// A field is missing.
    #[error("{message}.{field} is missing")]
    Missing {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// A field has the wrong length.
    #[error("{message}.{field} has {actual} bytes instead of {expected}")]
    Length {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
        /// What is right.
        expected: usize,
        /// What came.
        actual: usize,
    },
    /// A value is outside its range.
    #[error("{message}.{field} is {value}, which is out of range")]
    Range {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
        /// What came.
        value: u64,
    },
    /// The token is none.
    #[error("Hello.token: {0}")]
    Token(#[from] TokenError),
}

fn length(
    message: &'static str,
    field: &'static str,
    expected: usize,
    actual: usize,
) -> Result<(), MalformedMessage> {
    if expected == actual {
        Ok(())
    } else {
        Err(MalformedMessage::Length { message, field, expected, actual })
    }
}

/// Peer text that is shown to people: bounded and without control characters.
fn text(from: &str) -> String {
    from.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARACTERS).collect()
}

fn fence(message: &'static str, fence: Option<wire::Fence>) -> Result<Fence, MalformedMessage> {
    let fence = fence.ok_or(MalformedMessage::Missing { message, field: "fence" })?;
    length(message, "fence.run_id", 16, fence.run_id.len())?;
    let mut run_id = [0; 16];
    run_id.copy_from_slice(&fence.run_id);
    Ok(Fence { run_id: RunId(run_id), term: fence.term })
}

fn wire_fence(fence: Fence) -> Option<wire::Fence> {
    Some(wire::Fence { run_id: Bytes::copy_from_slice(&fence.run_id.0), term: fence.term })
}

fn kind(message: &'static str, kind: i32) -> Result<TaskKind, MalformedMessage> {
    match wire::TaskKind::try_from(kind) {
        Ok(wire::TaskKind::Train) => Ok(TaskKind::Train),
        Ok(wire::TaskKind::Validate) => Ok(TaskKind::Validate),
        Ok(wire::TaskKind::Test) => Ok(TaskKind::Test),
        // Negative values become huge ones: they are as far out of range.
        _ => Err(MalformedMessage::Range { message, field: "kind", value: kind as u64 }),
    }
}

fn wire_kind(kind: TaskKind) -> i32 {
    match kind {
        TaskKind::Train => wire::TaskKind::Train.into(),
        TaskKind::Validate => wire::TaskKind::Validate.into(),
        TaskKind::Test => wire::TaskKind::Test.into(),
    }
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
        }
    }
}

impl From<FromWorker> for WorkerMessage {
    fn from(message: FromWorker) -> Self {
        use wire::worker_message::Body;
        let body = match message {
            FromWorker::Hello(hello) => Body::Hello(wire::Hello {
                protocol_version: hello.protocol_version,
                numerics_version: hello.numerics_version,
                token: Bytes::copy_from_slice(hello.token.reveal().as_bytes()),
                name: hello.name,
                host: hello.host,
                pid: hello.pid,
                threads: hello.threads,
                cpu: hello.cpu,
                join_test_digest: Bytes::copy_from_slice(&hello.join_test_digest),
            }),
            FromWorker::Node(node) => {
                let value = node.value.unwrap_or(NodeValue {
                    examples: 0,
                    loss: 0.0,
                    correct: 0,
                    gradient: Bytes::new(),
                    confusion: Bytes::new(),
                });
                Body::Node(wire::NodeResult {
                    fence: wire_fence(node.fence),
                    assignment_id: node.assignment_id,
                    kind: wire_kind(node.kind),
                    step: node.step,
                    level: node.level,
                    index: node.index,
                    examples: value.examples,
                    loss: value.loss,
                    correct: value.correct,
                    compute_nanoseconds: node.compute_nanoseconds,
                    confusion: value.confusion,
                    gradient: value.gradient,
                })
            }
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
        })
    }
}

impl NodeResult {
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
}

impl ToWorker {
    /// Parses a message of a coordinator whose weights have `weights_bytes` and whose images have `image_pixels`.
    ///
    /// # Errors
    ///
    /// If it is malformed: which field, and how.
    pub fn parse(
        message: CoordinatorMessage,
        weights_bytes: usize,
        image_pixels: usize,
    ) -> Result<Self, MalformedMessage> {
        use wire::coordinator_message::Body;
        match message.body.ok_or(MalformedMessage::NoBody)? {
            Body::Welcome(welcome) => Ok(Self::Welcome(Welcome {
                fence: fence("Welcome", welcome.fence)?,
                worker_id: welcome.worker_id,
            })),
            Body::Assignment(assignment) => Assignment::parse(assignment, image_pixels).map(Self::Assignment),
            Body::Weights(weights) => {
                length("Weights", "values", weights_bytes, weights.values.len())?;
                Ok(Self::Weights(Weights {
                    fence: fence("Weights", weights.fence)?,
                    step: weights.step,
                    crc32c: weights.crc32c,
                    values: weights.values,
                }))
            }
            Body::Finish(finish) => Ok(Self::Finish(Finish {
                fence: fence("Finish", finish.fence)?,
                reason: text(&finish.reason),
            })),
        }
    }
}

impl Assignment {
    fn parse(assignment: wire::Assignment, image_pixels: usize) -> Result<Self, MalformedMessage> {
        const MESSAGE: &str = "Assignment";
        let examples: u64 = assignment.leaf_examples.iter().map(|examples| u64::from(*examples)).sum();
        let range = |field, value| Err(MalformedMessage::Range { message: MESSAGE, field, value });
        if examples != assignment.labels.len() as u64 {
            return range("leaf_examples", examples);
        }
        length(MESSAGE, "pixels", assignment.labels.len() * image_pixels, assignment.pixels.len())?;
        if let Some(label) = assignment.labels.iter().find(|label| **label > 9) {
            return range("labels", u64::from(*label));
        }
        let kind = kind(MESSAGE, assignment.kind)?;
        if kind == TaskKind::Train && assignment.step == 0 {
            return range("step", 0);
        }
        Ok(Self {
            fence: fence(MESSAGE, assignment.fence)?,
            assignment_id: assignment.assignment_id,
            kind,
            step: assignment.step,
            first_leaf: assignment.first_leaf,
            leaf_examples: assignment.leaf_examples,
            labels: assignment.labels,
            pixels: assignment.pixels,
        })
    }
}

impl From<ToWorker> for CoordinatorMessage {
    fn from(message: ToWorker) -> Self {
        use wire::coordinator_message::Body;
        let body = match message {
            ToWorker::Welcome(welcome) => Body::Welcome(wire::Welcome {
                fence: wire_fence(welcome.fence),
                worker_id: welcome.worker_id,
            }),
            ToWorker::Assignment(assignment) => Body::Assignment(wire::Assignment {
                fence: wire_fence(assignment.fence),
                assignment_id: assignment.assignment_id,
                kind: wire_kind(assignment.kind),
                step: assignment.step,
                first_leaf: assignment.first_leaf,
                leaf_examples: assignment.leaf_examples,
                labels: assignment.labels,
                pixels: assignment.pixels,
            }),
            ToWorker::Weights(weights) => Body::Weights(wire::Weights {
                fence: wire_fence(weights.fence),
                step: weights.step,
                crc32c: weights.crc32c,
                values: weights.values,
            }),
            ToWorker::Finish(finish) => {
                Body::Finish(wire::Finish { fence: wire_fence(finish.fence), reason: finish.reason })
            }
        };
        Self { body: Some(body) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn assignment() -> Assignment {
        Assignment {
            fence: FENCE,
            assignment_id: 5,
            kind: TaskKind::Train,
            step: 9,
            first_leaf: 2,
            leaf_examples: vec![1, 0, 1],
            labels: Bytes::from_static(&[3, 9]),
            pixels: Bytes::from_static(&[0; 8]),
        }
    }

    fn parse_node(node: NodeResult) -> Result<FromWorker, MalformedMessage> {
        FromWorker::parse(FromWorker::Node(node).into(), 12)
    }

    fn parse_assignment(assignment: Assignment) -> Result<ToWorker, MalformedMessage> {
        ToWorker::parse(ToWorker::Assignment(assignment).into(), 12, 4)
    }

    #[test]
    fn messages_survive_the_wire() {
        assert!(matches!(parse_node(node()), Ok(FromWorker::Node(parsed)) if parsed == node()));
        let absent = NodeResult { value: None, ..node() };
        assert!(matches!(parse_node(absent.clone()), Ok(FromWorker::Node(parsed)) if parsed == absent));
        assert!(
            matches!(parse_assignment(assignment()), Ok(ToWorker::Assignment(parsed)) if parsed == assignment())
        );
        let weights = Weights { fence: FENCE, step: 1, crc32c: 2, values: Bytes::from_static(&[0; 12]) };
        let parsed = ToWorker::parse(ToWorker::Weights(weights.clone()).into(), 12, 4);
        assert!(matches!(parsed, Ok(ToWorker::Weights(parsed)) if parsed == weights));
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

    #[test]
    fn malformed_assignments_are_refused_by_field() {
        let error = parse_assignment(Assignment { leaf_examples: vec![1], ..assignment() }).unwrap_err();
        assert_eq!(error.to_string(), "Assignment.leaf_examples is 1, which is out of range");
        let error = parse_assignment(Assignment { labels: Bytes::from_static(&[3, 10]), ..assignment() })
            .unwrap_err();
        assert_eq!(error.to_string(), "Assignment.labels is 10, which is out of range");
        let error = parse_assignment(Assignment { pixels: Bytes::new(), ..assignment() }).unwrap_err();
        assert_eq!(error.to_string(), "Assignment.pixels has 0 bytes instead of 8");
        let error = parse_assignment(Assignment { step: 0, ..assignment() }).unwrap_err();
        assert_eq!(error.to_string(), "Assignment.step is 0, which is out of range");
    }

    #[test]
    fn a_token_hides_itself_and_compares() {
        let token = Token::new("secret").unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert!(token.matches(&Token::new("secret").unwrap()));
        assert!(!token.matches(&Token::new("secreT").unwrap()));
        assert!(!token.matches(&Token::new("secret2").unwrap()));
        assert_eq!(Token::new("").unwrap_err(), TokenError::Length(0));
        assert_eq!(Token::new("a b").unwrap_err(), TokenError::Character);
    }
}
