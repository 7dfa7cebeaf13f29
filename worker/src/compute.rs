//! The thread that computes, for one session after the other: it takes work from the session's inbox and hands complete
//! nodes to its stream. It lives as long as the worker, so that a broken stream costs neither threads nor memory.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use lockstep_model::Cpu;
use lockstep_proto::{Assignment, Encoded, FromWorker, NodeResult, SpanKind};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{mpsc, oneshot};

use crate::current::Current;
use crate::engine::{Answer, Complete, ComputeError, Engine, LeafInputs};
use crate::inbox::{Inbox, Job};
use crate::tracer::Tracer;

/// Sessions that wait for the thread. More than one only if streams break faster than the thread computes a leaf.
const MAX_WAITING_SESSIONS: usize = 8;

/// The computing of one session.
pub(crate) struct SessionJob {
    /// Where its work comes from. The job ends when it is closed.
    pub(crate) inbox: Arc<Inbox>,
    /// Where its nodes go.
    pub(crate) outbound: mpsc::Sender<Encoded>,
    /// How it ended.
    pub(crate) ended: oneshot::Sender<Result<(), ComputeError>>,
}

/// Starts the thread and its pool; it ends when the channel's end is dropped.
///
/// # Errors
///
/// If the threads cannot be started.
pub(crate) fn start(cpu: Cpu, threads: u32) -> io::Result<SyncSender<SessionJob>> {
    let (sessions, waiting) = sync_channel(MAX_WAITING_SESSIONS);
    let (ready, started) = sync_channel(1);
    std::thread::Builder::new().name("compute".to_string()).spawn(move || {
        // This thread is one of the pool's, so that a worker of one thread never hands work over.
        let pool = ThreadPoolBuilder::new().num_threads(threads as usize).use_current_thread().build();
        // Who starts the thread waits for this.
        match pool {
            Ok(pool) => {
                let _ = ready.send(Ok(()));
                serve(&pool, cpu, &waiting);
            }
            Err(error) => drop(ready.send(Err(io::Error::other(error)))),
        }
    })?;
    started.recv().map_err(io::Error::other)??;
    Ok(sessions)
}

fn serve(pool: &ThreadPool, cpu: Cpu, sessions: &Receiver<SessionJob>) {
    let mut engine = Engine::new(cpu);
    for SessionJob { inbox, outbound, ended } in sessions {
        // A full queue makes the arithmetic wait; the end of the session drops the queue's other end.
        let emit = |message: FromWorker| outbound.blocking_send(message.into()).is_ok();
        let result = compute(pool, &mut engine, || inbox.next(), inbox.current(), emit);
        // Nobody waits for the end of a session that is over.
        let _ = ended.send(result);
        // Nothing more is taken from it, whether its session knows that or not.
        inbox.close();
    }
}

