//! The folder of checkpoints: saving one, finding the newest, removing old ones.
//!
//! A save is two files, each written atomically and verified, and costs three fsyncs: one for each file and one for
//! the folder, after both have their names. In between a crash may keep either name without the other; then there is
//! no such checkpoint, and the ones before are as they were. Never overwrites a checkpoint, and never says "saved"
//! before it is.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use crate::{
    CheckpointName, Error, FileSystem, Manifest, Rejected, State, StoredModel, Tensor,
    atomic::{replace, sync_folder_of},
    hex, list_checkpoints, load_checkpoint,
    manifest::{MAX_MANIFEST_BYTES, SCHEMA_VERSION},
    model::{MAX_MODEL_BYTES, encode},
    stored::{DigestOf, load},
    sweep_temporaries,
};

/// The fewest checkpoints that are kept: rot in the newest must leave one to fall back to, and one to spare.
pub const MIN_KEPT: usize = 3;

/// A name is free unless a save of the same state failed, and left files that could not be removed.
const MAX_COPIES: u32 = 100;

/// The folder, open for saving; one process at a time, which holds the run's lock.
pub struct Checkpoints {
    files: Arc<dyn FileSystem>,
    directory: PathBuf,
    run_id: [u8; 16],
    /// All that seem to be there.
    names: BTreeSet<CheckpointName>,
    /// Those of them that were found to be none.
    rejected: BTreeSet<CheckpointName>,
}

/// The newest checkpoint, and what was fallen back over to find it.
#[derive(Debug)]
pub struct Newest {
    /// The newest valid checkpoint, if there is any.
    pub found: Option<(Manifest, StoredModel)>,
    /// The newer ones that are not valid, newest first.
    pub rejected: Vec<Rejected>,
}

impl Checkpoints {
    /// Opens the folder `directory` of the run `run_id`, makes it if it is not there (not its parents), and removes
    /// temporary files that a crash has left there.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] or [`Error::Write`] with the system's reason.
    pub fn open(files: Arc<dyn FileSystem>, directory: &Path, run_id: [u8; 16]) -> Result<Self, Error> {
        files.create_dir(directory).map_err(Error::write(directory, "making the folder"))?;
        // Also if it was there: the process that made it may have died before this.
        sync_folder_of(&*files, directory)?;
        sweep_temporaries(&*files, directory)?;
        let names = list_checkpoints(&*files, directory)?.into_iter().collect();
        Ok(Self { files, directory: directory.to_path_buf(), run_id, names, rejected: BTreeSet::new() })
    }

    /// Saves `tensors`, whose digest is `state.weights_digest`. When this returns, the checkpoint is durable and was
    /// read back.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadySaved`] if this state is; otherwise what [`crate::write_atomically`] and
    /// [`crate::write_model`] report, [`Error::TooLarge`], [`Error::Manifest`], or [`Error::NoFreeName`]. Nothing is
    /// saved then, and what was saved before is as it was; the caller may try again with the same or a later state.
    ///
    /// # Panics
    ///
    /// If `train_seconds` is not finite.
    pub fn save(&mut self, state: &State, tensors: &[Tensor]) -> Result<Manifest, Error> {
        let name = self.free_name(state)?;
        let (weights_path, path) =
            (self.directory.join(name.weights()), self.directory.join(name.manifest()));
        let weights = encode(&weights_path, tensors, &self.metadata(state))?;
        bounded(&weights_path, &weights, MAX_MODEL_BYTES)?;
        let manifest = self.manifest(state, &name, Sha256::digest(&weights).into());
        let text = manifest.encode().map_err(|source| Error::Manifest { path: path.clone(), source })?;
        bounded(&path, &text, MAX_MANIFEST_BYTES)?;

        let files = &*self.files;
        let saved = replace(files, &weights_path, &weights)
            .and_then(|()| replace(files, &path, &text))
            .and_then(|()| sync_folder_of(files, &path));
        if let Err(error) = saved {
            // The room may be needed. What cannot be removed is in no way: the next save takes another name.
            let _ = files.remove(&path);
            let _ = files.remove(&weights_path);
            return Err(error);
        }
        self.names.insert(name);
        Ok(manifest)
    }

