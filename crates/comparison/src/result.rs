//! What comparing runs has found: a column for each run, the fields that differ, and a sentence for each pair.
//!
//! It is the JSON object as it stands; `table`, `curves` and `plot` show it to people.

use lockstep_model::Digest;
use lockstep_proto::RunId;
use lockstep_records::{EpochRecord, FaultCounts};
use serde::Serialize;

use super::curves::CurvePoint;
use super::differences::{Difference, differences};
use super::first_difference::FirstDifference;
use super::run::Run;

/// Version of the shape of the JSON object.
const SCHEMA_VERSION: u32 = 1;

/// Everything; absent values are null.
#[derive(Debug, Serialize)]
pub struct Comparison<'a> {
    schema_version: u32,
    /// In the order in which they were named.
    pub runs: Vec<Column<'a>>,
    /// Fields of identity and settings that are not the same in all runs.
    pub differences: Vec<Difference>,
    /// Every two runs.
    pub pairs: Vec<Pair>,
}

/// A run.
#[derive(Debug, Serialize)]
pub struct Column<'a> {
    /// A letter.
    pub name: String,
    /// Its folder, as it was named.
    pub run_dir: &'a str,
    /// Its random id, 32 hex digits.
    pub run_id: String,
    /// `done`, `diverged`, `interrupted`, or `unfinished` if it has not come to an end.
    pub status: &'static str,
    /// `mnist` or `digits`.
    pub dataset: &'a str,
    /// Epochs completed.
    pub epochs: u32,
    /// Steps completed.
    pub steps: u64,
    /// Of the training loop.
    pub examples_per_second: Option<f64>,
    /// Length of the training loop.
    pub train_seconds: Option<f64>,
    /// Of the last evaluation.
    pub val_loss: Option<f32>,
    /// Of the last evaluation, 0 to 1.
    pub val_accuracy: Option<f32>,
    /// On the test set.
    pub test_loss: Option<f32>,
    /// On the test set, 0 to 1.
    pub test_accuracy: Option<f32>,
    /// Coordinator processes so far.
    pub terms: u64,
    /// What went wrong and was made good.
    pub faults: Option<FaultCounts>,
    /// SHA-256 of the weights after the last step, 64 hex digits.
    pub weights_digest: Option<String>,
    /// What is wrong with its log.
    pub log_damage: Option<String>,
    /// Its epochs.
    pub epoch_curve: &'a [EpochRecord],
    /// Its steps, gathered into at most 2048 points.
    pub step_curve: &'a [CurvePoint],
}

/// Two runs.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// Name of the one.
    pub first: String,
    /// Name of the other.
    pub second: String,
    /// Keys of the identity in which they differ.
    pub identity_differences: Vec<&'static str>,
    /// What their logs say.
    #[serde(flatten)]
    pub difference: FirstDifference,
    /// Whether they had to have the same bits, and have not.
    pub broken_promise: bool,
    /// All of it for people.
    pub sentence: String,
    /// Whether there is no more telling pair of the second run.
    #[serde(skip)]
    pub is_shown: bool,
}

impl<'a> Comparison<'a> {
    /// Holds `runs` against each other.
    pub fn new(runs: &'a [Run]) -> Self {
        let fields: Vec<_> = runs.iter().map(|run| &run.fields).collect();
        let mut pairs = Vec::new();
        for second in 1..runs.len() {
            // Whose bits it must have, if it is not the first run of all.
            let model = runs.iter().position(|run| run.identity_differences(&runs[second]).is_empty());
            for first in 0..second {
                let mut pair = pair([first, second].map(|index| (name(index), &runs[index])));
                pair.is_shown = first == 0 || Some(first) == model || pair.broken_promise;
                pairs.push(pair);
            }
        }
        Self {
            schema_version: SCHEMA_VERSION,
            runs: runs.iter().enumerate().map(|(index, run)| Column::of(name(index), run)).collect(),
            differences: differences(&fields),
            pairs,
        }
    }

    /// Whether two runs had to have the same bits, and have not.
    pub fn has_broken_promise(&self) -> bool {
        self.pairs.iter().any(|pair| pair.broken_promise)
    }

    /// One JSON object on one line, with its line break.
    ///
    /// # Errors
    ///
    /// None that numbers and texts have.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|json| json + "\n")
    }
}

/// A to P.
fn name(index: usize) -> String {
    char::from(b'A' + index as u8).to_string()
}

fn pair([(first, one), (second, other)]: [(String, &Run); 2]) -> Pair {
    let identity_differences = one.identity_differences(other);
    let difference = FirstDifference::of(&one.logged, &other.logged);
    let broken_promise = identity_differences.is_empty() && difference.first_different_step.is_some();
    let mut sentence = format!("{first} and {second}: {}", difference.to_text());
    if !identity_differences.is_empty() {
        let conjunction = match difference.first_different_step {
            None if difference.steps_compared > 0 => ", though they",
            _ => "; they",
        };
        sentence.push_str(&format!("{conjunction} differ in {}", identity_differences.join(", ")));
    } else if let Some(step) = difference.first_different_step {
        let verify =
            [one, other].map(|run| format!("coordinator verify {} --from {step} --to {step}", run.directory));
        sentence.push_str(&format!(
            "; a broken promise: their identity is the same, and so must be every bit. One of them computed or \
             recorded step {step} wrong: `{}` and `{}` tell which",
            verify[0], verify[1]
        ));
    }
    Pair { first, second, identity_differences, difference, broken_promise, sentence, is_shown: true }
}

