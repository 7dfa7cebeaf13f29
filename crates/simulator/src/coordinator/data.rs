//! What a simulated coordinator does with sums and weights: the tree, comparing, the update, the checkpoints.

use lockstep_control::{Event, Task, TaskKind, WorkerId};
use lockstep_reduction::Node;

use super::Coordinator;
use crate::arithmetic::Value;
use crate::cluster::Cluster;
use crate::crash::Crash;
use crate::fact::Fact;

impl Cluster {
    pub(super) fn combine(
        &mut self,
        coordinator: &mut Coordinator,
        task: Task,
        worker: WorkerId,
        node: Node,
    ) {
        let arrived = coordinator.arrived.take().expect("a node was received");
        self.fact(Fact::Combined {
            coordinator: coordinator.id,
            worker,
            assignment: arrived.assignment,
            task,
            node,
            value: arrived.value.clone(),
        });
        let leaves = self.knobs.cut(task).0.leaves();
        let arithmetic = &self.arithmetic;
        coordinator
            .sums
            .combine(task, leaves, worker, node, arrived.value, |left, right| arithmetic.sum(left, right));
    }

    pub(super) fn compare(
        &mut self,
        coordinator: &mut Coordinator,
        task: Task,
        worker: WorkerId,
        node: Node,
    ) -> Option<Event> {
        let arrived = coordinator.arrived.take().expect("a node was received");
        let arithmetic = &self.arithmetic;
        let counted = coordinator.sums.counted(task, node, |left, right| arithmetic.sum(left, right));
        let equal = counted.map(|counted| counted == arrived.value);
        self.fact(Fact::Compared { coordinator: coordinator.id, task, node, equal });
        self.count(match equal {
            Some(true) => "copy equal",
            Some(false) => "copy different",
            None => "copy unchecked",
        });
        if equal != Some(false) {
            return None;
        }
        // Who is wrong, a recomputation tells.
        if self.recomputed(coordinator, task, node) != arrived.value {
            return Some(Event::Refuted { worker, task, node, counted: false });
        }
        self.wrong_node(coordinator, task, Some(node))
    }

    /// The first of the nodes counted, below `within` or anywhere, that a recomputation refutes.
    fn wrong_node(&self, coordinator: &Coordinator, task: Task, within: Option<Node>) -> Option<Event> {
        let received = coordinator.sums.received(task).iter().filter(|received| {
            within.is_none_or(|within| {
                let (outer, inner) = (within.leaves(), received.node.leaves());
                inner.start < outer.end && outer.start < inner.end
            })
        });
        let mut wrong =
            received.filter(|received| self.recomputed(coordinator, task, received.node) != received.value);
        let wrong = wrong.next()?;
        Some(Event::Refuted { worker: wrong.worker, task, node: wrong.node, counted: true })
    }

    fn recomputed(&self, coordinator: &Coordinator, task: Task, node: Node) -> Option<Value> {
        let (cut, first) = self.knobs.cut(task);
        self.node_sum(task, node, &coordinator.weights, &|leaf| {
            let examples = cut.positions(leaf..leaf + 1);
            first + examples.start..first + examples.end
        })
    }

    pub(super) fn commit(&mut self, coordinator: &mut Coordinator, task: Task) -> Result<Event, Crash> {
        let id = coordinator.id;
        let root = coordinator.sums.root(task).expect("a committed task is complete and has examples");
        let value = if task.kind == TaskKind::Train {
            let examples = self.knobs.cut(task).0.examples();
            let Some(updated) = self.arithmetic.update(&coordinator.weights, &root, examples) else {
                let diverged = Event::Diverged { step: task.step };
                return Ok(self.wrong_node(coordinator, task, None).unwrap_or(diverged));
            };
            coordinator.weights = updated.clone();
            coordinator.step = task.step;
            coordinator.examples += u64::from(examples);
            updated
        } else {
            root
        };
        coordinator.sums.forget(task);
        let examples = coordinator.examples;
        self.fact(Fact::Done { coordinator: id, task, value: value.clone(), examples });
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
        Ok(Event::Updated { task })
    }
}
