//! Checkpoints as they lie in their folder: their names, and reading one with every check there is.
//!
//! A checkpoint exists if and only if [`load_checkpoint`] accepts it: a valid manifest, and the weights that it names.
//! Never changes a file.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{
    Error, FileSystem, LastTask, Manifest, StoredModel, hex,
    manifest::MAX_MANIFEST_BYTES,
    model::{MAX_MODEL_BYTES, decode},
};

/// Computes the digest of stored weights in the network's own order, or says why they are not this network's.
pub type DigestOf<'a> = &'a dyn Fn(&StoredModel) -> Result<[u8; 32], String>;

/// The name of a checkpoint; the greatest is the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointName {
    /// The last completed step.
    pub step: u64,
    /// What was completed last at that step.
    pub last_task: LastTask,
    /// The term of the coordinator that saved it.
    pub term: u64,
    /// 1, or more where leftovers of a save that failed have the names before.
    pub copy: u32,
}

/// A checkpoint that was looked at and is none, and why. Its `Display` is one sentence for people.
#[derive(Debug)]
pub struct Rejected {
    /// Its manifest.
    pub path: PathBuf,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// Why files that are called like a checkpoint are none.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// The system refused to read the manifest.
    #[error("its manifest cannot be read: {0}")]
    ManifestUnreadable(io::Error),
    /// The manifest is not as it was written.
    #[error("its manifest is torn or rotten: its checksum is wrong")]
    ManifestDamaged,
    /// Another version of this program wrote it.
    #[error("its manifest has the schema version {found}, this program reads {expected}")]
    SchemaVersion {
        /// The manifest's version.
        found: u32,
        /// The version that is read.
        expected: u32,
    },
    /// The manifest lacks a field or has one too many.
    #[error("its manifest is not understood: {0}")]
    ManifestSyntax(serde_json::Error),
    /// It is of another run.
    #[error("it belongs to run {found}, and this is run {expected}")]
    OtherRun {
        /// The manifest's run id, as hex.
        found: String,
        /// This run's id, as hex.
        expected: String,
    },
    /// Its name is not the one it was saved under.
    #[error("its manifest belongs to {found}: the file was renamed or copied")]
    Renamed {
        /// Name of the weights' file that the manifest belongs to.
        found: String,
    },
    /// The system refused to read the weights.
    #[error("its weights cannot be read: {0}")]
    WeightsUnreadable(io::Error),
    /// The weights file is not as it was written.
    #[error("its weights file is torn or rotten: its SHA-256 is {actual}, the manifest says {expected}")]
    WeightsDamaged {
        /// SHA-256 of the file, as hex.
        actual: String,
        /// SHA-256 in the manifest, as hex.
        expected: String,
    },
    /// The weights file is as it was written, and yet not a model.
    #[error("its weights are no model: {0}")]
    WeightsSyntax(Box<Error>),
    /// The tensors are those of another network.
    #[error("its weights are not this network's: {0}")]
    OtherNetwork(String),
    /// The weights are others than the manifest says.
    #[error("its weights have the digest {actual}, the manifest says {expected}")]
    OtherWeights {
        /// Digest of the weights, as hex.
        actual: String,
        /// Digest in the manifest, as hex.
        expected: String,
    },
}

/// The names of all checkpoints that seem to be in `directory`, oldest first. Whether one is valid is for
/// [`load_checkpoint`] to say.
///
/// # Errors
///
/// [`Error::Read`] with the system's reason.
pub fn list_checkpoints(files: &dyn FileSystem, directory: &Path) -> Result<Vec<CheckpointName>, Error> {
    let listed = files.list(directory).map_err(Error::read(directory))?;
    let mut names: Vec<_> =
        listed.iter().filter_map(|name| CheckpointName::parse(name.strip_suffix(".json")?)).collect();
    names.sort_unstable();
    Ok(names)
}

/// Reads the checkpoint `name` of the run `run_id` and proves that it is whole: both files as they were written, and
/// weights of the digest that the manifest says.
///
/// # Errors
///
/// The first [`Flaw`] found.
pub fn load_checkpoint(
    files: &dyn FileSystem,
    directory: &Path,
    name: &CheckpointName,
    run_id: &[u8; 16],
    digest_of: DigestOf,
) -> Result<(Manifest, StoredModel), Flaw> {
    let (manifest, model) = load(files, directory, name, run_id)?;
    let actual = digest_of(&model).map_err(Flaw::OtherNetwork)?;
    if actual != manifest.weights_digest {
        let expected = hex::encode(&manifest.weights_digest);
        return Err(Flaw::OtherWeights { actual: hex::encode(&actual), expected });
    }
    Ok((manifest, model))
}

