//! The summary of a run: `summary.json`, the object printed with `--json`, and the same for people.
//!
//! Holds what the trainer found out; computes and writes nothing.

use serde::{Serialize, Serializer};

use crate::{
    console::{grouped, percent},
    record::SCHEMA_VERSION,
};

/// The first field of `summary.json`; always [`SCHEMA_VERSION`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SchemaVersion;

impl Serialize for SchemaVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(SCHEMA_VERSION)
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All epochs, or `--max-steps`, were trained.
    Done,
    /// Loss or weights were no longer finite.
    Diverged,
    /// A signal ended it between two steps.
    Interrupted,
}

/// Everything a run found out, with the settings needed to read it. Fields are in the order of `summary.json`; what is
/// absent, or not finite, is null there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Version of this shape.
    pub schema_version: SchemaVersion,
    /// The run's random id, 32 hex digits.
    pub run_id: String,
    /// How it ended.
    pub status: Status,
    /// SHA-256 of the final weights, 64 hex digits.
    pub weights_digest: String,
    /// Mean loss over the test set.
    pub test_loss: Option<f32>,
    /// Share of the test set classified correctly, 0 to 1.
    pub test_accuracy: Option<f32>,
    /// Mean loss over the validation set, of the last evaluation.
    pub val_loss: Option<f32>,
    /// Share of the validation set classified correctly, 0 to 1, of the last evaluation.
    pub val_accuracy: Option<f32>,
    /// Epochs completed.
    pub epochs: u32,
    /// Steps completed.
    pub steps: u64,
    /// Examples trained on, counted once per epoch.
    pub examples: u64,
    /// Length of the training loop; without start-up, evaluation and checkpoints.
    pub train_seconds: f64,
    /// `examples` over `train_seconds`.
    pub examples_per_second: Option<f64>,
    /// Workers of the run.
    pub workers: u32,
    /// Threads of each local worker; absent for external ones.
    pub threads_per_worker: Option<u32>,
    /// `mnist` or `digits`: what was trained on.
    pub dataset: String,
    /// Whether `digits` stood in for an MNIST that could not be had.
    pub dataset_fallback: bool,
    /// SHA-256 of the data set, 64 hex digits.
    pub dataset_sha256: String,
    /// `--seed`.
    pub seed: u64,
    /// `--batch-size`.
    pub batch_size: u32,
    /// `--micro-shards`.
    pub micro_shards: u32,
    /// `--learning-rate`.
    pub learning_rate: f32,
    /// The numerics version of the program.
    pub numerics_version: u32,
    /// The run directory.
    pub run_dir: String,
    /// Counts of the test set, `[true digit][predicted digit]`.
    pub confusion_matrix: Option<Vec<Vec<u32>>>,
    /// Name of the signal that ended the run.
    pub interrupted_by: Option<String>,
    /// First step after which loss or weights were not finite.
    pub diverged_at_step: Option<u64>,
}

impl Summary {
    /// The one JSON object, without spaces and without a line break at the end.
    pub fn to_json(&self) -> String {
        // Strings as keys and no failing `Serialize`: there is nothing in it that could fail.
        serde_json::to_string(self).expect("a summary is always expressible as JSON")
    }

    /// The same for people, a few lines with a line break after each; the last one is the whole digest.
    pub fn to_text(&self) -> String {
        let mut text = match (self.status, self.diverged_at_step, &self.interrupted_by) {
            (Status::Done, ..) => "done".to_owned(),
            (Status::Diverged, Some(step), _) => format!("diverged at step {step}"),
            (Status::Diverged, ..) => "diverged".to_owned(),
            (Status::Interrupted, _, Some(signal)) => format!("interrupted by {signal}"),
            (Status::Interrupted, ..) => "interrupted".to_owned(),
        };
        text.push_str(&format!("  epochs {}  steps {}", self.epochs, grouped(self.steps)));
        if let Some(rate) = self.examples_per_second.filter(|rate| rate.is_finite()) {
            text.push_str(&format!("  {} examples/s", grouped(rate.round() as u64)));
        }
        for (name, loss, accuracy) in
            [("val ", self.val_loss, self.val_accuracy), ("test", self.test_loss, self.test_accuracy)]
        {
            if let (Some(loss), Some(accuracy)) = (loss, accuracy) {
                text.push_str(&format!("\n{name}     loss {loss:.4}  accuracy {}", percent(accuracy.into())));
            }
        }
        text.push('\n');
        if let Some(matrix) = &self.confusion_matrix {
            text.push_str(&confusion_table(matrix));
        }
        text.push_str(&format!("run      {}\nweights  {}\n", self.run_dir, self.weights_digest));
        text
    }
}

