//! The gradient of a node: the bytes that were received, until something is added to them.

use std::borrow::Cow;

use bytes::Bytes;
use lockstep_reduction::{Answer, Buffer, Payload, Pool, same_float, sum_into};

/// A gradient as it was received, little-endian f32.
#[derive(Clone)]
pub(super) struct GradientBytes(pub(super) Bytes);

/// A gradient in the tree.
pub(super) enum Gradient {
    /// As it was received: nothing was added yet, and nothing copied.
    Received(Bytes),
    /// A sum, in a buffer that is used again.
    Summed(Buffer),
}

impl From<GradientBytes> for Gradient {
    fn from(GradientBytes(bytes): GradientBytes) -> Self {
        Self::Received(bytes)
    }
}

impl Gradient {
    /// Calls `then` with the values.
    pub(super) fn with_values<T>(&self, buffers: &Pool, then: impl FnOnce(&[f32]) -> T) -> T {
        match self {
            Self::Summed(sum) => then(sum),
            Self::Received(bytes) => {
                let mut values = buffers.take();
                lockstep_model::copy_from_le_bytes(bytes, &mut values);
                then(&values)
            }
        }
    }

    /// Little-endian f32.
    pub(super) fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Received(bytes) => Cow::Borrowed(bytes),
            Self::Summed(sum) => lockstep_model::as_le_bytes(sum),
        }
    }
}

impl Payload for Gradient {
    /// Buffers of a gradient's length.
    type Memory = Pool;

    /// Every addition of two numbers commutes, so either side's buffer may take the sum.
    fn plus(self, right: Self, buffers: &Pool) -> Self {
        match (self, right) {
            (Self::Received(left), Self::Received(right)) => {
                let mut sum = buffers.take();
                lockstep_model::copy_from_le_bytes(&left, &mut sum);
                lockstep_model::add_le_bytes(&mut sum, &right);
                Self::Summed(sum)
            }
            (Self::Summed(mut sum), Self::Received(bytes))
            | (Self::Received(bytes), Self::Summed(mut sum)) => {
                lockstep_model::add_le_bytes(&mut sum, &bytes);
                Self::Summed(sum)
            }
            (Self::Summed(mut left), Self::Summed(right)) => {
                sum_into(&mut left, &right);
                Self::Summed(left)
            }
        }
    }
}

impl Answer for GradientBytes {
    type Sum = Gradient;

    fn equals(&self, counted: &Gradient) -> bool {
        same_floats(&self.0, &counted.bytes())
    }

    fn is_finite(&self) -> bool {
        floats(&self.0).all(f32::is_finite)
    }
}

/// Whether two gradients are the same result; NaN equals NaN.
pub(super) fn same_floats(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && floats(left).zip(floats(right)).all(|(left, right)| same_float(left, right))
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}
