//! Files that must never be half written: model weights as safetensors, and small whole files.
//!
//! Owns how bytes reach the disk (`atomic`) and how named f32 tensors become a safetensors file (`model`). Knows
//! nothing of the convnet, of steps or of run directories: names, shapes, values and the metadata text come in as
//! arguments.

mod atomic;
mod error;
mod model;

pub use atomic::write_atomically;
pub use error::Error;
pub use model::{METADATA_KEY, StoredModel, StoredTensor, read_model, write_model};
