//! What a simulated coordinator does with sums and weights: the tree, comparing, the update, the checkpoints.

use lockstep_checkpoint::Proof;
use lockstep_control::{Event, Task, TaskKind, WorkerId};
use lockstep_reduction::Node;

use super::{Coordinator, Snapshot};
use crate::arithmetic::Value;
use crate::cluster::{Cluster, Happening};
use crate::crash::Crash;
use crate::fact::{CoordinatorId, Fact};

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
            if let Some(crash) = self.crash_at("after the update, before its record") {
                return Err(crash);
            }
            match coordinator.storage.committed(task.step, &value) {
                Ok(Proof::Proved) => self.fact(Fact::Proved { coordinator: id, step: task.step }),
                Ok(Proof::Appended) => {}
                Ok(Proof::Resumed { .. }) => self.count("log resumed behind a gap"),
                Ok(Proof::Unrecorded) => self.count("step not recorded"),
                Err(reason) => {
                    self.fact(Fact::NotProved { coordinator: id, step: task.step, reason });
                    return Ok(Event::Contradicted { step: task.step });
                }
            }
            if let Some(crash) = self.disk_crash(id).or_else(|| self.crash_at("after the step's record")) {
                return Err(crash);
            }
        }
        Ok(Event::Updated { task })
    }

    pub(super) fn save_later(&mut self, coordinator: CoordinatorId) {
        let [low, high] = self.knobs.disk_us;
        let at = self.now + self.network_chance.between(low, high);
        self.at(at, Happening::Save { coordinator });
    }

    /// Writes the checkpoint that waits longest.
    pub(crate) fn save(&mut self, id: CoordinatorId) {
        let Some(durable) = self.write_checkpoint(id) else { return };
        let more = self.coordinators[id].as_ref().is_some_and(|coordinator| !coordinator.saves.is_empty());
        if more {
            self.save_later(id);
        }
        self.drive(id, Event::Saved { durable });
    }

    /// `None` if the process was killed at it, or nothing waits.
    pub(super) fn write_checkpoint(&mut self, id: CoordinatorId) -> Option<bool> {
        let coordinator = self.coordinators[id].as_mut()?;
        let snapshot = coordinator.saves.pop_front()?;
        let Snapshot { after, weights, examples } = snapshot;
        let failure = coordinator.storage.save(after, &weights, examples).err();
        if let Some(crash) = self.disk_crash(id) {
            self.kill_coordinator(id, crash, false);
            return None;
        }
        let durable = failure.is_none();
        self.count(if durable { "checkpoint saved" } else { "checkpoint failed" });
        self.fact(Fact::Saved { coordinator: id, after, failure });
        Some(durable)
    }
}
