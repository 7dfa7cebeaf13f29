//! What is measured of the weights now and then, beside the training: their norms, and a picture of predictions.
//!
//! Plain data, like the records of steps; the measuring thread decides how often. `metrics.jsonl` does not have them: its
//! lines are what every run of the same identity has.

/// The norms of the weights after one step, and of the gradient that made them.
#[derive(Clone, Debug, PartialEq)]
pub struct NormsRecord {
    /// Step of the run, from 1.
    pub step: u64,
    /// One entry a tensor, in the order of the parameters.
    pub tensors: Vec<TensorNorms>,
}

/// Euclidean norms of one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorNorms {
    /// Its name, as `conv1.kernel`.
    pub name: &'static str,
    /// Of the weights after the step.
    pub weights: f64,
    /// Of the batch's mean gradient, as the update shows it: the weights before less those after, over the learning
    /// rate. It carries the rounding of the update, about one part in ten thousand.
    pub gradient: f64,
}

impl NormsRecord {
    /// The norms of all tensors together: of the weights and of the gradient.
    pub fn total(&self) -> (f64, f64) {
        let total = |norm: fn(&TensorNorms) -> f64| {
            self.tensors.iter().map(|tensor| norm(tensor).powi(2)).sum::<f64>().sqrt()
        };
        (total(|tensor| tensor.weights), total(|tensor| tensor.gradient))
    }
}

/// A picture of what the weights after one step make of the first test images.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureRecord {
    /// The last step of the epoch that it was made after.
    pub step: u64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The picture as a PNG of red, green and blue.
    pub png: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_of_all_is_that_of_one_long_vector() {
        let tensor = |name, weights, gradient| TensorNorms { name, weights, gradient };
        let record = NormsRecord { step: 1, tensors: vec![tensor("a", 3.0, 2.0), tensor("b", 4.0, 0.0)] };
        assert_eq!(record.total(), (5.0, 2.0));
    }
}
