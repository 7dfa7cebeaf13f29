//! The convnet: parameters, initial values, shard gradients, SGD and the weights digest.
//!
//! Owns the shape of the network and the meaning of one flat buffer of [`PARAMETERS`] floats. All arithmetic with a
//! promised bit happens here and in the kernels; nothing here reads a clock, a file or the network.

pub mod digest;
pub mod initial;
pub mod join;
pub mod network;
pub mod parameters;
pub mod reference;
pub mod sgd;

pub use digest::{Digest, digest, digest_of_bytes};
pub use initial::initial_weights;
pub use join::{JOIN_TEST_DIGEST, cpu_description, join_test};
pub use lockstep_kernels::{Cpu, CpuError};
pub use network::{GROUP, Layer, Network, Part, Prediction, ShardResult, UnknownLayer, Workspace};
pub use parameters::{
    CLASSES, IMAGE_SIDE, PARAMETER_BYTES, PARAMETERS, PIXELS, TENSORS, TensorSpec, add_le_bytes, as_le_bytes,
    copy_from_le_bytes, copy_to_le_bytes, into_le_bytes,
};
pub use sgd::sgd_update;

/// Raised whenever any bit of a result can change; processes with different versions refuse each other.
pub const NUMERICS_VERSION: u32 = 2;
