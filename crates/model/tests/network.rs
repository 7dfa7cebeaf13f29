//! The fast network against the naive reference program, bit for bit, on every instruction set of this machine.

use lockstep_kernels::cpu::{InstructionSet, Kernel};
use lockstep_model::{Cpu, Network, PARAMETERS, TENSORS, Workspace, initial_weights, reference};
use ndarray::{Array1, Array3, s};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The reference, on the fastest fused multiply-add of the machine (a kernel test holds the software one equal).
struct Reference<'a> {
    weights: &'a [f32],
    images: &'a Array3<u8>,
    labels: &'a Array1<u8>,
}

impl Kernel for Reference<'_> {
    type Output = (reference::Sums<f32>, Vec<f32>);

    #[inline(always)]
    fn run<S: InstructionSet>(self) -> Self::Output {
        let mut gradient = vec![0.0; PARAMETERS];
        let (images, labels) = (self.images.view(), self.labels.view());
        let sums = reference::shard_gradient::<f32, S>(self.weights, images, labels, &mut gradient);
        (sums, gradient)
    }
}

/// Images with large black areas, as digits have them.
fn images(n: usize, random: &mut ChaCha8Rng) -> (Array3<u8>, Array1<u8>) {
    let images = Array3::from_shape_fn((n, 28, 28), |_| {
        let word = random.next_u32();
        if word & 0x100 == 0 { 0 } else { word as u8 }
    });
    (images, Array1::from_shape_fn(n, |_| (random.next_u32() % 10) as u8))
}

