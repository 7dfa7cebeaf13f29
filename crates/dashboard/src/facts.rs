//! What does not change in a run, as the page shows it.

use lockstep_records::{configuration_pairs, is_fallback};
use serde::Serialize;

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
    /// Takes in the text of a `config.toml`.
    pub fn with_configuration(self, text: &str) -> Self {
        let configuration = configuration_pairs(text);
        let dataset_fallback = is_fallback(&configuration);
        Self { configuration, dataset_fallback, version: env!("CARGO_PKG_VERSION"), ..self }
    }
}
