//! The summary of a run: `summary.json`, the object printed with `--json`, and the same for people.
//!
//! Holds what the trainer found out, and reads it back for a run that was done already; computes and writes nothing.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    FaultCounts,
    number::{grouped, percent},
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

impl<'de> Deserialize<'de> for SchemaVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            SCHEMA_VERSION => Ok(Self),
            other => Err(de::Error::custom(format!(
                "the schema version is {other}, and this program reads {SCHEMA_VERSION}"
            ))),
        }
    }
}

/// More than any summary has; what is longer is none.
const MAX_SUMMARY_BYTES: u64 = 1 << 20;

/// The summary of an earlier process cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// The system refused.
    #[error("cannot read the summary {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file has another shape.
    #[error(
        "{} has schema version {found} and this program reads {SCHEMA_VERSION}; use the version of this program that \
         wrote it",
        path.display()
    )]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file is no summary.
    #[error(
        "{} is no summary of a run: {source}; move it away, `coordinator --resume` writes it again",
        path.display()
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        source: serde_json::Error,
    },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All epochs, or `--max-steps`, were trained.
    Done,
    /// Loss or weights were no longer finite.
    Diverged,
    /// A signal ended it between two steps.
    Interrupted,
}

impl Status {
    /// The word for it, as in `summary.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Diverged => "diverged",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Everything a run found out, with the settings needed to read it. Fields are in the order of `summary.json`; what is
/// absent, or not finite, is null there.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
    /// Coordinator processes of the run so far: 1, and one more for each time it was resumed.
    pub terms: u64,
    /// What went wrong and was made good.
    pub faults: FaultCounts,
    /// Why `steps.log` may end before the run did; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_ends_early: Option<String>,
}

impl Summary {
    /// Reads what [`Summary::to_json`] wrote: the text and the JSON of it are the same again.
    ///
    /// # Errors
    ///
    /// [`SummaryError`], also for the summary of another schema version.
    pub fn read(path: &Path) -> Result<Self, SummaryError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_SUMMARY_BYTES).read_to_string(&mut text))
            .map_err(|source| SummaryError::Read { path: path.to_path_buf(), source })?;
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        match serde_json::from_str(&text) {
            Ok(Version { schema_version: found }) if found != SCHEMA_VERSION => {
                Err(SummaryError::OtherSchema { path: path.to_path_buf(), found })
            }
            _ => serde_json::from_str(&text)
                .map_err(|source| SummaryError::Invalid { path: path.to_path_buf(), source }),
        }
    }

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
        text.push('\n');
        if self.dataset_fallback {
            text.push_str("data     GENERATED DIGITS, NOT MNIST, which could not be had\n");
        }
        // The steps of an epoch that is not over are not in it.
        let of = if self.status == Status::Done {
            String::new()
        } else {
            format!("  (after epoch {})", self.epochs)
        };
        for (name, loss, accuracy, of) in [
            ("val ", self.val_loss, self.val_accuracy, of.as_str()),
            ("test", self.test_loss, self.test_accuracy, ""),
        ] {
            if let (Some(loss), Some(accuracy)) = (loss, accuracy) {
                let accuracy = percent(accuracy, 1);
                text.push_str(&format!("{name}     loss {loss:.4}  accuracy {accuracy}{of}\n"));
            }
        }
        if let Some(matrix) = &self.confusion_matrix {
            text.push_str(&confusion_table(matrix));
        }
        if let Some(faults) = self.faults.to_text() {
            text.push_str(&format!("faults   {faults}\n"));
        }
        text.push_str(&format!("run      {}\nweights  {}\n", self.run_dir, self.weights_digest));
        text
    }
}

