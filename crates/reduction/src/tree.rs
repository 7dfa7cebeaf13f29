//! The accumulator: nodes go in in any order, and are combined as left + right, each pair once.

use crate::Node;

/// Combines the nodes of one perfect binary tree up to its root.
///
/// What is added to what depends on the addresses alone, never on the order of arrival; an absent node (one
/// without examples) is no zero: its sibling passes through unchanged.
#[derive(Debug)]
pub struct Tree<V> {
    levels: u32,
    /// In heap order: the root at 1, the children of `i` at `2i` and `2i + 1`.
    slots: Vec<Slot<V>>,
}

#[derive(Debug)]
enum Slot<V> {
    Missing,
    Absent,
    Present(V),
    /// It was combined into its parent.
    Used,
}

impl<V> Tree<V> {
    /// An empty tree over `leaves` leaves.
    ///
    /// # Panics
    ///
    /// If `leaves` is not a power of two.
    pub fn new(leaves: u32) -> Self {
        assert!(leaves.is_power_of_two(), "a tree of {leaves} leaves");
        let mut slots = Vec::new();
        slots.resize_with(2 * leaves as usize, || Slot::Missing);
        Self { levels: leaves.ilog2(), slots }
    }

    /// The number of leaves.
    pub fn leaves(&self) -> u32 {
        1 << self.levels
    }

    /// Forgets all values, for the next task of the same size.
    pub fn clear(&mut self) {
        self.slots.fill_with(|| Slot::Missing);
    }

    /// Puts in a node's sum (`None`: it has no examples) and combines it upwards as far as siblings are there.
    /// `sum(left, right)` is left + right.
    ///
    /// # Panics
    ///
    /// If the node lies outside the tree, or it or a part of it was put in before.
    pub fn insert(&mut self, node: Node, value: Option<V>, mut sum: impl FnMut(V, V) -> V) {
        assert!(
            node.level() <= self.levels && node.leaves().end <= 1 << self.levels,
            "{node} is outside the tree"
        );
        let mut at = (1usize << (self.levels - node.level())) + node.index() as usize;
        let mut value = value;
        loop {
            assert!(matches!(self.slots[at], Slot::Missing), "{node} was counted before");
            let sibling = at ^ 1;
            if at == 1 || matches!(self.slots[sibling], Slot::Missing) {
                self.slots[at] = value.map_or(Slot::Absent, Slot::Present);
                return;
            }
            self.slots[at] = Slot::Used;
            let other = match std::mem::replace(&mut self.slots[sibling], Slot::Used) {
                Slot::Present(other) => Some(other),
                Slot::Absent => None,
                Slot::Missing | Slot::Used => {
                    unreachable!("the sibling of a new node is complete and unused")
                }
            };
            let (left, right) = if at < sibling { (value, other) } else { (other, value) };
            value = match (left, right) {
                (Some(left), Some(right)) => Some(sum(left, right)),
                (left, right) => left.or(right),
            };
            at /= 2;
        }
    }

    /// The sum over all leaves once every leaf is in; `None` before, and `Some(None)` if no leaf had examples.
    pub fn root(&self) -> Option<Option<&V>> {
        match &self.slots[1] {
            Slot::Present(value) => Some(Some(value)),
            Slot::Absent => Some(None),
            Slot::Missing | Slot::Used => None,
        }
    }
}

/// `left[i] = left[i] + right[i]`.
///
/// # Panics
///
/// If the lengths differ.
pub fn sum_into(left: &mut [f32], right: &[f32]) {
    assert_eq!(left.len(), right.len(), "two nodes of one tree have one length");
    for (left, right) in left.iter_mut().zip(right) {
        *left += right;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cover;

    /// Sums that show their own shape.
    fn text(left: String, right: String) -> String {
        format!("({left}+{right})")
    }

    fn leaves(tree: &mut Tree<String>, order: impl Iterator<Item = u32>) {
        for leaf in order {
            let value = (leaf != 2).then(|| leaf.to_string());
            tree.insert(Node::new(0, leaf).unwrap(), value, text);
        }
    }

    #[test]
    fn the_shape_of_the_sum_does_not_depend_on_arrival() {
        let expected = "(((0+1)+3)+((4+5)+(6+7)))";
        let mut tree = Tree::new(8);
        leaves(&mut tree, 0..8);
        assert_eq!(tree.root(), Some(Some(&expected.to_string())));
        tree.clear();
        assert_eq!(tree.root(), None);
        leaves(&mut tree, (0..8).rev());
        assert_eq!(tree.root(), Some(Some(&expected.to_string())));
        tree.clear();
        leaves(&mut tree, [3, 6, 1, 4, 7, 0, 2, 5].into_iter());
        assert_eq!(tree.root(), Some(Some(&expected.to_string())));
    }

    #[test]
    fn any_interval_may_be_summed_elsewhere() {
        for split in 0..=8 {
            let mut whole = Tree::new(8);
            for interval in [split..8, 0..split] {
                for node in cover(interval) {
                    let mut part = Tree::new(node.leaf_count());
                    for leaf in 0..node.leaf_count() {
                        let name = (node.leaves().start + leaf).to_string();
                        part.insert(Node::new(0, leaf).unwrap(), Some(name), text);
                    }
                    whole.insert(node, part.root().unwrap().cloned(), text);
                }
            }
            assert_eq!(whole.root(), Some(Some(&"(((0+1)+(2+3))+((4+5)+(6+7)))".to_string())), "{split}");
        }
    }

    #[test]
    fn a_tree_without_examples_has_a_root_without_value() {
        let mut tree = Tree::<String>::new(1);
        tree.insert(Node::new(0, 0).unwrap(), None, text);
        assert_eq!(tree.root(), Some(None));
    }

    #[test]
    #[should_panic(expected = "counted before")]
    fn a_node_counts_once() {
        let mut tree = Tree::new(4);
        leaves(&mut tree, [0, 0].into_iter());
    }

    #[test]
    #[should_panic(expected = "counted before")]
    fn a_part_of_a_counted_node_does_not_count_again() {
        let mut tree = Tree::new(4);
        tree.insert(Node::new(0, 1).unwrap(), Some("1".to_string()), text);
        tree.insert(Node::new(0, 0).unwrap(), Some("0".to_string()), text);
        tree.insert(Node::new(1, 0).unwrap(), Some("both".to_string()), text);
    }
}
