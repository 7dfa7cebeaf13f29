//! The number of micro-shards of a batch, checked.

use std::num::NonZeroU32;

/// The reduction tree has at most this many leaves.
pub const MAX_MICRO_SHARDS: u32 = 65_536;

/// The number of micro-shards of a batch: a power of two from 1 to 65,536.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MicroShards(NonZeroU32);

impl MicroShards {
    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// A number of micro-shards that cannot be the leaves of the reduction tree.
#[derive(Debug, thiserror::Error)]
#[error("--micro-shards is {value}; it must be a power of two from 1 to 65536, for example {example}")]
pub struct MicroShardsError {
    value: u32,
    example: u32,
}

impl TryFrom<u32> for MicroShards {
    type Error = MicroShardsError;

    fn try_from(value: u32) -> Result<Self, MicroShardsError> {
        match NonZeroU32::new(value) {
            Some(count) if count.is_power_of_two() && value <= MAX_MICRO_SHARDS => Ok(Self(count)),
            _ => {
                let example = value.min(MAX_MICRO_SHARDS).next_power_of_two();
                Err(MicroShardsError { value, example })
            }
        }
    }
}