/// As [`load_checkpoint`], but for the digest of the weights.
pub(crate) fn load(
    files: &dyn FileSystem,
    directory: &Path,
    name: &CheckpointName,
    run_id: &[u8; 16],
) -> Result<(Manifest, StoredModel), Flaw> {
    let text =
        files.read(&directory.join(name.manifest()), MAX_MANIFEST_BYTES).map_err(Flaw::ManifestUnreadable)?;
    let manifest = Manifest::decode(&text)?;
    if manifest.run_id != *run_id {
        return Err(Flaw::OtherRun { found: hex::encode(&manifest.run_id), expected: hex::encode(run_id) });
    }
    // The path is made from the name, never from what a file says.
    if manifest.weights_file != name.weights() {
        return Err(Flaw::Renamed { found: manifest.weights_file });
    }

    let path = directory.join(name.weights());
    let bytes = files.read(&path, MAX_MODEL_BYTES).map_err(Flaw::WeightsUnreadable)?;
    let actual: [u8; 32] = Sha256::digest(&bytes).into();
    if actual != manifest.weights_file_sha256 {
        let expected = hex::encode(&manifest.weights_file_sha256);
        return Err(Flaw::WeightsDamaged { actual: hex::encode(&actual), expected });
    }
    let model = decode(&path, &bytes).map_err(|error| Flaw::WeightsSyntax(Box::new(error)))?;
    Ok((manifest, model))
}

impl CheckpointName {
    /// Name of the manifest's file.
    pub fn manifest(&self) -> String {
        format!("{self}.json")
    }

    /// Name of the weights' file.
    pub fn weights(&self) -> String {
        format!("{self}.safetensors")
    }

    /// Only what `Display` writes.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("step-")?.split('-').peekable();
        let step = parts.next()?.parse().ok()?;
        parts.next_if_eq(&"term")?;
        let term = parts.next()?.parse().ok()?;
        let last_task = parts.next_if_eq(&"validation").map_or(LastTask::Step, |_| LastTask::Validation);
        let copy = parts.next().map_or(Some(1), |copy| copy.parse().ok())?;
        let name = Self { step, last_task, term, copy };
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step-{:08}-term-{}", self.step, self.term)?;
        if self.last_task == LastTask::Validation {
            write!(f, "-validation")?;
        }
        if self.copy > 1 {
            write!(f, "-{}", self.copy)?;
        }
        Ok(())
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no checkpoint to resume from: {}", self.path.display(), self.flaw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_sort_by_age() {
        let name = |step, last_task, term, copy| CheckpointName { step, last_task, term, copy };
        let names = [
            ("step-00000099-term-12", name(99, LastTask::Step, 12, 1)),
            ("step-00000100-term-1", name(100, LastTask::Step, 1, 1)),
            ("step-00000100-term-1-2", name(100, LastTask::Step, 1, 2)),
            ("step-00000100-term-2", name(100, LastTask::Step, 2, 1)),
            ("step-00000100-term-1-validation", name(100, LastTask::Validation, 1, 1)),
            ("step-00000100-term-1-validation-17", name(100, LastTask::Validation, 1, 17)),
            ("step-123456789-term-1", name(123_456_789, LastTask::Step, 1, 1)),
        ];
        for (text, name) in names {
            assert_eq!(CheckpointName::parse(text), Some(name), "{text}");
            assert_eq!(name.to_string(), text);
        }
        assert!(names.is_sorted_by_key(|(_, name)| *name));
    }

    #[test]
    fn other_names_are_none() {
        for text in [
            "",
            "step-1-term-1",
            "step-00000001",
            "step-00000001-term",
            "step-00000001-term-01",
            "step-00000001-term-1-1",
            "step-00000001-term-1-0",
            "step-00000001-term-1-test",
            "step-00000001-term-1-2-3",
            "step-+0000001-term-1",
            "step-00000001-term-1-validation-",
            "step-00000001-term-99999999999999999999",
            " step-00000001-term-1",
        ] {
            assert_eq!(CheckpointName::parse(text), None, "{text:?}");
        }
    }
}