/// Counts of a test set as a table for people: rows are the true digits, columns the predictions.
pub fn confusion_table(matrix: &[Vec<u32>]) -> String {
    let mut text = String::from("\nconfusion matrix\ntrue \\ predicted ");
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
            terms: 1,
            faults: FaultCounts::default(),
            log_ends_early: None,
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
            r#""diverged_at_step":null,"terms":1,"faults":{"workers_dropped":0,"copies_equal":0,"#,
            r#""copies_unchecked":0,"nodes_rejected":0,"assignments_copied":0,"assignments_revoked":0,"#,
            r#""worker_restarts":0}}"#,
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
        let expected = "\nconfusion matrix\ntrue \\ predicted      0     1\n    0               980     0\n    1                 7  1128\n\nrun ";
        assert!(summary.to_text().contains(expected), "{}", summary.to_text());
    }

    #[test]
    fn the_text_ends_with_the_whole_digest() {
        let digest = "ab".repeat(32);
        let expected = format!(
            "done  epochs 10  steps 7,970  40,800 examples/s\n\
             data     GENERATED DIGITS, NOT MNIST, which could not be had\n\
             test     loss 0.0712  accuracy 97.8 %\n\
             run      runs/20261123T181530Z-0011\n\
             weights  {digest}\n"
        );
        assert_eq!(summary().to_text(), expected);
        let interrupted = Summary {
            status: Status::Interrupted,
            interrupted_by: Some("SIGINT".to_owned()),
            examples_per_second: None,
            dataset_fallback: false,
            val_loss: Some(0.5),
            val_accuracy: Some(0.75),
            ..summary()
        };
        let expected = "interrupted by SIGINT  epochs 10  steps 7,970\n\
                        val      loss 0.5000  accuracy 75.0 %  (after epoch 10)\ntest ";
        assert!(interrupted.to_text().starts_with(expected), "{}", interrupted.to_text());
    }

    #[test]
    fn the_text_names_the_faults_that_there_were() {
        let faults = FaultCounts {
            workers_dropped: 3,
            copies_equal: 1,
            nodes_rejected: 12_345,
            worker_restarts: 2,
            ..FaultCounts::default()
        };
        let text = Summary { faults, ..summary() }.to_text();
        let expected =
            "\nfaults   3 workers lost, 2 workers restarted, 1 copy equal, 12,345 nodes rejected\nrun  ";
        assert!(text.contains(expected), "{text}");
        assert!(!summary().to_text().contains("faults"));
    }

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("summary.json");
        std::fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn a_summary_reads_back_as_it_was() {
        let faults = FaultCounts { workers_dropped: u64::MAX, copies_unchecked: 7, ..FaultCounts::default() };
        let finished = Summary {
            test_loss: Some(f32::from_bits(0x3e99_999a)),
            test_accuracy: Some(f32::from_bits(0x0000_0001)),
            train_seconds: 12.345_678_901_234_567,
            confusion_matrix: Some(vec![vec![980, 0], vec![7, 1128]]),
            seed: u64::MAX,
            learning_rate: 0.123_456_79,
            terms: 3,
            faults,
            ..summary()
        };
        let interrupted = Summary {
            status: Status::Interrupted,
            interrupted_by: Some("SIGTERM".to_owned()),
            threads_per_worker: None,
            examples_per_second: None,
            ..summary()
        };
        for original in [finished, interrupted] {
            let (_directory, path) = written(&format!("{}\n", original.to_json()));
            assert_eq!(Summary::read(&path).unwrap(), original);
        }
        let (_directory, path) = written(&Summary { val_loss: Some(f32::NAN), ..summary() }.to_json());
        assert_eq!(Summary::read(&path).unwrap(), summary(), "what is not finite is absent");
    }

    #[test]
    fn seconds_and_losses_keep_their_bits() {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..10_000 {
            // A xorshift generator: any mantissa, and times up to some years.
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let train_seconds = f64::from_bits(bits % (1 << 52) + ((1011 + bits % 40) << 52));
            let loss = f32::from_bits((bits % 0x7f80_0000) as u32);
            let original = Summary { train_seconds, val_loss: Some(loss), learning_rate: loss, ..summary() };
            let read: Summary = serde_json::from_str(&original.to_json()).unwrap();
            assert_eq!(read.train_seconds.to_bits(), train_seconds.to_bits());
            assert_eq!(read.val_loss.unwrap().to_bits(), loss.to_bits());
            assert_eq!(read.learning_rate.to_bits(), loss.to_bits());
        }
    }

    #[test]
    fn what_is_no_summary_is_refused_by_name() {
        let refused = |text: &str| {
            let (directory, path) = written(text);
            let message = Summary::read(&path).unwrap_err().to_string();
            message.replace(directory.path().to_str().unwrap(), "DIR")
        };
        let json = summary().to_json();
        let message = refused(&json[..json.len() - 1]);
        assert!(message.starts_with("DIR/summary.json is no summary of a run: EOF"), "{message}");
        let newer = json.replace("\"schema_version\":1", "\"schema_version\":2");
        let newer = refused(&newer);
        assert!(newer.contains("has schema version 2 and this program reads 1"), "{newer}");
        assert!(refused(&" ".repeat(2 << 20)).contains("is no summary"));
        let absent = Summary::read(Path::new("absent/summary.json")).unwrap_err().to_string();
        assert!(absent.starts_with("cannot read the summary absent/summary.json: "), "{absent}");
    }
}