/// Biases that are not zero, weights that are subnormal, zero or large among ordinary ones.
fn hostile_weights(random: &mut ChaCha8Rng) -> Box<[f32]> {
    let mut weights = initial_weights(random.next_u64());
    for weight in &mut weights {
        match random.next_u32() % 40 {
            0 => *weight = f32::from_bits(random.next_u32() & 0x807f_ffff),
            1 => *weight = -0.0,
            2 => *weight *= 8.0,
            3 => *weight = 0.125,
            _ => {}
        }
    }
    weights
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Asserts on every instruction set that a shard has the reference's bits, in a workspace that others used.
fn assert_like_reference(name: &str, weights: &[f32], images: &Array3<u8>, labels: &Array1<u8>) {
    let (sums, expected) = Cpu::detect().run(Reference { weights, images, labels });
    let mut random = ChaCha8Rng::from_seed([3; 32]);
    for cpu in Cpu::available() {
        let mut network = Network::new(cpu);
        network.load(weights);
        let mut workspace = Workspace::new();
        let mut gradient = vec![f32::NAN; PARAMETERS];
        for others in [0, 3] {
            // Whatever another shard, of another size, leaves in the workspace must not show.
            let (other_images, other_labels) = self::images(others, &mut random);
            network.shard_gradient(other_images.view(), other_labels.view(), &mut workspace, &mut gradient);
            let result = network.shard_gradient(images.view(), labels.view(), &mut workspace, &mut gradient);
            assert_eq!(result.loss.to_bits(), sums.loss.to_bits(), "loss, {cpu}, {name}");
            assert_eq!(result.correct, sums.correct, "correct answers, {cpu}, {name}");
            for (element, (got, want)) in bits(&gradient).iter().zip(bits(&expected)).enumerate() {
                assert_eq!(*got, want, "element {element} of the gradient, {cpu}, {name}");
            }
        }
    }
}

#[test]
fn a_shard_gradient_has_the_bits_of_the_reference() {
    let mut random = ChaCha8Rng::from_seed([1; 32]);
    for n in [0, 1, 2, 3, 4, 5, 8, 9] {
        for hostile in [false, true] {
            let weights = if hostile { hostile_weights(&mut random) } else { initial_weights(n as u64) };
            let (images, labels) = images(n, &mut random);
            assert_like_reference(&format!("n = {n}, hostile: {hostile}"), &weights, &images, &labels);
        }
    }
}

#[test]
fn black_images_and_dead_layers_have_the_bits_of_the_reference() {
    let mut random = ChaCha8Rng::from_seed([4; 32]);
    let labels = Array1::from_shape_fn(5, |i| i as u8);
    assert_like_reference("black images", &initial_weights(1), &Array3::zeros((5, 28, 28)), &labels);
    for bias in [1, 3, 5, 7] {
        let mut weights = initial_weights(2);
        weights[TENSORS[bias].range()].fill(-1.0e3);
        let (images, labels) = images(5, &mut random);
        assert_like_reference(
            &format!("{} so low that nothing passes", TENSORS[bias].name),
            &weights,
            &images,
            &labels,
        );
    }
}

#[test]
fn an_activation_that_overflows_gives_the_bits_of_the_reference() {
    let mut weights = initial_weights(1);
    // The second filter's sums overflow wherever a pixel is bright; the loss stays finite.
    weights[TENSORS[0].range()].iter_mut().skip(1).step_by(16).for_each(|weight| *weight = f32::MAX);
    let (images, labels) = images(4, &mut ChaCha8Rng::from_seed([5; 32]));
    assert_like_reference("overflow", &weights, &images, &labels);
}

#[test]
fn no_sum_of_a_shard_ends_as_negative_zero() {
    // The hidden layer's outputs are the smallest subnormal, so products with a negative gradient round to -0.0.
    let mut weights = vec![0.0; PARAMETERS];
    weights[TENSORS[7].range()].fill(f32::from_bits(1));
    let (images, labels) = images(3, &mut ChaCha8Rng::from_seed([6; 32]));
    assert_like_reference("underflow", &weights, &images, &labels);
    let mut network = Network::new(Cpu::detect());
    network.load(&weights);
    let mut gradient = vec![0.0; PARAMETERS];
    network.shard_gradient(images.view(), labels.view(), &mut Workspace::new(), &mut gradient);
    assert!(bits(&gradient).iter().all(|bits| *bits != (-0.0_f32).to_bits()));
}

#[test]
fn a_shard_is_counted_group_after_group_and_stops_where_nobody_wants_it() {
    let mut random = ChaCha8Rng::from_seed([4; 32]);
    let (images, labels) = images(11, &mut random);
    let (images, labels) = (images.view(), labels.view());
    let mut network = Network::new(Cpu::detect());
    network.load(&initial_weights(1));
    let mut workspace = Workspace::new();
    for most in [1, 2, 3, 4] {
        let mut groups = Vec::new();
        let go_on = |examples| {
            groups.push(examples);
            groups.len() < most
        };
        let mut gradient = vec![7.0; PARAMETERS];
        let trained =
            network.shard_gradient_while(images, labels, &mut workspace, &mut gradient, |_| {}, go_on);
        assert_eq!(groups, [4, 4, 3][..most.min(3)]);
        assert_eq!(trained.is_some(), most > 3);
        assert_eq!(gradient.iter().all(|value| *value == 7.0), most <= 3, "touched only by a whole shard");
        let mut groups = Vec::new();
        let go_on = |examples| {
            groups.push(examples);
            groups.len() < most
        };
        let evaluated = network.evaluate_while(images, labels, &mut workspace, &mut [0; 100], go_on);
        assert_eq!(groups, [4, 4, 3][..most.min(3)]);
        assert_eq!(evaluated, trained);
    }
}

#[test]
fn evaluation_has_the_losses_and_answers_of_the_gradient() {
    let mut random = ChaCha8Rng::from_seed([2; 32]);
    let weights = hostile_weights(&mut random);
    let (images, labels) = images(11, &mut random);
    for cpu in Cpu::available() {
        let mut network = Network::new(cpu);
        network.load(&weights);
        let mut workspace = Workspace::new();
        let mut gradient = vec![0.0; PARAMETERS];
        let trained = network.shard_gradient(images.view(), labels.view(), &mut workspace, &mut gradient);
        let mut confusion = [0; 100];
        let evaluated = network.evaluate(images.view(), labels.view(), &mut workspace, &mut confusion);
        assert_eq!(evaluated, trained, "{cpu}");
        assert_eq!((0..10).map(|class| confusion[11 * class]).sum::<u32>(), evaluated.correct, "{cpu}");
        for label in 0..10 {
            let row: u32 = confusion[10 * label..10 * label + 10].iter().sum();
            let expected = labels.iter().filter(|&&found| usize::from(found) == label).count();
            assert_eq!(row as usize, expected, "examples of class {label}, {cpu}");
        }
        // One image at a time gives the same answer as eleven.
        let mut single = [0; 100];
        for i in 0..labels.len() {
            let (image, label) = (images.slice(s![i..=i, .., ..]), labels.slice(s![i..=i]));
            network.evaluate(image, label, &mut workspace, &mut single);
        }
        assert_eq!(single, confusion, "{cpu}");
    }
}
