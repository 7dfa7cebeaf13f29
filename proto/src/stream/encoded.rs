//! Messages on their way out: gRPC's prefix and the fields before the payload in one piece, the payload in another.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{Message, encode_length_delimiter, length_delimiter_len};

use super::PREFIX_BYTES;
use crate::{CoordinatorMessage, FromWorker, ToWorker, WorkerMessage, wire};

/// A payload that is shorter is copied behind the fields before it: two pieces cost more than so few bytes.
const MIN_PAYLOAD_BYTES: usize = 1024;

/// A message as it travels. Cheap to clone: one that goes to many is encoded once.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The prefix and all fields, or those before the payload.
    pub(super) head: Bytes,
    /// The rest of the message, which may be empty.
    pub(super) payload: Bytes,
}

impl Encoded {
    /// A message in one piece.
    fn whole(message: &impl Message) -> Self {
        let length = message.encoded_len();
        let mut head = BytesMut::with_capacity(PREFIX_BYTES + length);
        put_prefix(length, &mut head);
        message.encode(&mut head).expect("a buffer that grows takes any message");
        Self { head: head.freeze(), payload: Bytes::new() }
    }

    /// A message whose only field `body_tag` is `body`, whose last field `payload_tag` is `payload`.
    fn in_two(body_tag: u32, body: &impl Message, payload_tag: u32, payload: Bytes) -> Self {
        let (body_tag, payload_tag) = (key(body_tag), key(payload_tag));
        let field_head_bytes = |key: usize, length| length_delimiter_len(key) + length_delimiter_len(length);
        let body_bytes = body.encoded_len() + field_head_bytes(payload_tag, payload.len()) + payload.len();
        let head_bytes = field_head_bytes(body_tag, body_bytes) + body_bytes - payload.len();
        let appended = if payload.len() < MIN_PAYLOAD_BYTES { payload.len() } else { 0 };
        let mut head = BytesMut::with_capacity(PREFIX_BYTES + head_bytes + appended);
        let fits = "a buffer of the right size";
        put_prefix(head_bytes + payload.len(), &mut head);
        encode_length_delimiter(body_tag, &mut head).expect(fits);
        encode_length_delimiter(body_bytes, &mut head).expect(fits);
        body.encode(&mut head).expect(fits);
        encode_length_delimiter(payload_tag, &mut head).expect(fits);
        encode_length_delimiter(payload.len(), &mut head).expect(fits);
        if payload.len() < MIN_PAYLOAD_BYTES {
            head.put(payload);
            return Self { head: head.freeze(), payload: Bytes::new() };
        }
        Self { head: head.freeze(), payload }
    }
}

/// What stands before a length-delimited field; it is encoded as lengths are.
fn key(tag: u32) -> usize {
    (tag << 3 | 2) as usize
}

fn put_prefix(length: usize, bytes: &mut BytesMut) {
    bytes.put_u8(0); // Not compressed.
    bytes.put_u32(u32::try_from(length).expect("every message has a bound far below 4 GiB"));
}

impl From<ToWorker> for Encoded {
    fn from(message: ToWorker) -> Self {
        use wire::coordinator_message::Body;
        match CoordinatorMessage::from(message) {
            CoordinatorMessage { body: Some(Body::Weights(mut weights)) } => {
                let values = std::mem::take(&mut weights.values);
                Self::in_two(3, &weights, 4, values)
            }
            CoordinatorMessage { body: Some(Body::Assignment(mut assignment)) }
                if !assignment.pixels.is_empty() =>
            {
                let pixels = std::mem::take(&mut assignment.pixels);
                Self::in_two(2, &assignment, 8, pixels)
            }
            message => Self::whole(&message),
        }
    }
}

