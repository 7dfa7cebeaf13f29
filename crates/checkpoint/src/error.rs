//! What can go wrong when a file is written or read back; every variant names the file. It never decides what the
//! caller does about it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use safetensors::{Dtype, SafeTensorError};

use crate::{Disorder, hex};

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
    /// The file is larger than any of its kind that this program writes, or would become so.
    #[error("{} is too large: a file of its kind has at most {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size that is read, and written.
        limit: u64,
    },
    /// The file is truncated, damaged or something else than safetensors.
    #[error("{} is no complete safetensors file: {:.200}", path.display(), source.to_string())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The format's reason, which may repeat what the file says, at any length.
        source: SafeTensorError,
    },
    /// A tensor holds something else than f32.
    #[error(
        "{}: tensor {:.80} holds {dtype:?}, only F32 is read; save it as float32 (in PyTorch: `net.float()` before its \
         state is saved)",
        path.display(),
        tensor.escape_debug().to_string()
    )]
    NotF32 {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Its element type.
        dtype: Dtype,
    },
    /// A checkpoint of this very state is there, and valid: nothing is ever overwritten.
    #[error("{} is saved already, and checkpoints are never overwritten", path.display())]
    AlreadySaved {
        /// The manifest that is there.
        path: PathBuf,
    },
    /// So many leftovers are there that no free name was found.
    #[error("cannot write {}: it and {tried} names like it are taken; move these files away", path.display())]
    NoFreeName {
        /// The first name tried.
        path: PathBuf,
        /// Names tried.
        tried: u32,
    },
    /// The manifest cannot be expressed as JSON.
    #[error("cannot write {}: {source}", path.display())]
    Manifest {
        /// The file that was to be written.
        path: PathBuf,
        /// The format's reason.
        source: serde_json::Error,
    },
    /// The step log is one of another run or format.
    #[error(
        "{} is the log of something else: its {what} is {found}, here it is {expected}; resume the run in the directory \
         it was made in",
        path.display()
    )]
    OtherLog {
        /// The log.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// The value in the log, as hex or decimal.
        found: String,
        /// The value of this run.
        expected: String,
    },
    /// A record that must not follow the ones in the log; nothing was written.
    #[error("{} takes no such record: {disorder}", path.display())]
    Disorder {
        /// The log.
        path: PathBuf,
        /// Which order it would break.
        disorder: Disorder,
    },
    /// A write to a segment of the log failed, now or earlier: it takes no more records from this process.
    #[error("cannot write {}: {action} failed: {source}", path.display())]
    LogFailed {
        /// The segment.
        path: PathBuf,
        /// The part that failed, as a noun phrase.
        action: &'static str,
        /// The system's reason, the same for every call since.
        source: Arc<io::Error>,
    },
    /// Another coordinator claimed the same term in the same moment.
    #[error(
        "another coordinator has claimed term {term} of the run in {} in this very moment: only one may write there; \
         leave it to that one, or stop it and start again",
        directory.display()
    )]
    TermTaken {
        /// The run's directory.
        directory: PathBuf,
        /// The term.
        term: u64,
    },
    /// A coordinator of a higher term has taken over.
    #[error(
        "another coordinator goes on with the run in {}: it has claimed term {term}, and this one has term {own}, so \
         this one writes nothing more there; stop the other before you resume the run here",
        directory.display()
    )]
    Superseded {
        /// The run's directory.
        directory: PathBuf,
        /// The term of the other.
        term: u64,
        /// The term of this process.
        own: u64,
    },
    /// The term file is damaged.
    #[error(
        "{} is damaged: it must be the line \"term N\" twice, and is {found:?}; write it so, with an N higher than every \
         term in the names of the checkpoints and in the events of this run (a lower one lets two coordinators train \
         at once)",
        path.display()
    )]
    DamagedTerm {
        /// The file.
        path: PathBuf,
        /// What it holds, at most its first 80 characters.
        found: String,
    },
    /// Another process holds the lock.
    #[error(
        "{} is in use{}: only one coordinator may write there; stop it, or choose another directory",
        directory.display(),
        holder.as_ref().map(|pid| format!(" by process {pid}")).unwrap_or_default()
    )]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// The process that holds it, if it has said so.
        holder: Option<u32>,
    },
}

impl Error {
    /// For `map_err`: the system refused the part of a write to `path` called `action`.
    pub(crate) fn write(path: &Path, action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Write { path: path.to_path_buf(), action, source }
    }

    /// For `map_err`: the system refused to read `path`.
    pub(crate) fn read(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Read { path: path.to_path_buf(), source }
    }

    /// For `map_err`: as [`Error::read`], where [`crate::FileSystem::read`] was given `limit`.
    pub(crate) fn read_at_most(path: &Path, limit: u64) -> impl Fn(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::FileTooLarge => Self::TooLarge { path: path.to_path_buf(), limit },
            _ => Self::Read { path: path.to_path_buf(), source },
        }
    }

    /// What was read back has another SHA-256.
    pub(crate) fn corrupt(path: &Path, expected: &[u8; 32], actual: &[u8; 32]) -> Self {
        let (expected, actual) = (hex::encode(expected), hex::encode(actual));
        Self::Corrupt { path: path.to_path_buf(), expected, actual }
    }
}
