//! Who computes wrongly, where two answers or a result give cause to ask: nodes are computed again here.

use std::collections::VecDeque;

use lockstep_control::{AssignmentId, Event, Task, WorkerId};
use lockstep_model::Cpu;
use lockstep_proto::NodeResult;
use lockstep_reduction::Node;

use super::{Arrived, Run};
use crate::trainer::{Comparison, Received, same_answer};
use crate::transport::encode;

impl Run {
    /// Two answers for the same leaves are an audit for free.
    pub(super) fn compare(&mut self, task: Task, worker: WorkerId, node: Node, events: &mut VecDeque<Event>) {
        let Some(Arrived { value, .. }) = self.arrived.take() else { return };
        match self.trainer.compare(task, node, value.as_ref()) {
            Comparison::Equal => self.results.faults.copies_equal += 1,
            Comparison::Unchecked => self.results.faults.copies_unchecked += 1,
            Comparison::Differs(counted) => {
                let others: Vec<String> = counted.iter().map(|other| self.name_of(other.sender)).collect();
                let sentence = format!(
                    "a result of {} for {task} differs from what {} sent: one of them computes wrongly",
                    self.name_of(worker),
                    others.join(", ")
                );
                self.record("copies_differ", Some(worker), sentence);
                let mut wrong = self.refuted(task, &counted, true);
                if wrong.is_empty() {
                    wrong.push(Event::Refuted { worker, task, node, counted: false });
                }
                events.extend(wrong);
            }
        }
    }

    /// Those of the nodes received that their recomputation does not confirm.
    fn refuted(&mut self, task: Task, nodes: &[Received], counted: bool) -> Vec<Event> {
        let weights = encode::weights(self.fence, task.weights(), self.values.clone());
        let mut refuted = Vec::new();
        for Received { sender: worker, node, value } in nodes {
            let assignment = self.assignment(AssignmentId(0), task, node.leaves());
            let answers = lockstep_worker::recompute(Cpu::detect(), &weights, &assignment);
            let agrees = match &answers[..] {
                [NodeResult { value: Some(answer), .. }] => same_answer(answer, value),
                _ => false,
            };
            if !agrees {
                refuted.push(Event::Refuted { worker: *worker, task, node: *node, counted });
            }
        }
        refuted
    }

    /// Computes one suspect node of a task with numbers that are not finite: either training diverged, or its
    /// worker is at fault.
    pub(super) fn referee(&mut self, task: Task) -> Vec<Event> {
        let suspect: Vec<Received> = self.trainer.suspect(task).into_iter().collect();
        let mut wrong = self.refuted(task, &suspect, true);
        if wrong.is_empty() {
            wrong.push(Event::Diverged { step: task.step });
        }
        wrong
    }
}
