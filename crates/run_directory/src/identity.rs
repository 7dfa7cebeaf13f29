//! What a run is: its id, and the identity that decides its bits; as tables of `config.toml`, and compared.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

/// No configuration is longer; a longer file is none.
const MAX_CONFIGURATION_BYTES: u64 = 1 << 20;

/// What decides the bits of a run, and nothing else: two runs with equal identities have equal weights after every
/// step. The number of workers, of threads and of epochs is not part of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunIdentity {
    /// Seed of initial weights and order of examples.
    pub seed: u64,
    /// `mnist` or `digits`: what is really trained on.
    pub dataset: String,
    /// SHA-256 of the data set, 64 hex digits.
    pub dataset_sha256: String,
    /// Training images taken from the file, before the split.
    pub examples: u64,
    /// Share held back for validation.
    pub validation_split: f64,
    /// Examples of a batch.
    pub batch_size: u32,
    /// Leaves of the reduction tree.
    pub micro_shards: u32,
    /// Learning rate of SGD.
    #[serde(deserialize_with = "shortest_f32")]
    pub learning_rate: f32,
    /// Version of the program's arithmetic.
    pub numerics_version: u32,
    /// Digest of the initial weights, if they came from a file (`--init`); 64 hex digits. Absent, and not written, where
    /// they are drawn from the seed, as in every run before there was a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_weights: Option<String>,
}

impl RunIdentity {
    /// Every field under its key, with its value in the shortest form that has all of its bits.
    pub fn fields(&self) -> [(&'static str, String); 10] {
        [
            ("numerics-version", self.numerics_version.to_string()),
            ("seed", self.seed.to_string()),
            ("dataset", self.dataset.clone()),
            ("dataset-sha256", self.dataset_sha256.clone()),
            ("examples", self.examples.to_string()),
            ("validation-split", format!("{:?}", self.validation_split)),
            ("batch-size", self.batch_size.to_string()),
            ("micro-shards", self.micro_shards.to_string()),
            ("learning-rate", format!("{:?}", self.learning_rate)),
            (
                "initial-weights",
                self.initial_weights.clone().unwrap_or_else(|| "drawn from the seed".to_owned()),
            ),
        ]
    }

    /// The first field in which the two differ: its key, the value here, the value there.
    pub fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let pairs = self.fields().into_iter().zip(other.fields());
        pairs.map(|((key, here), (_, there))| (key, here, there)).find(|(_, here, there)| here != there)
    }
}

/// A run as its `config.toml` names it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredIdentity {
    /// The run's random id.
    pub run_id: [u8; 16],
    /// What decides its bits.
    pub identity: RunIdentity,
    /// Why it trains on generated digits, if nobody asked for them.
    pub fallback: Option<String>,
}

/// The tables of `config.toml` that flags have no part in.
#[derive(Deserialize)]
struct Tables {
    run: RunTable,
    identity: RunIdentity,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct RunTable {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dataset_fallback: Option<String>,
}

impl StoredIdentity {
    /// Reads the tables out of the text of a `config.toml`.
    ///
    /// # Errors
    ///
    /// What is missing or wrong, on one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Tables { run, identity } =
            toml::from_str(text).map_err(|error: toml::de::Error| error.message().replace('\n', " "))?;
        let run_id = run_id(&run.id)
            .ok_or_else(|| format!("the id '{}' of its table [run] is not of 32 hex digits", run.id))?;
        Ok(Self { run_id, identity, fallback: run.dataset_fallback })
    }

    /// Holds `identity`, which is that of the program and of the data that were really loaded, against the run's.
    ///
    /// # Errors
    ///
    /// [`OtherIdentity`] for the first field that differs.
    pub fn check(&self, identity: &RunIdentity) -> Result<(), OtherIdentity> {
        let Some((key, stored, now)) = self.identity.difference(identity) else { return Ok(()) };
        let remedy = match key {
            "numerics-version" => "resume it with the version of this program that it was begun with",
            "dataset" | "dataset-sha256" | "examples" => {
                "name the folder of the very files that it was begun with (--data-dir)"
            }
            "initial-weights" => {
                "leave --init out (the run keeps its own copy), or name the file that it was begun with"
            }
            _ => "start another run (--run-dir)",
        };
        Err(OtherIdentity { key, stored, now, remedy })
    }

