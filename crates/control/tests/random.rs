//! Thousands of small clusters by seed: workers join, answer out of order, repeat themselves and die at any moment.
//! Whatever happens, each leaf counts once, tasks are committed in the tasks's order, and the run ends.

#![allow(clippy::unwrap_used, reason = "a test's helpers panic and print like the test")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lockstep_control::{
    AssignmentId, Command, Control, ControlSettings, Event, LeaveCause, Leaves, Outcome, Recipient, Task,
    TaskKind, TaskOrder, Time, WorkerId,
};
use lockstep_reduction::{Node, Tree, cover};

const SEEDS: u64 = 2000;

/// Far above what any of these runs takes.
const MAX_EVENTS: usize = 100_000;

/// Knuth's generator: enough for choices, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

/// A worker that answers an assignment when it has the weights.
#[derive(Default)]
struct Worker {
    weights: u64,
    /// Nodes to send; an answer may overtake another.
    nodes: Vec<(AssignmentId, Task, Node)>,
    sent: Vec<(AssignmentId, Task, Node)>,
}

struct Cluster {
    control: Control,
    tasks: TaskOrder,
    random: Random,
    workers: BTreeMap<WorkerId, Worker>,
    trees: BTreeMap<Task, Tree<()>>,
    committed: Vec<Task>,
    given: BTreeSet<u64>,
    next_worker: u32,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        for _ in 0..4 {
            random.below(2);
        }
        let steps = 1 + random.below(6) as u64;
        let mut leaves = || {
            let count = 1 << random.below(6);
            Leaves { count, per_assignment: 1 + random.below(count as usize + 2) as u32 }
        };
        let (train, validate, test) = (leaves(), leaves(), leaves());
        let tasks = TaskOrder {
            steps_per_epoch: 1 + random.below(4) as u64,
            steps,
            train,
            validate: (random.below(3) > 0).then_some(validate),
            test,
        };
        let settings = ControlSettings {
            tasks,
            expected_workers: 1 + random.below(4) as u32,
            join_timeout: None,
            patience: Duration::from_secs(60),
            done: None,
            local: false,
            deadline: Duration::from_secs(1),
            checkpoint_every: Duration::ZERO,
        };
        Self {
            control: Control::new(settings),
            tasks,
            random,
            workers: BTreeMap::new(),
            trees: BTreeMap::new(),
            committed: Vec::new(),
            given: BTreeSet::new(),
            next_worker: 1,
        }
    }

    /// Runs to the end and gives the outcome.
    fn run(&mut self) -> Outcome {
        let mut events = VecDeque::from([Event::Started]);
        let mut commands = Vec::new();
        for _ in 0..MAX_EVENTS {
            let event = events.pop_front().unwrap_or_else(|| self.next_event());
            self.control.handle(Time::default(), event, &mut commands);
            for command in commands.drain(..) {
                if let Command::Finish { outcome } = command {
                    return outcome;
                }
                events.extend(self.carry_out(command));
            }
        }
        panic!("the run does not end; committed {:?} of {:?}", self.committed, self.tasks);
    }

    /// Something that may happen now: mostly an answer, sometimes a join, a death, or an answer once more.
    fn next_event(&mut self) -> Event {
        let ready: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.nodes.iter().any(|(_, task, _)| task.weights() == worker.weights))
            .map(|(id, _)| *id)
            .collect();
        let chance = self.random.below(100);
        if self.workers.len() < 8 && (chance < 4 || ready.is_empty()) {
            let worker = WorkerId(self.next_worker);
            self.next_worker += 1;
            self.workers.insert(worker, Worker::default());
            return Event::Joined { worker, threads: 1 + self.random.below(3) as u32 };
        }
        let all: Vec<WorkerId> = self.workers.keys().copied().collect();
        let worker = all[self.random.below(all.len())];
        if chance < 8 || ready.is_empty() {
            self.workers.remove(&worker);
            return Event::Left { worker, cause: LeaveCause::Reset };
        }
        let repeated = self.workers[&worker].sent.len();
        if chance < 12 && repeated > 0 {
            let (assignment, task, node) = self.workers[&worker].sent[self.random.below(repeated)];
            return Event::NodeReceived { worker, assignment, task, node };
        }
        let id = ready[self.random.below(ready.len())];
        let worker = self.workers.get_mut(&id).unwrap();
        let choices: Vec<usize> =
            (0..worker.nodes.len()).filter(|at| worker.nodes[*at].1.weights() == worker.weights).collect();
        let (assignment, task, node) = worker.nodes.swap_remove(choices[self.random.below(choices.len())]);
        worker.sent.push((assignment, task, node));
        Event::NodeReceived { worker: id, assignment, task, node }
    }

    fn carry_out(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Assign { worker, assignment, task, leaves, .. } => {
                assert!(self.given.insert(assignment.0), "{assignment} was given before");
                let limit = match task.kind {
                    TaskKind::Train => self.tasks.train,
                    TaskKind::Validate => self.tasks.validate.unwrap(),
                    TaskKind::Test => self.tasks.test,
                };
                assert!(
                    !leaves.is_empty()
                        && leaves.len() as u32 <= limit.per_assignment
                        && leaves.end <= limit.count
                );
                let worker = self.workers.get_mut(&worker).expect("only members get work");
                assert!(task.weights() >= worker.weights, "{task} is not of the past");
                worker.nodes.extend(cover(leaves).map(|node| (assignment, task, node)));
            }
            Command::Combine { task, node, .. } => {
                let count = match task.kind {
                    TaskKind::Train => self.tasks.train.count,
                    TaskKind::Validate => self.tasks.validate.unwrap().count,
                    TaskKind::Test => self.tasks.test.count,
                };
                // The tree panics on a leaf that counts twice.
                self.trees.entry(task).or_insert_with(|| Tree::new(count)).insert(
                    node,
                    Some(()),
                    |(), ()| (),
                );
            }
            Command::Commit { task, .. } => {
                assert!(self.trees[&task].root().is_some(), "{task} is complete");
                self.committed.push(task);
                return Some(Event::Updated { task });
            }
            Command::SendWeights { to, step } => match to {
                Recipient::All => self.workers.values_mut().for_each(|worker| worker.weights = step),
                Recipient::One(id) => self.workers.get_mut(&id).unwrap().weights = step,
            },
            Command::DropMember { worker, .. } => assert!(!self.workers.contains_key(&worker)),
            Command::Save { .. } => return Some(Event::Saved { durable: true }),
            Command::Revoke { worker, assignment, .. } => {
                let worker = self.workers.get_mut(&worker).expect("only members hold work");
                worker.nodes.retain(|(held, ..)| *held != assignment);
            }
            Command::Reject { .. }
            | Command::SetTimer { .. }
            | Command::Wait { .. }
            | Command::Stall { .. } => {}
            Command::Compare { task, node, .. } => {
                assert!(self.trees.contains_key(&task), "{node} of {task} is there to be compared with");
            }
            Command::RollBack { .. } | Command::Finish { .. } => unreachable!("nothing was refuted"),
        }
        None
    }
}

#[test]
fn whatever_workers_do_every_leaf_counts_once_and_the_run_ends() {
    for seed in 0..SEEDS {
        let mut cluster = Cluster::new(seed);
        let outcome = cluster.run();
        assert_eq!(outcome, Outcome::Done, "seed {seed}");
        let steps: Vec<u64> = cluster
            .committed
            .iter()
            .filter(|task| task.kind == TaskKind::Train)
            .map(|task| task.step)
            .collect();
        assert_eq!(steps, (1..=cluster.tasks.steps).collect::<Vec<_>>(), "seed {seed}");
        let validations =
            cluster.committed.iter().filter(|task| task.kind == TaskKind::Validate).count() as u64;
        let epochs = cluster.tasks.steps.div_ceil(cluster.tasks.steps_per_epoch);
        assert_eq!(validations, if cluster.tasks.validate.is_some() { epochs } else { 0 }, "seed {seed}");
        assert_eq!(cluster.committed.last().unwrap().kind, TaskKind::Test, "seed {seed}");
    }
}
