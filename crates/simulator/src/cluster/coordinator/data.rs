//! What a simulated coordinator does with sums and weights: combining, comparing, the update.

use lockstep_control::{Event, Task, TaskKind, WorkerId};
use lockstep_reduction::{Comparison, Node, NodeSum, Received};

use super::Coordinator;
use crate::arithmetic::Value;
use crate::cluster::Cluster;
use crate::cluster::crash::Crash;
use crate::observed::Observed;

impl Cluster {
    pub(super) fn combine(
        &mut self,
        coordinator: &mut Coordinator,
        task: Task,
        worker: WorkerId,
        node: Node,
    ) {
        let arrived = coordinator.arrived.take().expect("a node was received");
        self.observe(Observed::Combined {
            coordinator: coordinator.id,
            worker,
            assignment: arrived.assignment,
            task,
            node,
            value: arrived.value.clone(),
        });
        let leaves = self.knobs.cut(task).0.leaves();
        let value = self.node_value(task, node, arrived.value);
        coordinator.sums.combine(task, leaves, worker, node, value);
    }

    /// A sum as a coordinator counts it; what a worker would lie about is in the payload.
    fn node_value(&self, task: Task, node: Node, value: Option<Value>) -> Option<NodeSum<Value>> {
        let examples = self.knobs.cut(task).0.positions(node.leaves()).len() as u32;
        value.map(|payload| NodeSum { examples, loss: 0.0, correct: 0, payload })
    }

    pub(super) fn compare(
        &mut self,
        coordinator: &mut Coordinator,
        task: Task,
        worker: WorkerId,
        node: Node,
    ) -> Vec<Event> {
        let arrived = coordinator.arrived.take().expect("a node was received");
        let value = self.node_value(task, node, arrived.value);
        let comparison = coordinator.sums.compare(task, node, value.as_ref());
        let (equal, class) = match comparison {
            Comparison::Equal => (Some(true), "copy equal"),
            Comparison::Unchecked => (None, "copy unchecked"),
            Comparison::Differs(_) => (Some(false), "copy different"),
        };
        self.observe(Observed::Compared { coordinator: coordinator.id, task, node, equal });
        self.count(class);
        let Comparison::Differs(counted) = comparison else { return Vec::new() };
        // Who is wrong, a recomputation tells.
        let mut wrong = self.refuted(coordinator, task, &counted);
        if wrong.is_empty() {
            wrong.push(Event::Refuted { worker, task, node, counted: false });
        }
        wrong
    }

    /// Those of the nodes counted that their recomputation does not confirm.
    fn refuted(
        &self,
        coordinator: &Coordinator,
        task: Task,
        counted: &[Received<WorkerId, NodeSum<Value>>],
    ) -> Vec<Event> {
        let wrong = counted.iter().filter(|received| {
            self.recomputed(coordinator, task, received.node).as_ref() != Some(&received.value.payload)
        });
        wrong
            .map(|received| Event::Refuted {
                worker: received.sender,
                task,
                node: received.node,
                counted: true,
            })
            .collect()
    }

    /// Recomputes one suspect node of a step that is not finite.
    fn referee(&self, coordinator: &Coordinator, task: Task) -> Vec<Event> {
        let suspect: Vec<_> = coordinator.sums.suspect(task).cloned().into_iter().collect();
        let mut wrong = self.refuted(coordinator, task, &suspect);
        if wrong.is_empty() {
            wrong.push(Event::Diverged { step: task.step });
        }
        wrong
    }

    fn recomputed(&self, coordinator: &Coordinator, task: Task, node: Node) -> Option<Value> {
        let (cut, first) = self.knobs.cut(task);
        self.node_sum(task, node, &coordinator.weights, &|leaf| {
            let examples = cut.positions(leaf..leaf + 1);
            first + examples.start..first + examples.end
        })
    }

    pub(super) fn commit(&mut self, coordinator: &mut Coordinator, task: Task) -> Result<Vec<Event>, Crash> {
        let id = coordinator.id;
        let root = coordinator.sums.root(task).expect("a committed task is complete and has examples");
        let root = root.payload.clone();
        let value = if task.kind == TaskKind::Train {
            let examples = self.knobs.cut(task).0.examples();
            let Some(updated) = self.arithmetic.update(&coordinator.weights, &root, examples) else {
                return Ok(self.referee(coordinator, task));
            };
            coordinator.weights = updated.clone();
            coordinator.step = task.step;
            coordinator.examples += u64::from(examples);
            updated
        } else {
            root
        };
        coordinator.sums.roll_back(task);
        let examples = coordinator.examples;
        self.observe(Observed::Done { coordinator: id, task, value: value.clone(), examples });
        if task.kind == TaskKind::Train {
            if let Some(crash) = self.crash_at("after the update, before it waits for its record") {
                return Err(crash);
            }
            self.record_step(coordinator, task.step, value);
            if let Some(crash) = self.crash_at("while the step waits for its record") {
                return Err(crash);
            }
        }
        self.record_line(coordinator, task);
        Ok(vec![Event::Updated { task }])
    }
}
