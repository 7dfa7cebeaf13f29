//! What a checkpoint says about itself: where in the run it stands and which weights belong to it.
//!
//! Owns the manifest's text: JSON whose last field is the SHA-256 of everything before that field, so that any changed
//! byte is seen. Numbers read back as the very bits that were written. Never touches a file.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Flaw, hex};

/// The version of the manifest's fields.
pub(crate) const SCHEMA_VERSION: u32 = 1;
/// A manifest has about a kilobyte.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// What the caller of a save knows: where the run stands.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The coordinator's fencing counter.
    pub term: u64,
    /// The last completed step; 0 for the initial weights.
    pub step: u64,
    /// What was completed last at that step.
    pub last_task: LastTask,
    /// The digest of the weights.
    pub weights_digest: [u8; 32],
    /// The run's identity, for people and for comparison.
    pub identity: serde_json::Value,
    /// What has been counted and measured until then.
    pub progress: Progress,
}

/// The task that was completed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastTask {
    /// A training step.
    Step,
    /// The validation after the last step of an epoch.
    Validation,
}

/// Sums and results over all processes of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Examples trained on.
    pub examples: u64,
    /// Time of the training loop, in seconds.
    pub train_seconds: f64,
    /// Time of all processes, in seconds.
    pub seconds: f64,
    /// Completed epochs.
    pub epochs: u32,
    /// The last validation's loss.
    #[serde(with = "bits")]
    pub val_loss: Option<f32>,
    /// The last validation's accuracy.
    #[serde(with = "bits")]
    pub val_accuracy: Option<f32>,
    /// What else the caller counts.
    pub counts: serde_json::Value,
}

/// A checkpoint's manifest, as stored beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of these fields.
    pub schema_version: u32,
    /// The run's id, as hex.
    #[serde(with = "hex")]
    pub run_id: [u8; 16],
    /// As [`State::term`].
    pub term: u64,
    /// As [`State::step`].
    pub step: u64,
    /// As [`State::last_task`].
    pub last_task: LastTask,
    /// As [`State::weights_digest`], as hex.
    #[serde(with = "hex")]
    pub weights_digest: [u8; 32],
    /// Name of the weights' file, in the same folder.
    pub weights_file: String,
    /// SHA-256 of that file, as hex.
    #[serde(with = "hex")]
    pub weights_file_sha256: [u8; 32],
    /// As [`State::identity`].
    pub identity: serde_json::Value,
    /// As [`State::progress`].
    pub progress: Progress,
}

impl Manifest {
    /// The manifest's text.
    ///
    /// # Panics
    ///
    /// If `train_seconds` is not finite: the caller's sum is wrong then, and JSON has no word for it.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        assert!(self.progress.train_seconds.is_finite(), "train_seconds is {}", self.progress.train_seconds);
        let mut text = serde_json::to_string_pretty(self)?;
        // The closing brace and the line's end before it come after the checksum.
        text.truncate(text.len() - "\n}".len());
        let trailer = trailer(text.as_bytes());
        text.push_str(&trailer);
        Ok(text.into_bytes())
    }

    /// What [`Manifest::encode`] wrote, and nothing else.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let length = bytes.len().checked_sub(trailer(b"").len()).ok_or(Flaw::ManifestDamaged)?;
        let (content, end) = bytes.split_at(length);
        if end != trailer(content).as_bytes() {
            return Err(Flaw::ManifestDamaged);
        }
        let json = [content, b"}"].concat();
        let Version { schema_version } = serde_json::from_slice(&json).map_err(Flaw::ManifestSyntax)?;
        if schema_version != SCHEMA_VERSION {
            return Err(Flaw::SchemaVersion { found: schema_version, expected: SCHEMA_VERSION });
        }
        serde_json::from_slice(&json).map_err(Flaw::ManifestSyntax)
    }
}

#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

/// How a manifest ends whose text before that is `content`.
fn trailer(content: &[u8]) -> String {
    format!(",\n  \"manifest_sha256\": \"{}\"\n}}\n", hex::encode(&Sha256::digest(content)))
}