impl From<FromWorker> for Encoded {
    fn from(message: FromWorker) -> Self {
        use wire::worker_message::Body;
        match WorkerMessage::from(message) {
            WorkerMessage { body: Some(Body::Node(mut node)) } if !node.gradient.is_empty() => {
                let gradient = std::mem::take(&mut node.gradient);
                Self::in_two(2, &node, 12, gradient)
            }
            message => Self::whole(&message),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use lockstep_reduction::TaskKind;

    use crate::{
        Assignment, Fence, Finish, Heartbeat, NodeResult, NodeValue, Revoke, RunId, TraceId, Weights, Welcome,
    };

    const FENCE: Fence = Fence { run_id: RunId([7; 16]), term: 300 };

    /// What a generated client or server sends.
    fn plain(message: &impl Message) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((message.encoded_len() as u32).to_be_bytes());
        message.encode(&mut bytes).unwrap();
        bytes
    }

    fn joined(encoded: &Encoded) -> Vec<u8> {
        [&encoded.head[..], &encoded.payload[..]].concat()
    }

    fn weights(bytes: usize) -> ToWorker {
        ToWorker::Weights(Weights { fence: FENCE, step: 9, crc32c: 77, values: vec![1; bytes].into() })
    }

    fn assignment(examples: usize) -> ToWorker {
        ToWorker::Assignment(Assignment {
            fence: FENCE,
            assignment_id: 12,
            kind: TaskKind::Train,
            step: 10,
            first_leaf: 4,
            leaf_examples: vec![examples as u32, 0],
            labels: vec![3; examples].into(),
            pixels: vec![200; examples * 784].into(),
            trace: None,
        })
    }

    fn node(gradient: usize, confusion: usize) -> FromWorker {
        FromWorker::Node(NodeResult {
            fence: FENCE,
            assignment_id: 12,
            kind: TaskKind::Train,
            step: 10,
            level: 2,
            index: 1,
            compute_nanoseconds: 1 << 40,
            value: Some(NodeValue {
                examples: 20,
                loss: 2.5,
                correct: 3,
                gradient: vec![9; gradient].into(),
                confusion: vec![1; confusion].into(),
            }),
        })
    }

    #[test]
    fn what_travels_is_what_prost_encodes() {
        let second = Duration::from_secs(1);
        let to_worker = [
            weights(132_776),
            weights(1023),
            weights(1024),
            assignment(20),
            assignment(1),
            assignment(0),
            ToWorker::Heartbeat(Heartbeat { fence: FENCE, progress: None }),
            ToWorker::Revoke(Revoke { fence: FENCE, assignment_id: 5 }),
            ToWorker::Finish(Finish { fence: FENCE, reason: "done".to_string() }),
            ToWorker::Welcome(Welcome { fence: FENCE, worker_id: 3, heartbeat: second, silence: None }),
        ];
        for message in to_worker {
            let plain = plain(&CoordinatorMessage::from(message.clone()));
            assert!(joined(&Encoded::from(message.clone())) == plain, "{message:?}");
        }
        let from_worker = [
            node(132_776, 0),
            node(0, 400),
            node(0, 0),
            FromWorker::Heartbeat(Heartbeat { fence: FENCE, progress: None }),
        ];
        for message in from_worker {
            let plain = plain(&WorkerMessage::from(message.clone()));
            assert!(joined(&Encoded::from(message.clone())) == plain, "{message:?}");
        }
    }

    #[test]
    fn a_trace_travels_before_the_pixels() {
        let ToWorker::Assignment(assignment) = assignment(20) else { panic!() };
        let timed = Assignment { trace: Some(TraceId([5; 16])), ..assignment };
        let encoded = Encoded::from(ToWorker::Assignment(timed.clone()));
        let message = CoordinatorMessage::decode(&joined(&encoded)[PREFIX_BYTES..]).unwrap();
        let parsed = ToWorker::parse(message, 12, 784);
        assert!(matches!(parsed, Ok(ToWorker::Assignment(parsed)) if parsed == timed));
    }

    #[test]
    fn a_tensor_is_sent_as_it_lies_in_memory() {
        let values = Bytes::from(vec![5; 132_776]);
        let message = Weights { fence: FENCE, step: 9, crc32c: 77, values: values.clone() };
        let encoded = Encoded::from(ToWorker::Weights(message));
        assert_eq!(encoded.payload.as_ptr(), values.as_ptr());
        assert_eq!(encoded.clone().payload.as_ptr(), values.as_ptr());
    }
}
