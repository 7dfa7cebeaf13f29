//! What can go wrong when a file is written or read back; every variant names the file. It never decides what the
//! caller does about it.

use std::{io, path::PathBuf};

use safetensors::{Dtype, SafeTensorError};

/// A file could not be written as asked, or what was read is not what this crate writes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused one part of a write; whatever stood at `path` before is untouched.
    #[error("cannot write {}: {action} failed: {source}", path.display())]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// The part that failed, as a noun phrase.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// What the disk gave back is not what was written.
    #[error(
        "cannot write {}: the disk gave back other bytes than were written (SHA-256 {actual}, expected {expected})",
        path.display()
    )]
    Corrupt {
        /// The file that was to be written.
        path: PathBuf,
        /// SHA-256 of the bytes handed in, as hex.
        expected: String,
        /// SHA-256 of the bytes read back, as hex.
        actual: String,
    },
    /// The values of a tensor do not fill its shape.
    #[error(
        "cannot write {}: tensor {tensor} of shape {shape:?} has {actual} values instead of {expected}",
        path.display()
    )]
    Shape {
        /// The file that was to be written.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// The shape given.
        shape: Vec<usize>,
        /// Values the shape asks for.
        expected: usize,
        /// Values given.
        actual: usize,
    },
    /// Two tensors have one name.
    #[error("cannot write {}: two tensors are called {tensor}", path.display())]
    DuplicateTensor {
        /// The file that was to be written.
        path: PathBuf,
        /// The name given twice.
        tensor: String,
    },
    /// The tensors cannot be expressed as safetensors.
    #[error("cannot write {}: {source}", path.display())]
    Encode {
        /// The file that was to be written.
        path: PathBuf,
        /// The format's reason.
        source: SafeTensorError,
    },
    /// The file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is larger than any model this program writes.
    #[error("{} is not a model of this program: it has {bytes} bytes, more than {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The largest size that is read.
        limit: u64,
    },
    /// The file is truncated, damaged or something else than safetensors.
    #[error("{} is no complete safetensors file: {source}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The format's reason.
        source: SafeTensorError,
    },
    /// A tensor holds something else than f32.
    #[error("{}: tensor {tensor} holds {dtype:?}, only F32 is read", path.display())]
    NotF32 {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Its element type.
        dtype: Dtype,
    },
}
