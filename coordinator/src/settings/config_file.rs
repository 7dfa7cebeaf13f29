//! The configuration file: TOML whose keys are the flags, read with `--config` and written as `config.toml`.
//!
//! One struct is read and written, so that a run's `config.toml` starts the same run again. It holds what the file
//! says, unchecked; what is allowed is for `Settings` to decide.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};

use super::{DatasetChoice, Period, SettingsError, TokenText, nearest::nearest};

/// Every key, in the order in which they are written. `run-dir`, `timeline` and `token` are read but never written: the
/// first two would make the next run collide with this one, the other is a secret. `threads-per-worker` is written only
/// if it was asked for: else it follows from the processors of a machine, and the next one may have others.
pub(super) const KEYS: [&str; 32] = [
    "workers",
    "external",
    "listen",
    "insecure",
    "deadline",
    "patience",
    "max-restarts",
    "dataset",
    "data-dir",
    "epochs",
    "batch-size",
    "learning-rate",
    "seed",
    "validation-split",
    "micro-shards",
    "examples",
    "max-steps",
    "init",
    "offline",
    "checkpoint-every",
    "threads-per-worker",
    "run-dir",
    "json",
    "token",
    "no-metrics",
    "no-tensorboard",
    "timeline",
    "timeline-every",
    "no-progress",
    "dashboard",
    "no-dashboard",
    "stay",
];

/// The tables that `config.toml` has besides the keys.
const TABLES: [&str; 2] = ["run", "identity"];

/// What a configuration file says; absent keys are left to the defaults.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct ConfigFile {
    pub workers: Option<u32>,
    pub external: Option<bool>,
    pub listen: Option<SocketAddr>,
    pub insecure: Option<bool>,
    pub deadline: Option<Period>,
    pub patience: Option<Period>,
    pub max_restarts: Option<u32>,
    pub dataset: Option<DatasetChoice>,
    pub data_dir: Option<PathBuf>,
    pub epochs: Option<u32>,
    pub batch_size: Option<u32>,
    #[serde(deserialize_with = "some_shortest_f32")]
    pub learning_rate: Option<f32>,
    pub seed: Option<u64>,
    pub validation_split: Option<f64>,
    pub micro_shards: Option<u32>,
    pub examples: Option<u32>,
    pub max_steps: Option<u64>,
    pub init: Option<PathBuf>,
    pub offline: Option<bool>,
    pub checkpoint_every: Option<Period>,
    pub threads_per_worker: Option<u32>,
    #[serde(skip_serializing)]
    pub run_dir: Option<PathBuf>,
    pub json: Option<bool>,
    #[serde(skip_serializing)]
    pub token: Option<TokenText>,
    pub no_metrics: Option<bool>,
    pub no_tensorboard: Option<bool>,
    #[serde(skip_serializing)]
    pub timeline: Option<PathBuf>,
    pub timeline_every: Option<u64>,
    pub no_progress: Option<bool>,
    pub dashboard: Option<SocketAddr>,
    pub no_dashboard: Option<bool>,
    pub stay: Option<bool>,
    /// What a run wrote about itself. It is accepted, so that a `config.toml` can be read back, and ignored: a new
    /// run has another id, and its identity follows from its own settings and data. `StoredRun` is who reads it.
    #[serde(skip_serializing)]
    pub run: Option<IgnoredAny>,
    /// The same.
    #[serde(skip_serializing)]
    pub identity: Option<IgnoredAny>,
}

/// More than any configuration has; what is longer is none.
const MAX_BYTES: u64 = 1 << 20;

/// The text of a configuration file.
///
/// # Errors
///
/// [`SettingsError::ConfigUnreadable`].
pub fn read_configuration(path: &Path) -> Result<String, SettingsError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    let read = read.and_then(|bytes| match bytes as u64 > MAX_BYTES {
        true => Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes"))),
        false => Ok(text),
    });
    read.map_err(|source| SettingsError::ConfigUnreadable { path: path.to_path_buf(), source })
}

impl ConfigFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`SettingsError::ConfigUnreadable`], [`SettingsError::ConfigInvalid`] or [`SettingsError::UnknownKey`].
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = read_configuration(path)?;
        let invalid = |error: toml::de::Error| SettingsError::ConfigInvalid {
            path: path.to_path_buf(),
            line: line_of(&text, error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', " "),
        };
        // Only the names: a `toml::Table` would refuse a seed above i64::MAX, which the struct takes.
        let table: BTreeMap<String, IgnoredAny> = toml::from_str(&text).map_err(invalid)?;
        if let Some(key) = table.keys().find(|key| ![&KEYS[..], &TABLES].concat().contains(&key.as_str())) {
            let nearest = nearest(key, KEYS);
            return Err(SettingsError::UnknownKey { path: path.to_path_buf(), key: key.clone(), nearest });
        }
        let file: Self = toml::from_str(&text).map_err(invalid)?;
        // From wherever it is read: what a run's own file names lies beside it.
        let beside = |init| path.parent().unwrap_or(Path::new("")).join(init);
        Ok(Self { init: file.init.map(beside), ..file })
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// TOML has only f64, and rounding a decimal number first to f64 and then to f32 is not always what parsing it as f32,
/// as the flag does, gives. The shortest decimal form of the f64 is the number as it was written (up to 15 digits).
pub(super) fn shortest_f32<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    let value = f64::deserialize(deserializer)?;
    value.to_string().parse().map_err(serde::de::Error::custom)
}