/// Computes until there is no more work, or nobody who listens.
fn compute(
    pool: &ThreadPool,
    engine: &mut Engine,
    mut next: impl FnMut() -> Option<Job>,
    current: &Current,
    emit: impl Fn(FromWorker) -> bool + Sync,
) -> Result<(), ComputeError> {
    // This worker's clock for what is timed.
    let epoch = Instant::now();
    let mut loaded = None;
    while let Some(job) = next() {
        match job {
            Job::Load { weights, timed } => {
                let begin = timed.then(Instant::now);
                engine.load_received(&weights)?;
                loaded = begin.map(|begin| (begin, Instant::now()));
            }
            Job::Compute { assignment, received } => {
                let tracer = Tracer::of(&assignment, received, epoch);
                if let (Some(tracer), Some((begin, end))) = (&tracer, loaded.take()) {
                    tracer.note(SpanKind::Load, assignment.first_leaf, begin, end);
                }
                let send = |complete| emit(FromWorker::Node(node_result(&assignment, complete)));
                let inputs = LeafInputs::from(&assignment);
                let answer = pool.install(|| engine.answer(inputs, current, tracer.as_ref(), &send))?;
                // The nodes are on their way: from here on nobody waits for this worker.
                let told =
                    tracer.is_none_or(|tracer| emit(FromWorker::Spans(tracer.into_spans(&assignment))));
                if answer == Answer::NoListener || !told {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// A node of an assignment as it travels.
pub(crate) fn node_result(assignment: &Assignment, complete: Complete) -> NodeResult {
    let Complete { node, value, elapsed } = complete;
    NodeResult {
        fence: assignment.fence,
        assignment_id: assignment.assignment_id,
        kind: assignment.kind,
        step: assignment.step,
        level: node.level(),
        index: node.index(),
        compute_nanoseconds: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
        value,
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Mutex;

    use bytes::Bytes;
    use lockstep_model::{GROUP, PARAMETERS, copy_from_le_bytes};
    use lockstep_proto::{SPAN_PARTS, Span, Spans, TraceId, Weights};
    use lockstep_reduction::{Node, TaskKind, Tree, sum_into};

    use super::*;
    use crate::test_messages::{assignment, weights};

    /// All that is sent while the work of an inbox is done, and `each` is called for every node.
    fn answers_at(
        inbox: &Inbox,
        threads: u32,
        each: impl Fn(&NodeResult) + Sync,
    ) -> Result<Vec<NodeResult>, ComputeError> {
        let results = Mutex::new(Vec::new());
        let emit = |message| {
            let FromWorker::Node(result) = message else { panic!("nothing is timed: {message:?}") };
            each(&result);
            results.lock().unwrap().push(result);
            true
        };
        // A thread may belong to one pool in its life.
        std::thread::scope(|scope| {
            let computing = scope.spawn(|| {
                let builder = ThreadPoolBuilder::new().num_threads(threads as usize);
                let pool = builder.use_current_thread().build().unwrap();
                compute(&pool, &mut Engine::new(Cpu::detect()), || inbox.try_next(), inbox.current(), emit)
            });
            computing.join().unwrap()
        })?;
        Ok(results.into_inner().unwrap())
    }

    fn inbox(weights: Weights, assignments: impl IntoIterator<Item = Assignment>) -> Inbox {
        let inbox = Inbox::default();
        inbox.put_weights(weights);
        assignments.into_iter().for_each(|assignment| inbox.put_assignment(assignment).unwrap());
        inbox
    }

    fn answers(
        threads: u32,
        weights: Weights,
        assignments: impl IntoIterator<Item = Assignment>,
    ) -> Result<Vec<NodeResult>, ComputeError> {
        answers_at(&inbox(weights, assignments), threads, |_| {})
    }

    fn root(threads: u32, intervals: &[Range<u32>]) -> (Vec<u32>, u32) {
        let assignments =
            (0..).zip(intervals).map(|(id, interval)| assignment(id, TaskKind::Train, 1, interval.clone()));
        let mut tree = Tree::new(8);
        for result in answers(threads, weights(0), assignments).unwrap() {
            let value = result.value.map(|value| {
                let mut gradient = vec![0.0; PARAMETERS];
                copy_from_le_bytes(&value.gradient, &mut gradient);
                (gradient, value.loss)
            });
            tree.insert(Node::new(result.level, result.index).unwrap(), value, |mut left, right| {
                sum_into(&mut left.0, &right.0);
                (left.0, left.1 + right.1)
            });
        }
        let (gradient, loss) = tree.root().unwrap().unwrap();
        (gradient.iter().map(|value| value.to_bits()).collect(), loss.to_bits())
    }

    #[test]
    fn threads_and_intervals_change_no_bit() {
        let whole = std::slice::from_ref(&(0..8));
        let expected = root(1, whole);
        for threads in [1, 2, 3] {
            assert!(root(threads, whole) == expected, "{threads} threads");
            assert!(root(threads, &[5..8, 0..3, 3..5]) == expected, "{threads} threads, three intervals");
            assert!(root(threads, &[1..8, 0..1]) == expected, "{threads} threads, an odd interval");
        }
    }

    #[test]
    fn an_assignment_waits_for_its_weights_and_a_stale_one_is_forgotten() {
        let assignments = [
            assignment(1, TaskKind::Train, 5, 0..8),
            assignment(2, TaskKind::Train, 4, 0..8),
            assignment(3, TaskKind::Test, 4, 0..8),
            assignment(4, TaskKind::Train, 6, 0..8),
        ];
        let results = answers(1, weights(4), assignments).unwrap();
        let answered: Vec<u64> = results.iter().map(|result| result.assignment_id).collect();
        assert_eq!(answered, [1, 3]);
    }

    #[test]
    fn damaged_weights_are_not_computed_with() {
        let damaged = Weights { crc32c: 1, ..weights(3) };
        let error = answers(1, damaged, [assignment(1, TaskKind::Train, 4, 0..8)]).unwrap_err();
        assert!(matches!(error, ComputeError::Checksum { step: 3, expected: 1, .. }), "{error}");
    }

    #[test]
    fn an_interval_without_examples_gives_absent_nodes() {
        let mut empty = assignment(1, TaskKind::Train, 1, 0..2);
        (empty.leaf_examples, empty.labels, empty.pixels) = (vec![0, 0], Bytes::new(), Bytes::new());
        let results = answers(2, weights(0), [empty]).unwrap();
        assert_eq!(results.len(), 1);
        assert_eq!((results[0].level, &results[0].value), (1, &None));
    }

    /// The assignments of the nodes that are sent if `order` is given at the first node of assignment 1.
    fn sent_despite(order: impl Fn(&Inbox) + Sync) -> Vec<u64> {
        let first = assignment(1, TaskKind::Train, 1, 1..8);
        let inbox = inbox(weights(0), [first, assignment(2, TaskKind::Train, 1, 0..1)]);
        inbox.put_assignment(assignment(3, TaskKind::Train, 2, 0..1)).unwrap();
        let results = answers_at(&inbox, 1, |node| {
            if (node.assignment_id, node.level) == (1, 0) {
                order(&inbox);
            }
        });
        results.unwrap().iter().map(|result| result.assignment_id).collect()
    }

    #[test]
    fn a_revoked_assignment_sends_no_further_node() {
        assert_eq!(sent_despite(|_| {}), [1, 1, 1, 2], "an undisturbed one sends all three");
        assert_eq!(sent_despite(|inbox| inbox.revoke(1)), [1, 2]);
    }

    #[test]
    fn newer_weights_end_what_needs_older_ones() {
        assert_eq!(sent_despite(|inbox| inbox.put_weights(weights(1))), [1, 3]);
    }

    #[test]
    fn the_end_of_a_session_ends_its_computing() {
        assert_eq!(sent_despite(Inbox::close), [1]);
    }

    #[test]
    fn what_is_timed_is_told_after_its_nodes_and_changes_none() {
        let trace = Some(TraceId([9; 16]));
        let plain = assignment(1, TaskKind::Train, 1, 0..6);
        let inbox = inbox(weights(0), [Assignment { trace, ..plain.clone() }, plain.clone()]);
        let messages = Mutex::new(Vec::new());
        let emit = |message| {
            messages.lock().unwrap().push(message);
            true
        };
        std::thread::scope(|scope| {
            let computing = scope.spawn(|| {
                let pool = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
                compute(&pool, &mut Engine::new(Cpu::detect()), || inbox.try_next(), inbox.current(), emit)
            });
            computing.join().unwrap().unwrap();
        });
        let messages = messages.into_inner().unwrap();
        let [
            FromWorker::Node(a),
            FromWorker::Node(b),
            FromWorker::Spans(spans),
            FromWorker::Node(c),
            FromWorker::Node(d),
        ] = &messages[..]
        else {
            panic!("{messages:?}")
        };
        assert_eq!((&a.value, &b.value), (&c.value, &d.value));
        let Spans { assignment_id, step, trace: told, received, sent, spans, omitted, .. } = spans;
        assert_eq!((*assignment_id, *step, Some(*told), *omitted), (1, 1, trace, 0));
        let leaves: Vec<u32> =
            spans.iter().filter(|span| span.kind == SpanKind::Leaf).map(|span| span.leaf).collect();
        let with_examples: Vec<u32> = (0..6).filter(|leaf| plain.leaf_examples[*leaf as usize] > 0).collect();
        assert_eq!(leaves, with_examples);
        let count = |kind| spans.iter().filter(|span| span.kind == kind).count();
        assert_eq!((count(SpanKind::Load), count(SpanKind::Send)), (1, 2));
        let end = |span: &Span| span.start + span.duration;
        let (parts, whole): (Vec<Span>, Vec<Span>) =
            spans.iter().partition(|span| matches!(span.kind, SpanKind::Part(_)));
        // In their order, group after group, and within their leaf.
        for leaf in whole.iter().filter(|span| span.kind == SpanKind::Leaf) {
            let parts: Vec<_> = parts.iter().filter(|part| part.leaf == leaf.leaf).collect();
            let groups = plain.leaf_examples[leaf.leaf as usize].div_ceil(GROUP as u32);
            let order = (0..groups).flat_map(|_| (0..SPAN_PARTS).map(SpanKind::Part));
            assert!(parts.iter().map(|part| part.kind).eq(order), "{parts:?}");
            assert!(leaf.start <= parts[0].start && end(parts[parts.len() - 1]) <= end(leaf), "{parts:?}");
            assert!(parts.windows(2).all(|pair| end(pair[0]) == pair[1].start), "{parts:?}");
        }
        let spans = whole;
        assert!(spans.windows(2).all(|pair| end(&pair[0]) <= pair[1].start), "{spans:?}");
        assert!(spans.iter().all(|span| span.thread == 0 && end(span) <= *sent), "{spans:?}");
        assert!(received <= sent);
    }

    #[test]
    fn every_example_is_counted_on_whatever_thread_and_in_every_task() {
        for kind in [TaskKind::Train, TaskKind::Validate] {
            for threads in [1, 3] {
                let assignment = assignment(1, kind, 1, 1..8);
                let step = if kind == TaskKind::Train { 0 } else { 1 };
                let examples: u32 = assignment.leaf_examples.iter().sum();
                let inbox = inbox(weights(step), [assignment]);
                let counted = Mutex::new(Vec::new());
                let each = |_: &NodeResult| counted.lock().unwrap().push(inbox.current().examples_done());
                answers_at(&inbox, threads, each).unwrap();
                assert_eq!(
                    counted.into_inner().unwrap().last(),
                    Some(&examples),
                    "{kind:?}, {threads} threads"
                );
            }
        }
    }

    #[test]
    fn an_unwanted_assignment_costs_no_leaf() {
        let mut engine = Engine::new(Cpu::detect());
        engine.load_received(&weights(0)).unwrap();
        let current = Current::default();
        current.stop();
        // Labels that no shard has: a leaf that is computed panics.
        let mut impossible = assignment(1, TaskKind::Train, 1, 0..8);
        impossible.labels = vec![200; impossible.labels.len()].into();
        let refuse = |complete: Complete| panic!("{}", complete.node);
        assert_eq!(engine.answer((&impossible).into(), &current, None, &refuse).unwrap(), Answer::Stopped);
        // Nodes without examples cost no leaf, and are not sent either.
        (impossible.leaf_examples, impossible.labels, impossible.pixels) =
            (vec![0; 8], Bytes::new(), Bytes::new());
        assert_eq!(engine.answer((&impossible).into(), &current, None, &refuse).unwrap(), Answer::Stopped);
        current.begin();
        let wanted = assignment(1, TaskKind::Train, 1, 0..8);
        let no_listener = engine.answer((&wanted).into(), &current, None, &|_| false);
        assert_eq!(no_listener.unwrap(), Answer::NoListener);
    }
}