    /// The two tables as they stand at the end of `config.toml`.
    pub fn to_toml(&self) -> String {
        let id = format!("{:032x}", u128::from_be_bytes(self.run_id));
        format!(
            "# Which run this is, for --resume.\n\
             [run]\n\
             {}\n\
             # What decides the bits of this run. --config ignores it, --resume holds on to it.\n\
             [identity]\n\
             {}",
            to_toml(&RunTable { id, dataset_fallback: self.fallback.clone() }),
            to_toml(&self.identity)
        )
    }
}

/// Program or data are not those of the run.
#[derive(Debug, thiserror::Error)]
#[error(
    "the run cannot go on with other bits: its {key} is {now} now but {stored} in its config.toml; {remedy}"
)]
pub struct OtherIdentity {
    /// Key of the field, in the table `identity` of the run's `config.toml`.
    pub key: &'static str,
    /// What the run has.
    pub stored: String,
    /// What was found.
    pub now: String,
    /// What to do.
    pub remedy: &'static str,
}

/// The text of a configuration file.
///
/// # Errors
///
/// If it cannot be read, or is too long to be one.
pub fn read_configuration(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let bytes = File::open(path)?.take(MAX_CONFIGURATION_BYTES + 1).read_to_string(&mut text)?;
    match bytes as u64 > MAX_CONFIGURATION_BYTES {
        true => Err(io::Error::other(format!("it has more than {MAX_CONFIGURATION_BYTES} bytes"))),
        false => Ok(text),
    }
}

/// TOML has only f64, and rounding a decimal number first to f64 and then to f32 is not always what parsing it as f32,
/// as the flag does, gives. The shortest decimal form of the f64 is the number as it was written (up to 15 digits).
pub fn shortest_f32<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    let value = f64::deserialize(deserializer)?;
    value.to_string().parse().map_err(serde::de::Error::custom)
}

/// A flat struct of numbers and UTF-8 strings as TOML, which has nothing in it that TOML could not express.
pub fn to_toml(value: &impl Serialize) -> String {
    toml::to_string(value).expect("settings are always expressible as TOML")
}