fn some_shortest_f32<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
    shortest_f32(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Result<ConfigFile, SettingsError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.toml");
        std::fs::write(&path, text).unwrap();
        ConfigFile::read(&path)
    }

    fn message(text: &str) -> String {
        let message = read(text).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn every_flag_is_a_key() {
        let flags: Vec<String> = crate::cli::command()
            .get_arguments()
            .filter_map(|argument| argument.get_long().map(str::to_owned))
            .filter(|flag| {
                !["help", "version", "config", "resume", "resume-or-start"].contains(&flag.as_str())
            })
            .collect();
        let (mut flags, mut keys) = (flags, KEYS.map(str::to_owned).to_vec());
        flags.sort();
        keys.sort();
        assert_eq!(flags, keys);
    }

    #[test]
    fn every_key_is_a_field() {
        let text = r#"
            workers = 2
            external = true
            listen = "127.0.0.1:29400"
            insecure = true
            deadline = "500ms"
            patience = 0.5
            max-restarts = 3
            dataset = "digits"
            data-dir = "data"
            epochs = 3
            batch-size = 32
            learning-rate = 0.1
            seed = 7
            validation-split = 0.25
            micro-shards = 8
            examples = 1000
            max-steps = 5
            init = "start.safetensors"
            offline = true
            checkpoint-every = 2
            threads-per-worker = 2
            run-dir = "out"
            json = true
            token = "secret"
            no-metrics = true
            no-tensorboard = true
            timeline = "trace.json"
            timeline-every = 7
            no-progress = true
            dashboard = "127.0.0.1:8080"
            no-dashboard = true
            stay = true
            [run]
            id = "00"
            [identity]
            seed = 99
            "#;
        let file = read(text).unwrap();
        let expected = ConfigFile {
            workers: Some(2),
            external: Some(true),
            listen: Some("127.0.0.1:29400".parse().unwrap()),
            insecure: Some(true),
            deadline: Some(Period(Duration::from_millis(500))),
            patience: Some(Period(Duration::from_millis(500))),
            max_restarts: Some(3),
            dataset: Some(DatasetChoice::Digits),
            data_dir: Some("data".into()),
            epochs: Some(3),
            batch_size: Some(32),
            learning_rate: Some(0.1),
            seed: Some(7),
            validation_split: Some(0.25),
            micro_shards: Some(8),
            examples: Some(1000),
            max_steps: Some(5),
            init: Some("start.safetensors".into()),
            offline: Some(true),
            checkpoint_every: Some(Period(Duration::from_secs(2))),
            threads_per_worker: Some(2),
            run_dir: Some("out".into()),
            json: Some(true),
            token: Some(TokenText::from("secret".to_owned())),
            no_metrics: Some(true),
            no_tensorboard: Some(true),
            timeline: Some("trace.json".into()),
            timeline_every: Some(7),
            no_progress: Some(true),
            dashboard: Some("127.0.0.1:8080".parse().unwrap()),
            no_dashboard: Some(true),
            stay: Some(true),
            run: Some(IgnoredAny),
            identity: Some(IgnoredAny),
        };
        // Beside the file, wherever that lies.
        let init = file.init.as_ref().unwrap();
        assert!(init.is_absolute() && init.ends_with("start.safetensors"), "{init:?}");
        assert_eq!(ConfigFile { init: expected.init.clone(), ..file }, expected);
        assert_eq!(read("").unwrap(), ConfigFile::default());
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        assert!(message("batch_size = 32").ends_with("unknown key 'batch_size'; did you mean 'batch-size'?"));
        assert!(message("epoch = 3").ends_with("unknown key 'epoch'; did you mean 'epochs'?"));
        assert!(message("momentum = 0.9").ends_with(
            "unknown key 'momentum'; keys are the flags of `coordinator --help` without their dashes"
        ));
        assert!(message("config = 'other.toml'").contains("unknown key 'config'"));
        assert!(message("[training]\nepochs = 3").contains("unknown key 'training'"));
    }

    #[test]
    fn wrong_types_and_syntax_name_the_line() {
        let text = message("seed = 1\nepochs = \"three\"\n");
        assert!(text.contains("run.toml, line 2: ") && text.contains("three"), "{text}");
        let text = message("seed = 1\n\nworkers = -1\n");
        assert!(text.contains("line 3: ") && text.contains("-1"), "{text}");
        let text = message("listen = '127.0.0.1'");
        assert!(text.contains("line 1: ") && text.contains("address"), "{text}");
        let text = message("dataset = 'cifar'");
        assert!(text.contains("line 1: ") && text.contains("mnist"), "{text}");
        assert!(message("seed = 1\nepochs = = 3\n").contains("line 2: "));
        let text = message("seed = 1\npatience = 'long'\n");
        assert!(text.contains("line 2: 'long' is no length of time: write seconds"), "{text}");
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let error = ConfigFile::read(Path::new("absent/run.toml")).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot read the configuration file absent/run.toml"),
            "{error}"
        );
    }

    #[test]
    fn a_rate_is_rounded_once() {
        for literal in ["0.01", "0.1", "1", "1e-3", "3.4028235e38", "1e-45", "0.12345679"] {
            let file = read(&format!("learning-rate = {literal}")).unwrap();
            let flag: f32 = literal.parse().unwrap();
            assert_eq!(file.learning_rate.unwrap().to_bits(), flag.to_bits(), "{literal}");
        }
        // Halfway between two f32, and a little more that f64 still sees: two roundings would go astray.
        let written = "1.00000005960464478";
        assert_eq!(read(&format!("learning-rate = {written}")).unwrap().learning_rate, written.parse().ok());
    }
}