/// Rows are the true digits, columns the predictions.
fn confusion_table(matrix: &[Vec<u32>]) -> String {
    let mut text = String::from("\nlabel \\ predicted");
    (0..matrix.len()).for_each(|class| text.push_str(&format!("{class:>6}")));
    for (class, row) in matrix.iter().enumerate() {
        text.push_str(&format!("\n{class:>5}            "));
        row.iter().for_each(|count| text.push_str(&format!("{count:>6}")));
    }
    text.push_str("\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            schema_version: SchemaVersion,
            run_id: "00112233445566778899aabbccddeeff".to_owned(),
            status: Status::Done,
            weights_digest: "ab".repeat(32),
            test_loss: Some(0.0712),
            test_accuracy: Some(0.978),
            val_loss: None,
            val_accuracy: None,
            epochs: 10,
            steps: 7970,
            examples: 510_000,
            train_seconds: 12.5,
            examples_per_second: Some(40_800.0),
            workers: 4,
            threads_per_worker: Some(1),
            dataset: "digits".to_owned(),
            dataset_fallback: true,
            dataset_sha256: "cd".repeat(32),
            seed: 42,
            batch_size: 64,
            micro_shards: 16,
            learning_rate: 0.01,
            numerics_version: 1,
            run_dir: "runs/20261123T181530Z-0011".to_owned(),
            confusion_matrix: None,
            interrupted_by: None,
            diverged_at_step: None,
        }
    }

    #[test]
    fn the_json_has_the_fixed_fields_in_their_order() {
        let (digest, sha256) = ("ab".repeat(32), "cd".repeat(32));
        let expected = [
            r#"{"schema_version":1,"run_id":"00112233445566778899aabbccddeeff","status":"done","#,
            &format!(r#""weights_digest":"{digest}","test_loss":0.0712,"test_accuracy":0.978,"#),
            r#""val_loss":null,"val_accuracy":null,"epochs":10,"steps":7970,"examples":510000,"#,
            r#""train_seconds":12.5,"examples_per_second":40800.0,"workers":4,"threads_per_worker":1,"#,
            &format!(r#""dataset":"digits","dataset_fallback":true,"dataset_sha256":"{sha256}","#),
            r#""seed":42,"batch_size":64,"micro_shards":16,"learning_rate":0.01,"numerics_version":1,"#,
            r#""run_dir":"runs/20261123T181530Z-0011","confusion_matrix":null,"interrupted_by":null,"#,
            r#""diverged_at_step":null}"#,
        ];
        assert_eq!(summary().to_json(), expected.concat());
    }

    #[test]
    fn numbers_that_are_not_finite_are_null() {
        let json = Summary {
            status: Status::Diverged,
            val_loss: Some(f32::NAN),
            test_loss: Some(f32::INFINITY),
            diverged_at_step: Some(17),
            confusion_matrix: Some(vec![vec![1, 0], vec![0, 2]]),
            ..summary()
        }
        .to_json();
        for part in [
            r#""status":"diverged""#,
            r#""val_loss":null"#,
            r#""test_loss":null"#,
            r#""diverged_at_step":17"#,
            r#""confusion_matrix":[[1,0],[0,2]]"#,
        ] {
            assert!(json.contains(part), "{part} is not in {json}");
        }
    }

    #[test]
    fn the_text_shows_the_confusion_matrix() {
        let summary = Summary { confusion_matrix: Some(vec![vec![980, 0], vec![7, 1128]]), ..summary() };
        let expected = "\nlabel \\ predicted     0     1\n    0               980     0\n    1                 7  1128\n\nrun ";
        assert!(summary.to_text().contains(expected), "{}", summary.to_text());
    }

    #[test]
    fn the_text_ends_with_the_whole_digest() {
        let digest = "ab".repeat(32);
        let expected = format!(
            "done  epochs 10  steps 7,970  40,800 examples/s\n\
             test     loss 0.0712  accuracy 97.8 %\n\
             run      runs/20261123T181530Z-0011\n\
             weights  {digest}\n"
        );
        assert_eq!(summary().to_text(), expected);
        let interrupted = Summary {
            status: Status::Interrupted,
            interrupted_by: Some("SIGINT".to_owned()),
            examples_per_second: None,
            ..summary()
        };
        assert!(interrupted.to_text().starts_with("interrupted by SIGINT  epochs 10  steps 7,970\n"));
    }
}
