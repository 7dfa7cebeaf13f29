//! Finds the worker that computes wrongly: where two answers differ, or a result is not finite, nodes are computed again
//! in this process.

use std::collections::VecDeque;

use lockstep_control::{AssignmentId, Event, Task, WorkerId};
use lockstep_model::Cpu;
use lockstep_proto::{NodeResult, NodeValue};
use lockstep_reduction::Node;

use super::Run;
use crate::trainer::{Comparison, Received, same_answer};
use crate::transport::encode;

impl Run {
    /// Compares a node with what was counted for the same leaves: the second answer is an audit for free.
    pub(super) fn compare(
        &mut self,
        task: Task,
        worker: WorkerId,
        node: Node,
        value: Option<&NodeValue>,
        events: &mut VecDeque<Event>,
    ) {
        let comparison = self.trainer.compare(task, node, value);
        self.observers.compared(worker, task, &comparison);
        if let Comparison::Differs(counted) = comparison {
            let mut wrong = self.refuted(task, &counted, true);
            if wrong.is_empty() {
                wrong.push(Event::Refuted { worker, task, node, counted: false });
            }
            events.extend(wrong);
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
