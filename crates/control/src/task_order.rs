//! The order of tasks: steps, a validation after each epoch, a test at the end. A pure function.

use lockstep_reduction::{Task, TaskKind};

/// The tasks of a run and the leaves of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskOrder {
    /// Steps of an epoch, at least 1.
    pub steps_per_epoch: u64,
    /// The last step of the run, at least 1.
    pub steps: u64,
    /// How each kind of task is cut.
    pub train: Leaves,
    /// The validation set; `None` if it is empty.
    pub validate: Option<Leaves>,
    /// The test set.
    pub test: Leaves,
}

/// The leaves of one kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// All leaves: a power of two.
    pub count: u32,
    /// The most that one assignment may hold, at least 1.
    pub per_assignment: u32,
}

impl TaskOrder {
    /// The task to begin with, after what an earlier process of the run has done.
    pub(crate) fn first(&self, done: Option<Task>) -> Task {
        let Some(done) = done else { return Task { kind: TaskKind::Train, step: 1 } };
        // Only the test has nothing after it, and a run that ended is not begun again.
        self.after(done).unwrap_or(Task { kind: TaskKind::Test, step: done.step })
    }

    /// The task that follows one, or `None` after the last.
    pub(crate) fn after(&self, task: Task) -> Option<Task> {
        let Task { kind, step } = task;
        let kind = match kind {
            TaskKind::Train if self.validate.is_some() && self.ends_epoch(step) => TaskKind::Validate,
            TaskKind::Train | TaskKind::Validate if step == self.steps => TaskKind::Test,
            TaskKind::Train | TaskKind::Validate => {
                return Some(Task { kind: TaskKind::Train, step: step + 1 });
            }
            TaskKind::Test => return None,
        };
        Some(Task { kind, step })
    }

    /// The task that may be handed out while another is computed: nothing goes out beyond an evaluation, so that
    /// the time it takes is not counted as training.
    pub(crate) fn ahead_of(&self, task: Task) -> Option<Task> {
        self.after(task).filter(|_| task.kind == TaskKind::Train)
    }

    /// Whether a step is the last of its epoch; the last epoch may end early, with the run.
    pub fn ends_epoch(&self, step: u64) -> bool {
        step == self.steps || step.is_multiple_of(self.steps_per_epoch)
    }

    pub(crate) fn leaves(&self, kind: TaskKind) -> Leaves {
        match kind {
            TaskKind::Train => self.train,
            // Only planned where the set exists.
            TaskKind::Validate => self.validate.unwrap_or(Leaves { count: 1, per_assignment: 1 }),
            TaskKind::Test => self.test,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tasks: TaskOrder) -> Vec<String> {
        std::iter::successors(Some(tasks.first(None)), |task| tasks.after(*task))
            .map(|task| task.to_string())
            .collect()
    }

    const LEAVES: Leaves = Leaves { count: 4, per_assignment: 4 };

    #[test]
    fn every_epoch_is_validated_and_the_run_tested() {
        let tasks =
            TaskOrder { steps_per_epoch: 2, steps: 3, train: LEAVES, validate: Some(LEAVES), test: LEAVES };
        let expected = [
            "step 1",
            "step 2",
            "the validation after step 2",
            "step 3",
            "the validation after step 3",
            "the test after step 3",
        ];
        assert_eq!(names(tasks), expected);
    }

    #[test]
    fn without_a_validation_set_only_the_test_is_evaluated() {
        let tasks = TaskOrder { steps_per_epoch: 1, steps: 2, train: LEAVES, validate: None, test: LEAVES };
        assert_eq!(names(tasks), ["step 1", "step 2", "the test after step 2"]);
    }
}
