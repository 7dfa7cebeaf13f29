//! The configuration file: TOML whose keys are the flags, read with `--config` and written as `config.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use lockstep_command_line::nearest;
use lockstep_run_directory::identity::read_configuration;
use serde::de::IgnoredAny;

use super::flags::Flags;

use super::SettingsError;

/// The tables that `config.toml` has besides the keys: what a run wrote about itself. They are accepted, so that it can
/// be read back, and ignored: a new run has another id, and its identity follows from its own settings and data.
const TABLES: [&str; 2] = ["run", "identity"];

/// The text of the file.
///
/// # Errors
///
/// [`SettingsError::ConfigUnreadable`].
pub(super) fn text(path: &Path) -> Result<String, SettingsError> {
    read_configuration(path)
        .map_err(|source| SettingsError::ConfigUnreadable { path: path.to_path_buf(), source })
}

/// Reads the file.
///
/// # Errors
///
/// [`SettingsError::ConfigUnreadable`], [`SettingsError::ConfigInvalid`] or [`SettingsError::UnknownKey`].
pub(super) fn read(path: &Path) -> Result<Flags, SettingsError> {
    let text = text(path)?;
    let invalid = |error: toml::de::Error| SettingsError::ConfigInvalid {
        path: path.to_path_buf(),
        line: line_of(&text, error.span().map_or(0, |span| span.start)),
        message: error.message().replace('\n', " "),
    };
    // Only the names: a `toml::Table` would refuse a seed above i64::MAX, which the struct takes.
    let table: BTreeMap<String, IgnoredAny> = toml::from_str(&text).map_err(invalid)?;
    let names = Flags::names();
    if let Some(key) = table.keys().find(|key| !TABLES.contains(&key.as_str()) && !names.contains(key)) {
        let nearest = nearest(key, names.iter().map(String::as_str)).map(str::to_owned);
        return Err(SettingsError::UnknownKey { path: path.to_path_buf(), key: key.clone(), nearest });
    }
    let flags: Flags = toml::from_str(&text).map_err(invalid)?;
    // From wherever it is read: what a run's own file names lies beside it.
    let beside = |init| path.parent().unwrap_or(Path::new("")).join(init);
    Ok(Flags { init: flags.init.map(beside), ..flags })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lockstep_command_line::Period;

    use super::*;
    use crate::settings::{DatasetChoice, TokenText};

    fn read(text: &str) -> Result<Flags, SettingsError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.toml");
        std::fs::write(&path, text).unwrap();
        super::read(&path)
    }

    fn message(text: &str) -> String {
        let message = read(text).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
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
            dashboard-host = ["a.example", "b.example"]
            no-dashboard = true
            stay = true
            [run]
            id = "00"
            [identity]
            seed = 99
            "#;
        let file = read(text).unwrap();
        let expected = Flags {
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
            dashboard_host: Some(["a.example", "b.example"].map(|name| name.parse().unwrap()).to_vec()),
            no_dashboard: Some(true),
            stay: Some(true),
        };
        // Beside the file, wherever that lies.
        let init = file.init.as_ref().unwrap();
        assert!(init.is_absolute() && init.ends_with("start.safetensors"), "{init:?}");
        assert_eq!(Flags { init: expected.init.clone(), ..file }, expected);
        assert_eq!(read("").unwrap(), Flags::default());
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
        let error = super::read(Path::new("absent/run.toml")).unwrap_err();
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
