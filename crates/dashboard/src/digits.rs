//! What the newest weights make of test digits: a sample, predicted now and then and only while somebody looks.
//!
//! It has its own copy of a network and computes on the dashboard's thread. The whole test set is the run's to evaluate,
//! at its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep_dataset::{Examples, IMAGE_PIXELS, IMAGE_SIDE};
use lockstep_model::{CLASSES, Cpu, Network, PARAMETERS, Workspace, copy_from_le_bytes};
use ndarray::ArrayView3;
use serde::Serialize;

/// Test digits that are predicted: enough for a confusion matrix, and some 10 ms of work.
const SAMPLE: usize = 1000;

/// Those of them that are shown with their predictions.
const SHOWN: usize = 100;

/// Mistakes that are shown.
const WORST: usize = 12;

/// The sample is predicted no oftener: at the price above that is half a percent of one processor.
const EVERY: Duration = Duration::from_secs(2);

/// The sample and a network to predict it with.
pub struct Digits {
    examples: Examples,
    network: Network,
    workspace: Workspace,
    last: Option<(Instant, Arc<Predictions>)>,
}

/// The predictions of one state of the weights.
#[derive(Debug, PartialEq, Serialize)]
pub struct Predictions {
    /// Revision number, from 1.
    #[serde(skip)]
    pub revision: u64,
    /// The step after which the weights are these.
    pub step: u64,
    /// Examples of the sample.
    pub examples: usize,
    /// How many of them are right.
    pub correct: u32,
    /// Of the first ones: label, predicted digit, its probability.
    pub shown: Vec<(u8, u8, f32)>,
    /// The wrong ones whose label was thought least of: index, label, predicted digit, its probability.
    pub worst: Vec<(usize, u8, u8, f32)>,
    /// Counts `[label * 10 + predicted]`.
    pub confusion: Vec<u32>,
}

impl Digits {
    /// The first examples of a test set.
    pub fn of(test: &Examples) -> Self {
        let count = test.len().min(SAMPLE);
        let examples = Examples {
            images: test.images[..count * IMAGE_PIXELS].to_vec(),
            labels: test.labels[..count].to_vec(),
        };
        Self { examples, network: Network::new(Cpu::detect()), workspace: Workspace::new(), last: None }
    }

    /// The pixels of the sample, 784 bytes an image.
    pub fn images(&self) -> &[u8] {
        &self.examples.images
    }

    /// The pixels of one image.
    pub fn image(&self, index: usize) -> Option<&[u8]> {
        (index < self.examples.len()).then(|| self.examples.image(index))
    }

    /// Predictions with these weights, `now`; or older ones if they are not old yet, unless it is `urgent`.
    pub fn predict(
        &mut self,
        now: Instant,
        (step, weights): (u64, Bytes),
        urgent: bool,
    ) -> Option<Arc<Predictions>> {
        let revision = match &self.last {
            Some((at, last))
                if last.step == step || (!urgent && now.saturating_duration_since(*at) < EVERY) =>
            {
                return Some(Arc::clone(last));
            }
            last => last.as_ref().map_or(1, |(_, last)| last.revision + 1),
        };
        let mut values = vec![0.0; PARAMETERS];
        copy_from_le_bytes(&weights, &mut values);
        self.network.load(&values);
        let predictions = Arc::new(self.predictions(step, revision)?);
        self.last = Some((now, Arc::clone(&predictions)));
        Some(predictions)
    }

    fn predictions(&mut self, step: u64, revision: u64) -> Option<Predictions> {
        let count = self.examples.len();
        let images = ArrayView3::from_shape((count, IMAGE_SIDE, IMAGE_SIDE), &self.examples.images).ok()?;
        let mut predictions = Predictions {
            revision,
            step,
            examples: count,
            correct: 0,
            shown: Vec::with_capacity(SHOWN),
            worst: Vec::new(),
            confusion: vec![0; CLASSES * CLASSES],
        };
        let mut wrong = Vec::new();
        for (index, (image, &label)) in images.outer_iter().zip(&self.examples.labels).enumerate() {
            let prediction = self.network.predict(image, &mut self.workspace);
            let (predicted, row) = (prediction.class, prediction.probabilities);
            let (true_class, probability) = (usize::from(label), row[predicted]);
            predictions.confusion[true_class * CLASSES + predicted] += 1;
            predictions.correct += u32::from(predicted == true_class);
            // Below 10.
            let predicted = predicted as u8;
            if index < SHOWN {
                predictions.shown.push((label, predicted, probability));
            }
            if predicted != label {
                wrong.push((row[true_class], (index, label, predicted, probability)));
            }
        }
        wrong.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        predictions.worst = wrong.into_iter().take(WORST).map(|(_, mistake)| mistake).collect();
        Some(predictions)
    }
}

#[cfg(test)]
mod tests {
    use lockstep_model::{initial_weights, into_le_bytes};

    use super::*;

    #[test]
    fn predictions_count_every_example_and_name_the_worst_mistakes() {
        let test = lockstep_dataset::digits_test(1500);
        let mut digits = Digits::of(&test);
        let weights = || into_le_bytes(initial_weights(42));
        let begin = Instant::now();
        let first = digits.predict(begin, (7, weights()), false).unwrap();
        assert_eq!((first.step, first.examples, first.shown.len()), (7, SAMPLE, SHOWN));
        assert_eq!(first.confusion.iter().sum::<u32>(), SAMPLE as u32);
        let right: u32 = (0..CLASSES).map(|class| first.confusion[class * 11]).sum();
        assert_eq!(first.correct, right);
        assert_eq!(first.worst.len(), WORST, "untrained weights make mistakes");
        assert!(first.worst.iter().all(|(_, label, predicted, _)| label != predicted));
        // As the kernels of training evaluate it.
        let mut network = Network::new(Cpu::detect());
        network.load(&initial_weights(42));
        let images = ArrayView3::from_shape((SAMPLE, 28, 28), digits.images()).unwrap();
        let mut confusion = [0; 100];
        let labels = ndarray::ArrayView1::from(&digits.examples.labels);
        network.evaluate(images, labels, &mut Workspace::new(), &mut confusion);
        assert_eq!(first.confusion, confusion);

        // Not oftener than it is allowed, unless the run is over; and never twice the same.
        assert_eq!(digits.predict(begin + EVERY / 2, (8, weights()), false).unwrap().revision, 1);
        assert_eq!(digits.predict(begin + EVERY / 2, (8, weights()), true).unwrap().revision, 2);
        assert_eq!(digits.predict(begin + EVERY * 3, (8, weights()), true).unwrap().revision, 2);
        assert_eq!(digits.predict(begin + EVERY * 3, (9, weights()), false).unwrap().revision, 3);
    }
}
