//! The end of a task: the update of the weights, or the result of an evaluation.

use std::collections::VecDeque;

use lockstep_control::{Event, Task, TaskKind};

use super::Run;

impl Run {
    /// Commits a complete task. Numbers that are not finite lead to a recomputation instead.
    pub(super) fn commit(&mut self, task: Task, events: &mut VecDeque<Event>) {
        let is_committed = match task.kind {
            TaskKind::Train => self.commit_step(task),
            TaskKind::Validate | TaskKind::Test => self.commit_evaluation(task),
        };
        if is_committed {
            events.push_back(Event::Updated { task });
        } else {
            events.extend(self.referee(task));
        }
    }

    /// Updates the weights, and hands them to the journal; `false` if a number is not finite.
    fn commit_step(&mut self, task: Task) -> bool {
        let Ok(means) = self.trainer.step(task) else { return false };
        let before = std::mem::replace(&mut self.values, self.trainer.weights_as_bytes());
        self.observers.updated(task.step);
        self.journal.committed(task.step, self.values.clone());
        self.observers.step_committed(task.step, means, &before, &self.values);
        true
    }

    /// Takes the result of an evaluation; `false` if its loss is not finite.
    fn commit_evaluation(&mut self, task: Task) -> bool {
        if !self.trainer.evaluation_is_finite(task) {
            self.observers.evaluation_not_finite();
            return false;
        }
        let (means, confusion) = self.trainer.evaluation(task);
        self.observers.evaluated(task, means, &confusion, &self.values);
        true
    }
}
