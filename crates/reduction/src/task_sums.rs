//! The sums of the tasks under way: a tree for each, and what came in, for comparing copies of an answer and for finding
//! who is wrong.

use std::fmt;

use crate::{Answer, Node, NodeSum, Payload, Task, Tree};

/// The trees of the tasks under way. `S` names who sent a node, `A` is what the answers hold.
pub struct TaskSums<S, A: Answer> {
    memory: <A::Sum as Payload>::Memory,
    /// Few: no more than the tasks that are handed out ahead.
    sums: Vec<TaskSum<S, A>>,
    /// Those of tasks that are over, whose memory is used again.
    spare: Vec<TaskSum<S, A>>,
}

struct TaskSum<S, A: Answer> {
    task: Task,
    tree: Tree<NodeSum<A::Sum>>,
    received: Vec<Received<S, NodeSum<A>>>,
}

/// The sum over a node as it was received.
#[derive(Clone, Debug)]
pub struct Received<S, V> {
    /// Who sent it.
    pub sender: S,
    /// Which node.
    pub node: Node,
    /// Its sum.
    pub value: V,
}

/// What comes of a node whose leaves are counted already.
#[derive(Clone, Debug)]
pub enum Comparison<S, V> {
    /// The same bits.
    Equal,
    /// Nothing is at hand to compare it with.
    Unchecked,
    /// Other bits than the sum of these.
    Differs(Vec<Received<S, V>>),
}

impl<S, A: Answer> fmt::Debug for TaskSums<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSums").finish_non_exhaustive()
    }
}

impl<S, V> Received<S, V> {
    /// The same node with its value in another form.
    pub fn map<W>(self, value: impl FnOnce(V) -> W) -> Received<S, W> {
        Received { sender: self.sender, node: self.node, value: value(self.value) }
    }
}

impl<S, V> Comparison<S, V> {
    /// The same finding with its values in another form.
    pub fn map<W>(self, mut value: impl FnMut(V) -> W) -> Comparison<S, W> {
        match self {
            Self::Equal => Comparison::Equal,
            Self::Unchecked => Comparison::Unchecked,
            Self::Differs(parts) => {
                Comparison::Differs(parts.into_iter().map(|part| part.map(&mut value)).collect())
            }
        }
    }
}

impl<S: Clone, A: Answer> TaskSums<S, A> {
    /// No task yet; additions take their memory from `memory`.
    pub fn new(memory: <A::Sum as Payload>::Memory) -> Self {
        Self { memory, sums: Vec::new(), spare: Vec::new() }
    }

    /// Puts a node into the tree of a task of `leaves` leaves, and sums as far as siblings are there; `value` is `None`
    /// if the node has no examples.
    ///
    /// # Panics
    ///
    /// If the node lies outside the tree, or it or a part of it was put in before.
    pub fn combine(&mut self, task: Task, leaves: u32, sender: S, node: Node, value: Option<NodeSum<A>>) {
        let at = match self.sums.iter().position(|sum| sum.task == task) {
            Some(at) => at,
            None => {
                let sum = self.begin(task, leaves);
                self.sums.push(sum);
                self.sums.len() - 1
            }
        };
        let Self { memory, sums, .. } = self;
        let TaskSum { tree, received, .. } = &mut sums[at];
        let sum = value.map(|value| {
            received.push(Received { sender, node, value: value.clone() });
            value.map(A::Sum::from)
        });
        tree.insert(node, sum, |left, right| left.plus(right, memory));
    }

    /// The sum over all leaves of a task; `None` if it is not complete or has no examples.
    pub fn root(&self, task: Task) -> Option<&NodeSum<A::Sum>> {
        self.find(task)?.tree.root()?
    }

    /// Compares a node of a task under way with what was counted for the same leaves.
    pub fn compare(&self, task: Task, node: Node, value: Option<&NodeSum<A>>) -> Comparison<S, NodeSum<A>> {
        let Some(sum) = self.find(task) else { return Comparison::Unchecked };
        let within = |inner: Node| {
            let (inner, outer) = (inner.leaves(), node.leaves());
            outer.start <= inner.start && inner.end <= outer.end
        };
        let parts: Vec<&Received<_, _>> = sum.received.iter().filter(|part| within(part.node)).collect();
        let counted = self.sum_of_parts(node, &parts);
        let examples = value.map_or(0, |value| value.examples);
        if counted.as_ref().map_or(0, |counted| counted.examples) != examples {
            // Some of it was counted as part of a larger node.
            return Comparison::Unchecked;
        }
        let equal = match (&counted, value) {
            (Some(counted), Some(value)) => value.equals(counted),
            _ => true,
        };
        if equal { Comparison::Equal } else { Comparison::Differs(parts.into_iter().cloned().collect()) }
    }

    /// The sum over a node from parts of it, left + right; `None` where there are none.
    fn sum_of_parts(&self, node: Node, parts: &[&Received<S, NodeSum<A>>]) -> Option<NodeSum<A::Sum>> {
        if let Some(part) = parts.iter().find(|part| part.node == node) {
            return Some(part.value.clone().map(A::Sum::from));
        }
        let (left, right) = node.children()?;
        match (self.sum_of_parts(left, parts), self.sum_of_parts(right, parts)) {
            (Some(left), Some(right)) => Some(left.plus(right, &self.memory)),
            (left, right) => left.or(right),
        }
    }

