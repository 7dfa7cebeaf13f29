//! The canonical layout of the parameters: ten tensors in one buffer of f32, and its little-endian bytes.
//!
//! The layout of gradients, checkpoints, messages and digests alike. What a kernel uses inside is its own business.

use std::borrow::Cow;
use std::ops::Deref;

use bytes::Bytes;

/// Classes of the classifier.
pub const CLASSES: usize = 10;
/// Height and width of an image, in pixels.
pub const IMAGE_SIDE: usize = 28;
/// Pixels of an image.
pub const PIXELS: usize = IMAGE_SIDE * IMAGE_SIDE;
/// Parameters of the network.
pub const PARAMETERS: usize = 33_194;
/// Bytes of the parameters as f32.
pub const PARAMETER_BYTES: usize = 132_776;

/// One tensor of the network and its place in the buffer of all parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name, `layer.kernel` or `layer.bias`.
    pub name: &'static str,
    /// Its shape: `[height, width, in, out]`, `[in, out]` or `[out]`, row-major.
    pub shape: &'static [usize],
    /// Its first element in the buffer, in f32 elements.
    pub offset: usize,
}

impl TensorSpec {
    /// Its number of elements.
    #[allow(clippy::len_without_is_empty)] // No tensor of the network is empty.
    pub const fn len(&self) -> usize {
        let mut product = 1;
        let mut axis = 0;
        while axis < self.shape.len() {
            product *= self.shape[axis];
            axis += 1;
        }
        product
    }

    /// Its elements in the buffer.
    pub const fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// The tensors, in the order of the buffer, one after the other without gaps.
pub const TENSORS: [TensorSpec; 10] = [
    TensorSpec { name: "conv1.kernel", shape: &[3, 3, 1, 16], offset: 0 },
    TensorSpec { name: "conv1.bias", shape: &[16], offset: 144 },
    TensorSpec { name: "conv2.kernel", shape: &[3, 3, 16, 32], offset: 160 },
    TensorSpec { name: "conv2.bias", shape: &[32], offset: 4_768 },
    TensorSpec { name: "conv3.kernel", shape: &[3, 3, 32, 32], offset: 4_800 },
    TensorSpec { name: "conv3.bias", shape: &[32], offset: 14_016 },
    TensorSpec { name: "dense1.kernel", shape: &[288, 64], offset: 14_048 },
    TensorSpec { name: "dense1.bias", shape: &[64], offset: 32_480 },
    TensorSpec { name: "dense2.kernel", shape: &[64, 10], offset: 32_544 },
    TensorSpec { name: "dense2.bias", shape: &[10], offset: 33_184 },
];

// The table above, checked by the compiler: no gap, no overlap, and the published totals.
const _: () = {
    let mut end = 0;
    let mut tensor = 0;
    while tensor < TENSORS.len() {
        assert!(TENSORS[tensor].offset == end);
        end += TENSORS[tensor].len();
        tensor += 1;
    }
    assert!(end == PARAMETERS && PARAMETERS * 4 == PARAMETER_BYTES);
};

/// Reads little-endian f32 `bytes` into `values`.
///
/// # Panics
/// If `bytes` is not four times as long as `values`.
pub fn copy_from_le_bytes(bytes: &[u8], values: &mut [f32]) {
    let chunks = floats(bytes, values.len());
    for (value, chunk) in values.iter_mut().zip(chunks) {
        *value = f32::from_le_bytes(*chunk);
    }
}

/// Writes `values` as little-endian f32 into `bytes`.
///
/// # Panics
/// If `bytes` is not four times as long as `values`.
pub fn copy_to_le_bytes(values: &[f32], bytes: &mut [u8]) {
    assert_eq!(bytes.len(), 4 * values.len(), "bytes of {} f32 values", values.len());
    for (chunk, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *chunk = value.to_le_bytes();
    }
}

/// The values as little-endian f32, without a copy; their owner is dropped with the last of these bytes.
pub fn into_le_bytes(values: impl Deref<Target = [f32]> + Send + 'static) -> Bytes {
    struct Owner<V>(V);
    impl<V: Deref<Target = [f32]>> AsRef<[u8]> for Owner<V> {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    if cfg!(target_endian = "little") {
        return Bytes::from_owner(Owner(values));
    }
    let mut bytes = vec![0; 4 * values.len()];
    copy_to_le_bytes(&values, &mut bytes);
    bytes.into()
}

/// The values as little-endian f32; a copy only on a machine of the other order.
pub fn as_le_bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        return Cow::Borrowed(bytemuck::cast_slice(values));
    }
    let mut bytes = vec![0; 4 * values.len()];
    copy_to_le_bytes(values, &mut bytes);
    Cow::Owned(bytes)
}

/// Adds little-endian f32 `bytes` to `sum`, element by element (`sum + value`, one rounding each).
///
/// # Panics
/// If `bytes` is not four times as long as `sum`.
pub fn add_le_bytes(sum: &mut [f32], bytes: &[u8]) {
    let chunks = floats(bytes, sum.len());
    for (sum, chunk) in sum.iter_mut().zip(chunks) {
        *sum += f32::from_le_bytes(*chunk);
    }
}

fn floats(bytes: &[u8], count: usize) -> &[[u8; 4]] {
    assert_eq!(bytes.len(), 4 * count, "bytes of {count} f32 values");
    bytes.as_chunks::<4>().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tensors_are_those_of_the_network() {
        let lengths = TENSORS.map(|tensor| tensor.len());
        assert_eq!(lengths, [144, 16, 4_608, 32, 9_216, 32, 18_432, 64, 640, 10]);
        assert_eq!(TENSORS[9].range(), 33_184..33_194);
        let names = TENSORS.map(|tensor| tensor.name);
        let layers = ["conv1", "conv2", "conv3", "dense1", "dense2"];
        let want: Vec<String> =
            layers.iter().flat_map(|layer| [format!("{layer}.kernel"), format!("{layer}.bias")]).collect();
        assert_eq!(names.as_slice(), want);
    }

    #[test]
    fn bytes_are_little_endian() {
        let values = [1.0, -0.0, f32::from_bits(0x0102_0304)];
        let mut bytes = [0; 12];
        copy_to_le_bytes(&values, &mut bytes);
        assert_eq!(bytes, [0, 0, 0x80, 0x3f, 0, 0, 0, 0x80, 4, 3, 2, 1]);
        assert_eq!(into_le_bytes(Vec::from(values)), bytes[..]);
        let mut back = [0.0; 3];
        copy_from_le_bytes(&bytes, &mut back);
        assert_eq!(back.map(f32::to_bits), values.map(f32::to_bits));
        let mut sum = [2.0, 3.0, 4.0];
        add_le_bytes(&mut sum, &bytes);
        assert_eq!(sum, [3.0, 3.0, 4.0]);
    }

    #[test]
    #[should_panic(expected = "bytes of 3 f32 values")]
    fn a_length_that_does_not_fit_is_a_mistake() {
        copy_from_le_bytes(&[0; 11], &mut [0.0; 3]);
    }
}
