//! What a run keeps on disk, so that a crash at any instant loses nothing that was said to be saved.
//!
//! Owns how bytes become durable (`files`, `atomic`), how named f32 tensors become a safetensors file (`model`), the
//! log of steps (`record`, `segment`, `records`, `history`, `step_log`), checkpoints (`manifest`, `stored`,
//! `checkpoints`), the fencing counter (`term`), what waits for the disk (`backlog`) and the lock on a run's directory
//! (`lock`). Knows nothing of the convnet or of when to save: names, shapes, values and the digest of the weights come in
//! as arguments. Has no clock, no thread and no randomness.
//!
//! Everything but the lock works on [`FileSystem`], so that a simulator can stand in for the disk.

mod atomic;
pub mod backlog;
mod checkpoints;
mod damage;
mod error;
mod file_system;
mod hex;
mod history;
mod journal;
mod lock;
mod manifest;
mod model;
mod note;
mod record;
mod records;
mod segment;
mod step_log;
mod stored;
mod term;

pub use atomic::{sweep_temporaries, write_atomically, write_atomically_on};
pub use checkpoints::{Checkpoints, MIN_KEPT, Newest};
pub use damage::Damage;
pub use error::Error;
pub use file_system::{Disk, FileSystem, Writable};
pub use history::{Digests, History, newest_logged_step};
pub use journal::{Journal, JournalError, JournalPaths, Opened, Proof};
pub use lock::RunLock;
pub use manifest::{LastTask, Manifest, Progress, State};
pub use model::{
    METADATA_KEY, StoredModel, StoredTensor, Tensor, encode_for_pytorch, read_model, write_model,
    write_model_on,
};
pub use note::Note;
pub use record::{Disorder, Kind, LogHeader, Record, RecordFlaw};
pub use records::{Entry, Records};
pub use step_log::{Limits, StepLog};
pub use stored::{CheckpointName, DigestOf, Flaw, Rejected, list_checkpoints, load_checkpoint};
pub use term::advance_term;
