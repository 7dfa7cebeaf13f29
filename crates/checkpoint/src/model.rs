//! Named f32 tensors as one safetensors file, with one JSON text as metadata.
//!
//! Owns the bytes of that file: the same tensors and the same metadata give the same bytes. Never interprets names,
//! shapes or the metadata: whether these are *this* network's weights is for the model to say.

use std::{collections::HashMap, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{Disk, Error, FileSystem, write_atomically_on};

/// The only metadata key of ours. The library keeps metadata in a hash map of random order, so a second key would make
/// the bytes differ from run to run; whatever there is to say goes into one JSON text.
pub const METADATA_KEY: &str = "lockstep";

/// How the header of a file with metadata begins.
const HEADER_START: &str = "{\"__metadata__\":{";

/// Hugging Face's loaders take a file only if it says that its layout is PyTorch's.
const PYTORCH_FORMAT: &str = "\"format\":\"pt\",";

/// The convnet has 134 kB, however it was saved; a file of more than this is a mistake, and is not read into memory, of which
/// a header that names many tensors takes twenty times its bytes.
pub(crate) const MAX_MODEL_BYTES: u64 = 4 << 20;

/// A tensor to write: its name, its shape, its values row-major.
pub type Tensor<'a> = (&'a str, &'a [usize], &'a [f32]);

/// A safetensors file as read back.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredModel {
    /// The tensors in the file's own order, which is by name.
    pub tensors: Vec<StoredTensor>,
    /// The JSON text under [`METADATA_KEY`]; absent in files written by other programs.
    pub metadata: Option<String>,
}

/// One tensor of a [`StoredModel`].
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    /// Its name, unique in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major; as many as the shape asks for.
    pub values: Vec<f32>,
}

impl StoredModel {
    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

/// Writes `tensors` (name, shape, row-major values) and `metadata` (one JSON text) to `path`, as
/// [`write_atomically_on`] does.
///
/// # Errors
///
/// [`Error::Shape`] or [`Error::DuplicateTensor`] for tensors that contradict themselves, otherwise what
/// [`write_atomically_on`] reports.
pub fn write_model(path: &Path, tensors: &[Tensor], metadata: &str) -> Result<(), Error> {
    write_model_on(&Disk, path, tensors, metadata)
}

/// [`write_model`] on any file system.
///
/// # Errors
///
/// As [`write_model`].
pub fn write_model_on(
    files: &dyn FileSystem,
    path: &Path,
    tensors: &[Tensor],
    metadata: &str,
) -> Result<(), Error> {
    write_atomically_on(files, path, &encode(path, tensors, metadata)?)
}

/// Reads a safetensors file of f32 tensors. Its size, the header and every tensor's extent are checked before any
/// value is looked at.
///
/// # Errors
///
/// [`Error::Read`], [`Error::TooLarge`], [`Error::Decode`] for a truncated or damaged file, [`Error::NotF32`].
pub fn read_model(path: &Path) -> Result<StoredModel, Error> {
    let bytes = Disk.read(path, MAX_MODEL_BYTES).map_err(Error::read_at_most(path, MAX_MODEL_BYTES))?;
    decode(path, &bytes)
}

/// The tensors in `bytes`, the content of `path`, which is only named in errors.
pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<StoredModel, Error> {
    let undecodable = |source| Error::Decode { path: path.to_path_buf(), source };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(undecodable)?;
    let file = SafeTensors::deserialize(bytes).map_err(undecodable)?;

    let mut tensors = Vec::with_capacity(file.len());
    for name in header.offset_keys() {
        let view = file.tensor(&name).map_err(undecodable)?;
        if view.dtype() != Dtype::F32 {
            return Err(Error::NotF32 { path: path.to_path_buf(), tensor: name, dtype: view.dtype() });
        }
        let (chunks, _) = view.data().as_chunks::<4>();
        let values = chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        tensors.push(StoredTensor { name, shape: view.shape().to_vec(), values });
    }
    let metadata = header.metadata().as_ref().and_then(|entries| entries.get(METADATA_KEY)).cloned();
    Ok(StoredModel { tensors, metadata })
}

/// The bytes of a file that PyTorch's loaders take, of tensors in PyTorch's layout; `path` is only named in errors.
///
/// # Errors
///
/// [`Error::Shape`] or [`Error::DuplicateTensor`].
pub fn encode_for_pytorch(path: &Path, tensors: &[Tensor], metadata: &str) -> Result<Vec<u8>, Error> {
    let plain = encode(path, tensors, metadata)?;
    let (length, rest) = plain.split_at(size_of::<u64>());
    let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
    let (header, values) = rest.split_at(length);
    let after = header.strip_prefix(HEADER_START.as_bytes()).expect("the metadata come first");
    let mut header = [HEADER_START.as_bytes(), PYTORCH_FORMAT.as_bytes(), after].concat();
    // The values begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(size_of::<u64>()), b' ');
    Ok([&(header.len() as u64).to_le_bytes()[..], &header, values].concat())
}

/// The bytes that [`write_model`] writes; `path` is only named in errors.
pub(crate) fn encode(path: &Path, tensors: &[Tensor], metadata: &str) -> Result<Vec<u8>, Error> {
    let mut encoded: Vec<(&str, &[usize], Vec<u8>)> = Vec::with_capacity(tensors.len());
    for &(name, shape, values) in tensors {
        let expected = shape.iter().product();
        if values.len() != expected {
            return Err(Error::Shape {
                path: path.to_path_buf(),
                tensor: name.to_owned(),
                shape: shape.to_vec(),
                expected,
                actual: values.len(),
            });
        }
        if encoded.iter().any(|(other, ..)| *other == name) {
            return Err(Error::DuplicateTensor { path: path.to_path_buf(), tensor: name.to_owned() });
        }
        encoded.push((name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()));
    }

    let unencodable = |source| Error::Encode { path: path.to_path_buf(), source };
    let mut views = Vec::with_capacity(encoded.len());
    for (name, shape, bytes) in &encoded {
        views.push((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(unencodable)?));
    }
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), metadata.to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(unencodable)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    const METADATA: &str = r#"{"step":7,"weights_digest":"ab"}"#;
    const KERNEL: [f32; 6] = [1.0, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, f32::NAN, -2.5];