impl<'a> Column<'a> {
    fn of(name: String, run: &'a Run) -> Self {
        let (history, summary) = (&run.history, run.summary.as_ref());
        let last_epoch = run.epochs.last();
        Self {
            name,
            run_dir: &run.directory,
            run_id: RunId(run.run_id).to_string(),
            status: summary.map_or("unfinished", |summary| summary.status.name()),
            dataset: &run.dataset,
            epochs: summary.map_or(last_epoch.map_or(0, |epoch| epoch.epoch), |summary| summary.epochs),
            steps: summary.map_or(run.last_logged(), |summary| summary.steps),
            examples_per_second: summary.and_then(|summary| summary.examples_per_second),
            train_seconds: summary.map(|summary| summary.train_seconds),
            val_loss: summary.map_or(last_epoch.and_then(|epoch| epoch.val_loss), |summary| summary.val_loss),
            val_accuracy: summary
                .map_or(last_epoch.and_then(|epoch| epoch.val_accuracy), |summary| summary.val_accuracy),
            test_loss: summary.and_then(|summary| summary.test_loss),
            test_accuracy: summary.and_then(|summary| summary.test_accuracy),
            terms: summary.map_or(0, |summary| summary.terms).max(history.last_term()),
            faults: summary.map(|summary| summary.faults),
            weights_digest: match summary {
                Some(summary) => Some(summary.weights_digest.clone()),
                None => run.logged.last().map(|(_, digest)| Digest(*digest).to_string()),
            },
            log_damage: history.damages().first().map(ToString::to_string),
            epoch_curve: &run.epochs,
            step_curve: &run.curve,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::first_difference::tests::logged;
    use lockstep_checkpoint::History;

    use super::*;

    /// A run that has only a log.
    fn run(directory: &str, seed: u64, digests: &[u8]) -> Run {
        Run {
            directory: directory.to_string(),
            run_id: [1; 16],
            identity: vec![("seed", seed.to_string()), ("dataset", "digits".to_string())],
            dataset: "digits".to_string(),
            fields: Vec::new(),
            history: History::default(),
            logged: logged(0, digests),
            summary: None,
            epochs: Vec::new(),
            curve: Vec::new(),
        }
    }

    #[test]
    fn other_bits_of_the_same_identity_are_a_broken_promise() {
        let runs = [run("runs/x", 1, &[1, 2, 3]), run("runs/y", 1, &[1, 2, 9, 9])];
        let comparison = Comparison::new(&runs);
        assert!(comparison.has_broken_promise());
        assert_eq!(
            comparison.pairs[0].sentence,
            "A and B: the same bits up to step 2, different from step 3 on; a broken promise: their identity is the \
             same, and so must be every bit. One of them computed or recorded step 3 wrong: `coordinator verify \
             runs/x --from 3 --to 3` and `coordinator verify runs/y --from 3 --to 3` tell which"
        );
        for others in
            [[run("x", 1, &[1, 2]), run("y", 2, &[8, 9])], [run("x", 1, &[1, 2]), run("y", 1, &[1])]]
        {
            assert!(!Comparison::new(&others).has_broken_promise());
        }
    }

    #[test]
    fn pairs_without_the_first_run_are_shown_where_they_must_be_equal() {
        let runs =
            [run("a", 1, &[1, 2]), run("b", 2, &[5, 6]), run("c", 2, &[5, 6, 7]), run("d", 2, &[5, 6, 8])];
        let comparison = Comparison::new(&runs);
        let shown = comparison.pairs.iter().filter(|pair| pair.is_shown);
        let shown: Vec<_> = shown.map(|pair| format!("{}{}", pair.first, pair.second)).collect();
        // C and D agree with all that B has, and differ behind it.
        assert_eq!(shown, ["AB", "AC", "BC", "AD", "BD", "CD"]);
        assert_eq!(comparison.pairs.iter().filter(|pair| pair.broken_promise).count(), 1);
        let three = [run("a", 1, &[1]), run("b", 2, &[5]), run("c", 3, &[6])];
        let comparison = Comparison::new(&three);
        assert_eq!(comparison.pairs.iter().filter(|pair| pair.is_shown).count(), 2, "B and C tell nothing");
    }

    #[test]
    fn a_run_without_an_end_shows_what_its_log_has() {
        let runs = [run("a", 1, &[1, 2]), run("b", 1, &[])];
        let comparison = Comparison::new(&runs);
        let [first, second] = &comparison.runs[..] else { panic!("two runs") };
        assert_eq!((first.status, first.steps, second.steps), ("unfinished", 2, 0));
        assert_eq!(first.weights_digest.as_deref(), Some(&*"02".repeat(32)));
        assert_eq!(second.weights_digest, None);
    }
}
