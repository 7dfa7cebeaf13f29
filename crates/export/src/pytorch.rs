//! PyTorch's tensors: channels first, filters before channels, dense weights as output by input.
//!
//! One permutation a tensor serves both directions, so they cannot drift apart.

use lockstep_model::{PARAMETERS, TENSORS, TensorSpec};

use crate::NamedTensor;

/// The names of the tensors, in the order of [`TENSORS`], of a module whose layers are called as the network's.
pub const NAMES: [&str; 10] = [
    "conv1.weight",
    "conv1.bias",
    "conv2.weight",
    "conv2.bias",
    "conv3.weight",
    "conv3.bias",
    "dense1.weight",
    "dense1.bias",
    "dense2.weight",
    "dense2.bias",
];

/// Which of [`TENSORS`] reads the flattened feature maps.
const AFTER_FLATTEN: &str = "dense1.kernel";
/// Places and channels of the feature maps that are flattened, `[3, 3, 32]` here and `[32, 3, 3]` there.
const PLACES: usize = 9;
const CHANNELS: usize = 32;

/// The weights as PyTorch's tensors.
///
/// # Panics
///
/// If there are not [`PARAMETERS`] weights.
pub fn tensors(weights: &[f32]) -> Vec<NamedTensor> {
    assert_eq!(weights.len(), PARAMETERS, "the network's weights");
    let tensor = |(spec, name): (&TensorSpec, &str)| {
        let values = &weights[spec.range()];
        NamedTensor {
            name: name.to_owned(),
            shape: shape(spec),
            values: order(spec).into_iter().map(|from| values[from]).collect(),
        }
    };
    TENSORS.iter().zip(NAMES).map(tensor).collect()
}

/// Writes one tensor's values, as PyTorch has them, into the network's weights.
pub(crate) fn put(spec: &TensorSpec, values: &[f32], weights: &mut [f32]) {
    let target = &mut weights[spec.range()];
    for (value, to) in values.iter().zip(order(spec)) {
        target[to] = *value;
    }
}

/// The shape of one of the network's tensors in PyTorch.
pub(crate) fn shape(spec: &TensorSpec) -> Vec<usize> {
    match *spec.shape {
        [height, width, channels, filters] => vec![filters, channels, height, width],
        [inputs, outputs] => vec![outputs, inputs],
        _ => spec.shape.to_vec(),
    }
}

/// For each element of PyTorch's tensor, where it lies in the network's.
fn order(spec: &TensorSpec) -> Vec<usize> {
    match *spec.shape {
        [height, width, channels, filters] => {
            let place = |filter, channel, y, x| ((y * width + x) * channels + channel) * filters + filter;
            let mut order = Vec::with_capacity(spec.len());
            for filter in 0..filters {
                for channel in 0..channels {
                    for y in 0..height {
                        order.extend((0..width).map(|x| place(filter, channel, y, x)));
                    }
                }
            }
            order
        }
        [inputs, outputs] => {
            // There the inputs after the flattening come channel by channel.
            let input = |there: usize| match spec.name {
                AFTER_FLATTEN => there % PLACES * CHANNELS + there / PLACES,
                _ => there,
            };
            (0..outputs)
                .flat_map(|output| (0..inputs).map(move |there| input(there) * outputs + output))
                .collect()
        }
        _ => (0..spec.len()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_has_one_place() {
        for spec in &TENSORS {
            let mut order = order(spec);
            order.sort_unstable();
            assert!(order.into_iter().eq(0..spec.len()), "{}", spec.name);
            assert_eq!(shape(spec).iter().product::<usize>(), spec.len());
        }
    }

    #[test]
    fn known_elements_lie_where_pytorch_reads_them() {
        // Each weight is its own place, so that a value tells where it came from.
        let weights: Vec<f32> = (0..PARAMETERS).map(|place| place as f32).collect();
        let tensors = tensors(&weights);
        let at = |tensor: usize, index: &[usize]| {
            let NamedTensor { shape, values, .. } = &tensors[tensor];
            assert_eq!(shape.len(), index.len());
            values[index.iter().zip(shape).fold(0, |place, (index, side)| place * side + index)] as usize
        };
        // conv2: filter 5, channel 7, row 2, column 1 of [32, 16, 3, 3].
        assert_eq!(tensors[2].shape, [32, 16, 3, 3]);
        assert_eq!(at(2, &[5, 7, 2, 1]), TENSORS[2].offset + ((2 * 3 + 1) * 16 + 7) * 32 + 5);
        // dense1: output 9 of the input at channel 30, row 1, column 2.
        assert_eq!(tensors[6].shape, [64, 288]);
        assert_eq!(at(6, &[9, 30 * 9 + 3 + 2]), TENSORS[6].offset + ((3 + 2) * 32 + 30) * 64 + 9);
        // dense2 knows no flattening.
        assert_eq!(tensors[8].shape, [10, 64]);
        assert_eq!(at(8, &[4, 33]), TENSORS[8].offset + 33 * 10 + 4);
        assert_eq!(at(9, &[3]), TENSORS[9].offset + 3);
    }
}
