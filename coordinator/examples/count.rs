//! Work of a fixed size, to count its instructions and allocations: `count WHAT TIMES` does it so many times and prints nothing.
//!
//! `.ci/counts` runs it under valgrind with two numbers of times, so that what comes once falls out. WHAT is `step`,
//! the coordinator's own work for one training step, or an instruction set, for the gradient of one micro-shard. Nothing
//! here depends on a clock, on chance or on another thread.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use lockstep_control::{
    AssignmentId, Command, Control, ControlSettings, Event, Task, TaskKind, Time, WorkerId,
};
use lockstep_coordinator::batches::Batches;
use lockstep_coordinator::trainer::Trainer;
use lockstep_coordinator::transport::encode;
use lockstep_dataset::{Dataset, Kind, digits_test, digits_train};
use lockstep_model::{Cpu, PARAMETERS, PIXELS, Workspace, initial_weights, into_le_bytes};
use lockstep_proto::{Encoded, Fence, NodeValue, RunId, ToWorker};
use lockstep_reduction::cover;
use ndarray::{ArrayView1, ArrayView3};

const SEED: u64 = 42;
/// The defaults of a training.
const BATCH: u32 = 64;
const SHARDS: u32 = 16;
const WORKERS: u32 = 4;
/// A whole number of batches.
const EXAMPLES: usize = 640;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let times = arguments.get(1).and_then(|times| times.parse().ok()).filter(|times| *times > 0);
    let (Some(what), Some(times)) = (arguments.first(), times) else {
        panic!("usage: count step|avx2|scalar TIMES");
    };
    match Cpu::available().into_iter().find(|cpu| cpu.to_string() == *what) {
        Some(cpu) => gradients(cpu, times),
        None if what == "step" => steps(times),
        None => panic!("this machine has no {what}; it has {:?} and step", Cpu::available()),
    }
}

/// The gradient of one micro-shard, so many times.
fn gradients(cpu: Cpu, times: u64) {
    let count = (BATCH / SHARDS) as usize;
    let digits = digits_train(count);
    let pixels: Vec<u8> = (0..count).flat_map(|index| digits.image(index).to_vec()).collect();
    assert_eq!(pixels.len(), count * PIXELS);
    let images = ArrayView3::from_shape((count, 28, 28), &pixels).expect("that many pixels");
    let labels = ArrayView1::from(&digits.labels[..]);
    let mut network = lockstep_model::Network::new(cpu);
    network.load(&initial_weights(SEED));
    let (mut workspace, mut gradient) = (Workspace::new(), vec![0.0; PARAMETERS]);
    for _ in 0..times {
        network.shard_gradient(images, labels, &mut workspace, &mut gradient);
    }
}

/// So many steps of a coordinator whose workers answer at once.
fn steps(times: u64) {
    let dataset = Dataset {
        train: digits_train(EXAMPLES),
        test: digits_test(1),
        kind: Kind::Digits,
        digest: [0; 32],
        fallback: None,
        notes: Vec::new(),
    };
    let mut batches = Batches::new(dataset, SEED, BATCH, SHARDS, 0.0);
    // One more than is done: the end of a run would be an evaluation.
    let tasks = batches.task_order(u32::MAX, Some(times + 1));
    let mut trainer = Trainer::new(&initial_weights(SEED), 0.01);
    let mut control = Control::new(ControlSettings {
        tasks,
        done: None,
        expected_workers: WORKERS,
        local: false,
        join_timeout: None,
        patience: Duration::from_secs(60),
        deadline: Duration::from_secs(1),
        checkpoint_every: Duration::from_secs(3600),
    });
    let fence = Fence { run_id: RunId([7; 16]), term: 1 };
    let gradient = into_le_bytes(vec![1e-3; PARAMETERS]);
    let mut values = trainer.weights_as_bytes();
    let mut events = VecDeque::from([Event::Started]);
    events.extend((1..=WORKERS).map(|worker| Event::Joined { worker: WorkerId(worker), threads: 1 }));
    let mut commands = Vec::new();
    let mut held: VecDeque<(WorkerId, AssignmentId, Task, std::ops::Range<u32>)> = VecDeque::new();
    let mut now = Time::default();
    let mut done = 0;
    while done < times {
        let Some(event) = events.pop_front() else {
            // Nothing else is to happen: the workers answer what can be computed.
            let at = held.iter().position(|(_, _, task, _)| task.weights() == done);
            let at = at.expect("a step under way has work that is held");
            let (worker, assignment, task, leaves) = held.remove(at).expect("it is there");
            for node in cover(leaves) {
                events.push_back(Event::NodeReceived { worker, assignment, task, node });
            }
            continue;
        };
        now.us += 10;
        control.handle(now, event, &mut commands);
        for command in commands.drain(..) {
            match command {
                Command::Assign { worker, assignment, task, leaves, .. } => {
                    let data = batches.leaves(task, leaves.clone());
                    let message = encode::assignment(fence, assignment, task, leaves.start, data);
                    std::hint::black_box(Encoded::from(ToWorker::Assignment(message)));
                    held.push_back((worker, assignment, task, leaves));
                }
                Command::SendWeights { step, .. } => {
                    let message = encode::weights(fence, step, values.clone());
                    std::hint::black_box(Encoded::from(ToWorker::Weights(message)));
                }
                Command::Combine { task, worker, node } => {
                    let examples = batches.node_examples(task, node).expect("a node of the task");
                    let (gradient, confusion) = (gradient.clone(), Bytes::new());
                    let value = NodeValue { examples, loss: 1.0, correct: 1, gradient, confusion };
                    trainer.combine(task, SHARDS, worker, node, Some(value));
                }
                Command::Commit { task, .. } => {
                    assert_eq!(task.kind, TaskKind::Train, "the run ends before its evaluation");
                    trainer.step(task).expect("small gradients stay finite");
                    values = trainer.weights_as_bytes();
                    done = task.step;
                    events.push_back(Event::Updated { task });
                }
                Command::SetTimer { .. } | Command::Save { .. } => {}
                other => panic!("nothing goes wrong here, but: {other}"),
            }
        }
    }
}
