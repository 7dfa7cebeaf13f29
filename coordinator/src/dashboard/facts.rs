//! What does not change in a run, as the page shows it.

use lockstep_control::TaskOrder;
use serde::Serialize;

use crate::batches::Batches;

/// What does not change in a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// The run's random id, 32 hex digits.
    pub run_id: String,
    /// Where it writes.
    pub directory: String,
    /// `mnist` or `digits`.
    pub dataset: String,
    /// Whether generated digits stood in for an MNIST that could not be had.
    pub dataset_fallback: bool,
    /// Planned epochs.
    pub epochs: u32,
    /// Planned steps.
    pub steps: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Examples of an epoch.
    pub train_examples: u32,
    /// Examples of the test set.
    pub test_examples: u32,
    /// Why there are no test digits, if there are none.
    pub no_digits: Option<String>,
    /// Whether it is shown from its files, not while it runs.
    pub from_files: bool,
    /// Version of this program.
    pub version: &'static str,
    /// Keys and values of `config.toml`, as they are written there.
    pub configuration: Vec<(String, String)>,
    /// Names of the run's files that are served.
    pub files: Vec<String>,
}

impl Facts {
    /// Takes in how the data are cut.
    pub fn with_data(self, batches: &Batches, tasks: &TaskOrder) -> Self {
        Self {
            steps: tasks.steps,
            steps_per_epoch: tasks.steps_per_epoch,
            train_examples: batches.train_examples(),
            test_examples: batches.test_examples(),
            ..self
        }
    }

    /// Takes in the text of a `config.toml`.
    pub fn with_configuration(self, text: &str) -> Self {
        let pairs =
            text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
        let configuration: Vec<_> = pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let dataset_fallback = configuration.iter().any(|(key, _)| key == "dataset-fallback");
        Self { configuration, dataset_fallback, version: env!("CARGO_PKG_VERSION"), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_keys_and_values() {
        let text = "# Settings.\nworkers = 4\nlisten = \"127.0.0.1:0\"\n\n[run]\nid = \"ab\"\n";
        let facts = Facts::default().with_configuration(text);
        let expected = [("workers", "4"), ("listen", "\"127.0.0.1:0\""), ("id", "\"ab\"")];
        let expected = expected.map(|(key, value)| (key.to_string(), value.to_string()));
        assert_eq!((facts.configuration, facts.dataset_fallback), (expected.to_vec(), false));
        let text = "[run]\nid = \"ab\"\ndataset-fallback = \"no mirror\"\n";
        assert!(Facts::default().with_configuration(text).dataset_fallback);
    }
}
