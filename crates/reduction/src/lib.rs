//! The fixed reduction tree: node addressing, covers of intervals, the cut of a batch into leaves, and the
//! accumulator that combines nodes in one order whatever order they arrive in.
//!
//! It knows neither workers nor the network nor what a leaf's value means; the integer part (`Node`, `cover`,
//! `Cut`) is all that the control plane uses of it.

mod cut;
mod node;
mod pool;
mod tree;

pub use cut::{Cut, EVALUATION_BLOCK};
pub use node::{Cover, MAX_LEAVES, Node, cover};
pub use pool::{Buffer, Pool};
pub use tree::{Tree, sum_into};
