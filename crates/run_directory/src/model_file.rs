//! The network's weights as one safetensors file: written in the network's own layout, read in that or in PyTorch's.

use std::fmt::{Display, Write};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use lockstep_checkpoint::{Disk, FileSystem, StoredModel};
use lockstep_export::{NamedTensor, weights_of_tensors};
use lockstep_model::{PARAMETERS, TENSORS};

/// Writes `weights`, whole or not at all, with `metadata`, one JSON text.
///
/// # Errors
///
/// If the disk refuses.
pub fn write(path: &Path, weights: &[f32], metadata: &str) -> Result<(), lockstep_checkpoint::Error> {
    write_on(&Disk, path, weights, metadata)
}

/// [`write()`] on any file system.
///
/// # Errors
///
/// As [`write()`].
pub fn write_on(
    files: &dyn FileSystem,
    path: &Path,
    weights: &[f32],
    metadata: &str,
) -> Result<(), lockstep_checkpoint::Error> {
    let tensors = TENSORS.each_ref().map(|tensor| (tensor.name, tensor.shape, &weights[tensor.range()]));
    lockstep_checkpoint::write_model_on(files, path, &tensors, metadata)
}

/// Reads weights of any program.
///
/// # Errors
///
/// If there is no such file, it is no safetensors file of f32 tensors, or its tensors are not this network's.
pub fn read(path: &Path) -> Result<Box<[f32]>> {
    if let Err(error) = fs::metadata(path) {
        return Err(anyhow!(one_line(lockstep_dataset::why_not(path, &error))));
    }
    let unfit = || format!("{} does not fit this network", one_line(path.display()));
    // As words, without its causes, which say raw what the file says.
    let StoredModel { tensors, .. } =
        lockstep_checkpoint::read_model(path).map_err(|error| anyhow!(one_line(error)))?;
    let tensors: Vec<NamedTensor> = tensors
        .into_iter()
        .map(|tensor| NamedTensor { name: tensor.name, shape: tensor.shape, values: tensor.values })
        .collect();
    weights_of_tensors(&tensors).with_context(unfit)
}

/// `words` for a terminal: line breaks and other control characters, which a file's name may have, are escaped.
pub fn one_line(words: impl Display) -> String {
    let mut line = String::new();
    for character in words.to_string().chars() {
        // Writing to a String cannot fail.
        let _ = if character.is_control() {
            write!(line, "{}", character.escape_debug())
        } else {
            line.write_char(character)
        };
    }
    line
}

/// Stored tensors as the network's weights.
pub fn weights_of(model: &StoredModel) -> Result<Box<[f32]>, String> {
    let mut weights = vec![0.0; PARAMETERS].into_boxed_slice();
    for tensor in &TENSORS {
        let stored = model.tensor(tensor.name).ok_or_else(|| format!("tensor {} is missing", tensor.name))?;
        if stored.shape != tensor.shape {
            return Err(format!(
                "tensor {} has shape {:?} instead of {:?}",
                tensor.name, stored.shape, tensor.shape
            ));
        }
        weights[tensor.offset..tensor.offset + tensor.len()].copy_from_slice(&stored.values);
    }
    if model.tensors.len() != TENSORS.len() {
        return Err(format!("it has {} tensors instead of {}", model.tensors.len(), TENSORS.len()));
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use lockstep_export::pytorch;
    use lockstep_model::initial_weights;

    use super::*;

    #[test]
    fn both_layouts_read_back_as_the_same_bits() {
        let scratch = tempfile::tempdir().unwrap();
        let weights = initial_weights(9);
        let [own, theirs] = ["own", "theirs"].map(|name| scratch.path().join(name));
        write(&own, &weights, "{}").unwrap();
        let tensors = pytorch::tensors(&weights);
        let tensors: Vec<_> =
            tensors.iter().map(|tensor| (&*tensor.name, &*tensor.shape, &*tensor.values)).collect();
        lockstep_checkpoint::write_model(&theirs, &tensors, "{}").unwrap();
        assert_ne!(fs::read(&own).unwrap(), fs::read(&theirs).unwrap());
        for path in [own, theirs] {
            assert_eq!(lockstep_model::digest(&read(&path).unwrap()), lockstep_model::digest(&weights));
        }
    }

    #[test]
    fn a_refusal_names_the_file_and_the_tensor() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("other.safetensors");
        lockstep_checkpoint::write_model(&path, &[("conv1.kernel", &[2], &[0.0; 2])], "{}").unwrap();
        let message = format!("{:#}", read(&path).unwrap_err());
        assert_eq!(
            message,
            format!(
                "{} does not fit this network: its tensor conv1.kernel has the shape [2] instead of [3, 3, 1, 16]",
                path.display()
            )
        );
    }
}