    /// The node to recompute after a task whose numbers are not finite: the first that came with such a number, else
    /// the first.
    pub fn suspect(&self, task: Task) -> Option<&Received<S, NodeSum<A>>> {
        let received = &self.find(task)?.received;
        received.iter().find(|received| !received.value.is_finite()).or(received.first())
    }

    /// Forgets everything received for a task.
    pub fn roll_back(&mut self, task: Task) {
        if let Some(at) = self.sums.iter().position(|sum| sum.task == task) {
            let mut sum = self.sums.swap_remove(at);
            sum.tree.clear();
            sum.received.clear();
            self.spare.push(sum);
        }
    }

    fn find(&self, task: Task) -> Option<&TaskSum<S, A>> {
        self.sums.iter().find(|sum| sum.task == task)
    }

    fn begin(&mut self, task: Task, leaves: u32) -> TaskSum<S, A> {
        match self.spare.iter().position(|sum| sum.tree.leaves() == leaves) {
            Some(at) => TaskSum { task, ..self.spare.swap_remove(at) },
            None => TaskSum { task, tree: Tree::new(leaves), received: Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TaskKind;

    const STEP: Task = Task { kind: TaskKind::Train, step: 1 };

    /// A sum that shows its own shape; a `!` in it is a number that is not finite.
    #[derive(Clone, Debug, PartialEq)]
    struct Text(String);

    impl Payload for Text {
        type Memory = ();

        fn plus(self, right: Self, (): &()) -> Self {
            Self(format!("({}+{})", self.0, right.0))
        }
    }

    impl Answer for Text {
        type Sum = Self;

        fn equals(&self, counted: &Self) -> bool {
            self == counted
        }

        fn is_finite(&self) -> bool {
            !self.0.contains('!')
        }
    }

    fn sum(examples: u32, text: &str) -> NodeSum<Text> {
        NodeSum { examples, loss: 0.0, correct: 0, payload: Text(text.to_string()) }
    }

    fn node(level: u32, index: u32) -> Node {
        Node::new(level, index).unwrap()
    }

    /// Leaves 1 and 0 of sender 1, and the right half of sender 2.
    fn sums() -> TaskSums<u32, Text> {
        let mut sums = TaskSums::new(());
        sums.combine(STEP, 4, 1, node(0, 1), Some(sum(1, "b")));
        sums.combine(STEP, 4, 1, node(0, 0), Some(sum(1, "a")));
        sums.combine(STEP, 4, 2, node(1, 1), Some(sum(2, "(c+d)")));
        sums
    }

    #[test]
    fn a_node_is_compared_with_itself_or_its_parts_and_else_not_at_all() {
        let sums = sums();
        let compare = |node, value: &NodeSum<Text>| sums.compare(STEP, node, Some(value));
        assert!(matches!(compare(node(0, 1), &sum(1, "b")), Comparison::Equal));
        assert!(matches!(compare(node(1, 0), &sum(2, "(a+b)")), Comparison::Equal));
        assert!(matches!(compare(node(2, 0), &sum(4, "((a+b)+(c+d))")), Comparison::Equal));
        assert!(matches!(compare(node(0, 2), &sum(1, "c")), Comparison::Unchecked));
        let Comparison::Differs(parts) = compare(node(1, 0), &sum(2, "(b+a)")) else { panic!("it differs") };
        let parts: Vec<_> = parts.iter().map(|part| (part.sender, part.node)).collect();
        assert_eq!(parts, [(1, node(0, 1)), (1, node(0, 0))]);
        let counts = |change: fn(&mut NodeSum<Text>)| {
            let mut other = sum(1, "b");
            change(&mut other);
            matches!(compare(node(0, 1), &other), Comparison::Differs(_))
        };
        assert!(counts(|other| other.loss = 0.5) && counts(|other| other.correct = 1));
        let over = sums.compare(Task { step: 2, ..STEP }, node(0, 1), Some(&sum(1, "b")));
        assert!(matches!(over, Comparison::Unchecked), "that task is not under way");
    }

    #[test]
    fn the_suspect_is_the_first_that_is_not_finite_else_the_first() {
        let mut sums = sums();
        assert_eq!(sums.suspect(STEP).unwrap().node, node(0, 1));
        let bad = Task { step: 2, ..STEP };
        assert!(sums.suspect(bad).is_none());
        sums.combine(bad, 4, 1, node(1, 0), Some(sum(2, "a")));
        sums.combine(bad, 4, 3, node(1, 1), Some(sum(2, "!")));
        assert_eq!(sums.suspect(bad).unwrap().sender, 3);
    }

    #[test]
    fn a_task_that_is_rolled_back_begins_anew() {
        let mut sums = sums();
        assert_eq!(sums.root(STEP), Some(&sum(4, "((a+b)+(c+d))")));
        sums.roll_back(STEP);
        assert_eq!((sums.root(STEP), sums.suspect(STEP).is_none()), (None, true));
        sums.combine(STEP, 4, 1, node(2, 0), Some(sum(4, "again")));
        assert_eq!(sums.root(STEP), Some(&sum(4, "again")));
        assert!(sums.spare.is_empty(), "the tree is used again");
        assert_eq!(sums.suspect(STEP).unwrap().node, node(2, 0), "nothing is left of what came before");
    }
}
