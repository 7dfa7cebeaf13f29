//! The fast network against the naive reference program, bit for bit, on every instruction set of this machine.

use lockstep_kernels::cpu::{InstructionSet, Kernel};
use lockstep_model::{Cpu, Network, PARAMETERS, Workspace, initial_weights, reference};
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

#[test]
fn a_shard_gradient_has_the_bits_of_the_reference() {
    let mut random = ChaCha8Rng::from_seed([1; 32]);
    for n in [0, 1, 2, 3, 5, 9] {
        for hostile in [false, true] {
            let weights = if hostile { hostile_weights(&mut random) } else { initial_weights(n as u64) };
            let (images, labels) = images(n, &mut random);
            let (sums, expected) =
                Cpu::detect().run(Reference { weights: &weights, images: &images, labels: &labels });
            for cpu in Cpu::available() {
                let mut network = Network::new(cpu);
                network.load(&weights);
                let mut workspace = Workspace::new();
                let mut gradient = vec![f32::NAN; PARAMETERS];
                // Twice, so that whatever a shard leaves in the workspace shows in the next.
                for _ in 0..2 {
                    let result =
                        network.shard_gradient(images.view(), labels.view(), &mut workspace, &mut gradient);
                    assert_eq!(result.loss.to_bits(), sums.loss.to_bits(), "loss, {cpu}, n = {n}");
                    assert_eq!(result.correct, sums.correct, "correct answers, {cpu}, n = {n}");
                    for (element, (got, want)) in bits(&gradient).iter().zip(bits(&expected)).enumerate() {
                        assert_eq!(
                            *got, want,
                            "element {element} of the gradient, {cpu}, n = {n}, {hostile}"
                        );
                    }
                }
            }
        }
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