fn run_id(text: &str) -> Option<[u8; 16]> {
    // Not `from_str_radix` alone: it would take a sign and fewer digits.
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| digits).map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> StoredIdentity {
        let identity = RunIdentity {
            seed: 42,
            dataset: "digits".to_owned(),
            dataset_sha256: "cd".repeat(32),
            examples: 60_000,
            validation_split: 0.15,
            batch_size: 64,
            micro_shards: 16,
            learning_rate: 0.01,
            numerics_version: 1,
            initial_weights: None,
        };
        StoredIdentity { run_id: *b"\x00\x11\x22\x33456789abcdef", identity, fallback: None }
    }

    #[test]
    fn numbers_keep_all_their_bits() {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..10_000 {
            // A xorshift generator; rates of all sizes, subnormal ones as well.
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let mut run = stored();
            run.run_id[..8].copy_from_slice(&bits.to_le_bytes());
            run.identity.seed = if round == 0 { u64::MAX } else { bits };
            run.identity.examples = bits.rotate_left(17);
            run.identity.learning_rate = f32::from_bits((bits % 0x7f80_0000) as u32);
            run.identity.validation_split = f64::from_bits(bits % 0x3fec_cccc_cccc_cccd);
            run.identity.initial_weights = (round % 2 == 1).then(|| "ef".repeat(32));
            run.fallback = (round % 3 == 1).then(|| "no \"mirror\"\n = [answered]".to_owned());
            let read = StoredIdentity::parse(&run.to_toml()).unwrap();
            assert_eq!(read, run);
            assert_eq!(read.identity.difference(&run.identity), None);
        }
        // Between two f32, and a little more that f64 does not see: two roundings would go astray.
        let text = stored().to_toml().replace("learning-rate = 0.01", "learning-rate = 1.00000005960464478");
        assert_eq!(StoredIdentity::parse(&text).unwrap().identity.learning_rate, 1.000_000_1);
    }

    #[test]
    fn a_run_from_random_weights_is_written_as_before_there_was_a_choice() {
        // The step log and every checkpoint hold this text; another one would be another run.
        let text = serde_json::to_string(&stored().identity).unwrap();
        let expected = format!(
            "{{\"seed\":42,\"dataset\":\"digits\",\"dataset-sha256\":\"{}\",\"examples\":60000,\
             \"validation-split\":0.15,\"batch-size\":64,\"micro-shards\":16,\"learning-rate\":0.01,\
             \"numerics-version\":1}}",
            "cd".repeat(32)
        );
        assert_eq!(text, expected);
        assert!(!stored().to_toml().contains("initial-weights"));
        let mut from_file = stored();
        from_file.identity.initial_weights = Some("ef".repeat(32));
        assert_ne!(serde_json::to_string(&from_file.identity).unwrap(), expected, "the log tells them apart");
    }

    type Change = fn(&mut RunIdentity);

    #[test]
    fn each_field_that_differs_is_named_with_both_values_and_the_remedy() {
        let changes: [(&str, Change, &str, &str); 10] = [
            (
                "numerics-version",
                |identity| identity.numerics_version = 2,
                "is 2 now but 1 in",
                "version of this program",
            ),
            ("seed", |identity| identity.seed = 7, "is 7 now but 42 in", "--run-dir"),
            (
                "dataset",
                |identity| identity.dataset = "mnist".to_owned(),
                "is mnist now but digits in",
                "--data-dir",
            ),
            (
                "dataset-sha256",
                |identity| identity.dataset_sha256 = "ab".repeat(32),
                "is abababab",
                "--data-dir",
            ),
            ("examples", |identity| identity.examples = 10, "is 10 now but 60000 in", "--data-dir"),
            (
                "validation-split",
                |identity| identity.validation_split = 0.150_000_000_000_000_02,
                "is 0.15000000000000002 now but 0.15 in",
                "--run-dir",
            ),
            ("batch-size", |identity| identity.batch_size = 32, "is 32 now but 64 in", "--run-dir"),
            ("micro-shards", |identity| identity.micro_shards = 8, "is 8 now but 16 in", "--run-dir"),
            (
                "learning-rate",
                |identity| identity.learning_rate = 0.010_000_001,
                "is 0.010000001 now but 0.01 in",
                "--run-dir",
            ),
            (
                "initial-weights",
                |identity| identity.initial_weights = Some("ef".repeat(32)),
                "is efefefef",
                "leave --init out",
            ),
        ];
        let run = stored();
        assert!(run.check(&run.identity).is_ok());
        for (key, change, values, remedy) in changes {
            let mut now = run.identity.clone();
            change(&mut now);
            let message = run.check(&now).unwrap_err().to_string();
            let begin = format!("the run cannot go on with other bits: its {key} {values}");
            assert!(message.starts_with(&begin) && message.contains(remedy), "{message}");
        }
    }

    #[test]
    fn a_file_that_does_not_say_which_run_it_is_cannot_be_resumed() {
        let text = stored().to_toml();
        let refused = |text: &str| StoredIdentity::parse(text).unwrap_err();
        assert!(refused("epochs = 3").contains("missing field `run`"));
        assert!(refused(&text.replace("seed = 42\n", "")).contains("missing field `seed`"));
        for id in ["", "+0112233445566778899aabbccddeeff", "0011", "zz112233445566778899aabbccddeeff"] {
            let message = refused(&text.replace("00112233343536373839616263646566", id));
            assert_eq!(message, format!("the id '{id}' of its table [run] is not of 32 hex digits"));
        }
    }
}