    fn tensors() -> Vec<Tensor<'static>> {
        vec![
            ("conv1.kernel", &[1, 2, 3], &KERNEL),
            ("conv1.bias", &[2], &[0.5, 0.25]),
            ("scale", &[], &[3.0]),
        ]
    }

    #[test]
    fn round_trip_keeps_names_shapes_bits_and_metadata() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        write_model(&path, &tensors(), METADATA).unwrap();

        let model = read_model(&path).unwrap();
        assert_eq!(model.metadata.as_deref(), Some(METADATA));
        assert_eq!(model.tensors.len(), 3);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        for (name, shape, values) in tensors() {
            let stored = model.tensor(name).unwrap();
            assert_eq!(stored.shape, shape);
            assert_eq!(bits(&stored.values), bits(values), "{name}");
        }
        assert_eq!(model.tensor("dense1.bias"), None);
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("a"), directory.path().join("b"));
        let mut reversed = tensors();
        reversed.reverse();
        write_model(&first, &tensors(), METADATA).unwrap();
        write_model(&second, &reversed, METADATA).unwrap();
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "a temporary was left behind");
    }

    #[test]
    fn the_header_is_plain_safetensors_with_one_metadata_key() {
        let bytes = encode(Path::new("model.safetensors"), &tensors(), METADATA).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        assert_eq!(header["__metadata__"], serde_json::json!({ "lockstep": METADATA }));
        assert_eq!(header["conv1.kernel"]["dtype"], "F32");
        assert_eq!(header["conv1.kernel"]["shape"], serde_json::json!([1, 2, 3]));
    }

    #[test]
    fn a_file_for_pytorch_says_so_and_is_the_same_otherwise() {
        let path = Path::new("model.safetensors");
        let bytes = encode_for_pytorch(path, &tensors(), METADATA).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(length % 8, 0);
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        assert_eq!(header["__metadata__"], serde_json::json!({ "format": "pt", "lockstep": METADATA }));
        let plain = decode(path, &encode(path, &tensors(), METADATA).unwrap()).unwrap();
        let marked = decode(path, &bytes).unwrap();
        // As text: a tensor has a NaN.
        assert_eq!(format!("{marked:?}"), format!("{plain:?}"));
    }

    #[test]
    fn a_truncated_or_extended_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let whole = encode(&path, &tensors(), METADATA).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = read_model(&path).unwrap_err();
            assert!(matches!(error, Error::Decode { .. }), "{length} bytes: {error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        let mut extended = whole;
        extended.push(0);
        fs::write(&path, &extended).unwrap();
        assert!(matches!(read_model(&path), Err(Error::Decode { .. })));
    }

    #[test]
    fn other_element_types_and_missing_metadata() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("foreign.safetensors");
        let write = |dtype, bytes: &[u8]| {
            let view = TensorView::new(dtype, vec![2], bytes).unwrap();
            fs::write(&path, safetensors::serialize([("w", view)], None).unwrap()).unwrap();
        };
        write(Dtype::F16, &[0; 4]);
        let message = read_model(&path).unwrap_err().to_string();
        assert!(message.contains("tensor w holds F16"), "{message}");
        write(Dtype::F32, &[0; 8]);
        assert_eq!(read_model(&path).unwrap().metadata, None);
    }

    #[test]
    fn contradictory_tensors_are_refused_before_anything_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let message = write_model(&path, &[("w", &[2, 2], &[0.0; 3])], "{}").unwrap_err().to_string();
        assert!(message.ends_with("tensor w of shape [2, 2] has 3 values instead of 4"), "{message}");
        let twice: [Tensor; 2] = [("w", &[1], &[0.0]), ("w", &[1], &[1.0])];
        let message = write_model(&path, &twice, "{}").unwrap_err().to_string();
        assert!(message.ends_with("two tensors are called w"), "{message}");
        assert!(!path.exists());
    }

    #[test]
    fn a_missing_or_oversized_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let message = read_model(&path).unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        // Sparse: takes no room on the disk.
        File::create(&path).unwrap().set_len(MAX_MODEL_BYTES + 1).unwrap();
        assert!(matches!(read_model(&path), Err(Error::TooLarge { .. })));
    }
}
