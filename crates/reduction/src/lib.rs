//! The fixed reduction tree: node addressing, covers of intervals, the cut of a batch into leaves, the accumulator that
//! combines nodes in one order whatever order they arrive in, and the sums of the tasks under way.
//!
//! The integer part (`Node`, `cover`, `Cut`, `Task`) is all that the control plane uses of it.

mod cut;
mod node;
mod node_sum;
mod pool;
mod task;
mod task_sums;
mod tree;

pub use cut::{Cut, EVALUATION_BLOCK};
pub use node::{Cover, MAX_LEAVES, Node, cover};
pub use node_sum::{Answer, NodeSum, Payload, same_float};
pub use pool::{Buffer, Pool};
pub use task::{Task, TaskKind};
pub use task_sums::{Comparison, Received, TaskSums};
pub use tree::{Tree, sum_into};