/// An f32 as a number that reads back as the same bits; what JSON has no number for, as the hex of its bits.
mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Text {
        /// Each f32 is an f64, and each f64 reads back exactly.
        Number(f64),
        Bits(String),
    }

    pub(super) fn serialize<S: Serializer>(value: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
        let text = value.map(|value| match value.is_finite() {
            true => Text::Number(f64::from(value)),
            false => Text::Bits(format!("{:08x}", value.to_bits())),
        });
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
        Ok(match Option::<Text>::deserialize(deserializer)? {
            None => None,
            Some(Text::Number(number)) => Some(number as f32),
            Some(Text::Bits(bits)) => {
                Some(f32::from_bits(u32::from_str_radix(&bits, 16).map_err(D::Error::custom)?))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            schema_version: SCHEMA_VERSION,
            run_id: [0xab; 16],
            term: 3,
            step: 797,
            last_task: LastTask::Validation,
            weights_digest: [1; 32],
            weights_file: "step-00000797-term-3-validation.safetensors".to_owned(),
            weights_file_sha256: [2; 32],
            identity: serde_json::json!({ "seed": u64::MAX, "learning_rate": f64::from(0.01_f32), "dataset": "digits" }),
            progress: Progress {
                examples: u64::MAX,
                train_seconds: 0.1 + 0.2,
                seconds: 0.7,
                counts: serde_json::json!({"workers_dropped": 3}),
                epochs: 1,
                val_loss: Some(0.3),
                val_accuracy: None,
            },
        }
    }

    #[test]
    fn is_json_whose_last_field_covers_the_others() {
        let text = String::from_utf8(manifest().encode().unwrap()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["run_id"], "abababababababababababababababab");
        assert_eq!(json["last_task"], "validation");
        assert_eq!(json["progress"]["examples"], u64::MAX);
        let content = text.split(",\n  \"manifest_sha256\"").next().unwrap();
        assert_eq!(json["manifest_sha256"], hex::encode(&Sha256::digest(content)));
        assert!(text.ends_with("\"\n}\n"), "{text}");
    }

    #[test]
    fn every_number_reads_back_as_the_same_bits() {
        let mut manifest = manifest();
        // A sequence over all exponents and both signs; the last ones are the values with a meaning of their own.
        let drawn = (0..5_000_u32).map(|number| f32::from_bits(number.wrapping_mul(2_654_435_761)));
        let special =
            [0.0, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        for value in drawn.chain(special) {
            manifest.progress.val_loss = Some(value);
            manifest.progress.train_seconds = (f64::from(value.to_bits()) / 7.0).sqrt();
            let back = Manifest::decode(&manifest.encode().unwrap()).unwrap();
            assert_eq!(back.progress.val_loss.map(f32::to_bits), Some(value.to_bits()), "{value}");
            assert_eq!(back.progress.train_seconds.to_bits(), manifest.progress.train_seconds.to_bits());
            assert_eq!(back.identity, manifest.identity);
        }
    }

    #[test]
    fn each_changed_byte_and_each_torn_end_is_refused() {
        let whole = manifest().encode().unwrap();
        assert_eq!(Manifest::decode(&whole).unwrap(), manifest());
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut rotten = whole.clone();
                rotten[place] ^= 1 << bit;
                let read = Manifest::decode(&rotten);
                assert!(matches!(read, Err(Flaw::ManifestDamaged)), "byte {place}, bit {bit}");
            }
            assert!(matches!(Manifest::decode(&whole[..place]), Err(Flaw::ManifestDamaged)), "{place} bytes");
        }
        assert!(Manifest::decode(&[whole, b"\n".to_vec()].concat()).is_err());
    }

    #[test]
    fn another_schema_and_unknown_fields_are_refused() {
        let with = |from: &str, to: &str| {
            let text = String::from_utf8(manifest().encode().unwrap()).unwrap();
            let content = text.split(",\n  \"manifest_sha256\"").next().unwrap().replace(from, to);
            Manifest::decode(format!("{content}{}", trailer(content.as_bytes())).as_bytes())
        };
        assert_eq!(with("797", "797").unwrap(), manifest());
        let newer = with("\"schema_version\": 1", "\"schema_version\": 2, \"more\": 1").unwrap_err();
        assert!(matches!(newer, Flaw::SchemaVersion { found: 2, expected: 1 }), "{newer}");
        for (from, to) in
            [("\"term\": 3", "\"term\": 3, \"more\": 1"), ("\"abab", "\"ABAB"), ("\"term\": 3,", "")]
        {
            assert!(matches!(with(from, to), Err(Flaw::ManifestSyntax(_))), "{to}");
        }
    }

    #[test]
    #[should_panic(expected = "train_seconds is NaN")]
    fn a_time_that_is_no_number_is_a_mistake() {
        let mut manifest = manifest();
        manifest.progress.train_seconds = f64::NAN;
        let _ = manifest.encode();
    }
}