    /// The newest valid checkpoint: of the highest step, after its validation before after the step alone, of the
    /// highest term. Those that are not valid are fallen back over and named.
    pub fn newest(&mut self, digest_of: DigestOf) -> Newest {
        let mut newest = Newest { found: None, rejected: Vec::new() };
        for name in self.names.iter().rev() {
            match load_checkpoint(&*self.files, &self.directory, name, &self.run_id, digest_of) {
                Ok(found) => {
                    newest.found = Some(found);
                    break;
                }
                Err(flaw) => {
                    newest.rejected.push(Rejected { path: self.directory.join(name.manifest()), flaw });
                    self.rejected.insert(*name);
                }
            }
        }
        newest
    }

    /// Removes all but the newest `keep` checkpoints (at least [`MIN_KEPT`]). Those that were found not to be valid
    /// are neither counted nor removed: somebody may want to look at them. To be called after a save, which has made
    /// the newest durable; the removals themselves need not be. Returns what could not be removed: that harms nothing.
    pub fn prune(&mut self, keep: usize) -> Vec<Error> {
        let valid = self.names.iter().rev().filter(|name| !self.rejected.contains(name));
        let old: Vec<_> = valid.skip(keep.max(MIN_KEPT)).copied().collect();
        let mut failures = Vec::new();
        for name in old {
            // The manifest first: weights without one are a leftover, a manifest without weights looks like rot.
            for file in [name.manifest(), name.weights()] {
                let path = self.directory.join(file);
                failures.extend(self.files.remove(&path).map_err(Error::write(&path, "removing it")).err());
            }
            // Once only: what fails now fails again, and each save would say so.
            self.names.remove(&name);
        }
        failures
    }

    /// The first name of this state that nothing has.
    fn free_name(&self, state: &State) -> Result<CheckpointName, Error> {
        let State { step, last_task, term, .. } = *state;
        let named = |copy| CheckpointName { step, last_task, term, copy };
        let exists = |file: String| {
            let path = self.directory.join(file);
            self.files.exists(&path).map_err(Error::read(&path))
        };
        for name in (1..=MAX_COPIES).map(named) {
            // Only a known one can have been saved: the files of a save that failed at the last fsync look like one.
            if self.names.contains(&name) && load(&*self.files, &self.directory, &name, &self.run_id).is_ok()
            {
                return Err(Error::AlreadySaved { path: self.directory.join(name.manifest()) });
            }
            if !exists(name.manifest())? && !exists(name.weights())? {
                return Ok(name);
            }
        }
        Err(Error::NoFreeName { path: self.directory.join(named(1).manifest()), tried: MAX_COPIES })
    }

    fn manifest(&self, state: &State, name: &CheckpointName, weights_file_sha256: [u8; 32]) -> Manifest {
        Manifest {
            schema_version: SCHEMA_VERSION,
            run_id: self.run_id,
            term: state.term,
            step: state.step,
            last_task: state.last_task,
            weights_digest: state.weights_digest,
            weights_file: name.weights(),
            weights_file_sha256,
            identity: state.identity.clone(),
            progress: state.progress.clone(),
        }
    }

    /// What the weights' file says about itself when it is found alone.
    fn metadata(&self, state: &State) -> String {
        serde_json::json!({
            "run_id": hex::encode(&self.run_id),
            "term": state.term,
            "step": state.step,
            "weights_digest": hex::encode(&state.weights_digest),
        })
        .to_string()
    }
}

/// What could not be read back must not be written.
fn bounded(path: &Path, bytes: &[u8], limit: u64) -> Result<(), Error> {
    if bytes.len() as u64 > limit { Err(Error::TooLarge { path: path.to_path_buf(), limit }) } else { Ok(()) }
}
