//! The sums under way in a simulated coordinator: the production tree, and what came in, for comparing copies and for
//! finding who was wrong. It decides nothing.

use lockstep_control::{Task, WorkerId};
use lockstep_reduction::{Node, Tree};

use crate::arithmetic::Value;

/// The trees of the tasks under way.
#[derive(Debug, Default)]
pub struct Sums(Vec<TaskSum>);

#[derive(Debug)]
struct TaskSum {
    task: Task,
    tree: Tree<Value>,
    received: Vec<Received>,
}

/// A node as it was counted.
#[derive(Clone, Debug)]
pub struct Received {
    /// Who sent it.
    pub worker: WorkerId,
    /// Which node.
    pub node: Node,
    /// Its sum; `None` if it has no examples.
    pub value: Option<Value>,
}

impl Sums {
    /// Puts a node into the tree of a task of `leaves` leaves.
    ///
    /// # Panics
    ///
    /// As the tree does, if a leaf is counted twice.
    pub fn combine(
        &mut self,
        task: Task,
        leaves: u32,
        worker: WorkerId,
        node: Node,
        value: Option<Value>,
        sum: impl FnMut(Value, Value) -> Value,
    ) {
        let at = self.0.iter().position(|sum| sum.task == task).unwrap_or_else(|| {
            self.0.push(TaskSum { task, tree: Tree::new(leaves), received: Vec::new() });
            self.0.len() - 1
        });
        self.0[at].received.push(Received { worker, node, value: value.clone() });
        self.0[at].tree.insert(node, value, sum);
    }

    /// The root of a complete task; `None` if it is not complete or has no examples.
    pub fn root(&self, task: Task) -> Option<Value> {
        self.0.iter().find(|sum| sum.task == task)?.tree.root()?.cloned()
    }

    /// What was counted for a node: the node itself, or what its parts add up to; `None` if a part of it went in with
    /// a larger node only.
    pub fn counted(
        &self,
        task: Task,
        node: Node,
        mut sum: impl FnMut(Value, Value) -> Value,
    ) -> Option<Option<Value>> {
        counted(self.received(task), node, &mut sum)
    }

    /// Everything that was counted for a task, in order of arrival.
    pub fn received(&self, task: Task) -> &[Received] {
        self.0.iter().find(|sum| sum.task == task).map_or(&[], |sum| &sum.received)
    }

    /// Forgets a task.
    pub fn forget(&mut self, task: Task) {
        self.0.retain(|sum| sum.task != task);
    }
}

fn counted(
    received: &[Received],
    node: Node,
    sum: &mut impl FnMut(Value, Value) -> Value,
) -> Option<Option<Value>> {
    if let Some(received) = received.iter().find(|received| received.node == node) {
        return Some(received.value.clone());
    }
    let (left, right) = node.children()?;
    Some(match (counted(received, left, sum)?, counted(received, right, sum)?) {
        (Some(left), Some(right)) => Some(sum(left, right)),
        (left, right) => left.or(right),
    })
}

#[cfg(test)]
mod tests {
    use lockstep_control::TaskKind;

    use super::*;
    use crate::arithmetic::Arithmetic;

    #[test]
    fn a_node_is_compared_with_itself_or_its_parts_and_else_not_at_all() {
        let toys = Arithmetic::new(1, false);
        let task = Task { kind: TaskKind::Train, step: 1 };
        let weights = toys.initial();
        let leaf = |at: u32| toys.leaf(task, at..at + 1, &weights);
        let plus = |left, right| toys.sum(left, right);
        let node = |level, index| Node::new(level, index).unwrap();
        let mut sums = Sums::default();
        for at in [1, 0] {
            sums.combine(task, 4, WorkerId(1), node(0, at), leaf(at), plus);
        }
        let right = toys.sum(leaf(2).unwrap(), leaf(3).unwrap());
        sums.combine(task, 4, WorkerId(2), node(1, 1), Some(right), plus);
        assert_eq!(sums.counted(task, node(0, 1), plus), Some(leaf(1)));
        let left = toys.sum(leaf(0).unwrap(), leaf(1).unwrap());
        assert_eq!(sums.counted(task, node(1, 0), plus), Some(Some(left)));
        assert_eq!(sums.counted(task, node(0, 2), plus), None);
        assert_eq!(sums.counted(task, node(2, 0), plus), Some(sums.root(task)));
        sums.forget(task);
        assert_eq!(sums.root(task), None);
    }
}
