//! What the simulated cluster computes: hashes in place of gradients, so that a step costs microseconds, or the real
//! network on a few small images. It decides nothing and knows neither time nor network.
//!
//! A toy sum does not commute, so that any other order of adding gives other weights.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use lockstep_control::{Task, TaskKind};
use lockstep_model::{CLASSES, Cpu, IMAGE_SIDE, Network, PARAMETER_BYTES, PARAMETERS, PIXELS, Workspace};
use lockstep_reduction::{Answer, Payload};
use ndarray::{ArrayView1, ArrayView3};
use sha2::{Digest, Sha256};

/// The learning rate of clusters with the real network.
const LEARNING_RATE: f32 = 0.05;

/// Weights, or the sum over a node.
#[derive(Clone, Debug)]
pub enum Value {
    /// 32 bytes.
    Toy {
        /// The bytes.
        words: [u64; 4],
        /// It stands for a number that is not finite, as whatever is made of it does.
        poisoned: bool,
    },
    /// Floats of the real network.
    Floats(Arc<[f32]>),
}

impl PartialEq for Value {
    /// Bits, not numbers.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Toy { words, poisoned }, Self::Toy { words: others, poisoned: other }) => {
                words == others && poisoned == other
            }
            (Self::Floats(left), Self::Floats(right)) => {
                let bits =
                    left.iter().zip(right.iter()).all(|(left, right)| left.to_bits() == right.to_bits());
                left.len() == right.len() && bits
            }
            _ => false,
        }
    }
}

/// Computes leaves and updates of one run.
#[derive(Debug)]
pub struct Arithmetic {
    seed: u64,
    kernels: Option<RefCell<Kernels>>,
}

/// The real network, and the weights that it has loaded.
struct Kernels {
    network: Network,
    workspace: Workspace,
    loaded: Option<Arc<[f32]>>,
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kernels")
    }
}

impl Arithmetic {
    /// Of a seed, with the real network or with hashes.
    pub fn new(seed: u64, kernels: bool) -> Self {
        let kernels = kernels.then(|| {
            let network = Network::new(Cpu::detect());
            RefCell::new(Kernels { network, workspace: Workspace::new(), loaded: None })
        });
        Self { seed, kernels }
    }

    /// The weights before the first step.
    pub fn initial(&self) -> Value {
        if self.kernels.is_some() {
            return Value::Floats(lockstep_model::initial_weights(self.seed).into());
        }
        toy(hash(&[1, self.seed]), false)
    }

    /// The sum over one leaf, whose examples stand at `examples`; `None` if there are none.
    pub fn leaf(&self, task: Task, examples: Range<u32>, weights: &Value) -> Option<Value> {
        if examples.is_empty() {
            return None;
        }
        match (weights, &self.kernels) {
            (Value::Toy { words: [a, b, c, d], .. }, _) => {
                let (from, to) = (u64::from(examples.start), u64::from(examples.end));
                let words = hash(&[2, self.seed, task.kind as u64, task.step, from, to, *a, *b, *c, *d]);
                Some(toy(words, false))
            }
            (Value::Floats(weights), Some(kernels)) => {
                Some(kernels.borrow_mut().leaf(self.seed, task, examples, weights))
            }
            (Value::Floats(_), None) => unreachable!("floats come from the network"),
        }
    }

    /// The weights after a step over so many examples; `None` if they are not finite.
    pub fn update(&self, weights: &Value, root: &Value, examples: u32) -> Option<Value> {
        match (weights, root) {
            (Value::Toy { words: w, .. }, Value::Toy { words: r, poisoned }) => {
                let words = hash(&[4, u64::from(examples), w[0], w[1], w[2], w[3], r[0], r[1], r[2], r[3]]);
                (!poisoned).then_some(toy(words, false))
            }
            (Value::Floats(weights), Value::Floats(root)) => {
                let mut updated = vec![0.0; PARAMETERS];
                let finite = lockstep_model::sgd_update(weights, root, LEARNING_RATE, examples, &mut updated);
                finite.then(|| Value::Floats(updated.into()))
            }
            _ => unreachable!("one run has one kind of values"),
        }
    }
}

impl Payload for Value {
    type Memory = ();

    fn plus(self, right: Self, (): &()) -> Self {
        match (self, right) {
            (Self::Toy { words: l, poisoned: bad }, Self::Toy { words: r, poisoned: worse }) => {
                toy(hash(&[3, l[0], l[1], l[2], l[3], r[0], r[1], r[2], r[3]]), bad || worse)
            }
            (Self::Floats(left), Self::Floats(right)) => {
                let mut sum = left.to_vec();
                lockstep_reduction::sum_into(&mut sum, &right);
                Self::Floats(sum.into())
            }
            _ => unreachable!("one run has one kind of values"),
        }
    }
}

impl Answer for Value {
    type Sum = Self;

    fn equals(&self, counted: &Self) -> bool {
        self == counted
    }

    fn is_finite(&self) -> bool {
        match self {
            Self::Toy { poisoned, .. } => !poisoned,
            Self::Floats(values) => values.iter().all(|value| value.is_finite()),
        }
    }
}

impl Value {
    /// A wrong answer, of the kind that shows at the latest when the step is taken.
    pub fn corrupted(&self) -> Self {
        match self {
            Self::Toy { words: [a, b, c, d], .. } => toy([*a, *b, *c, d ^ 1], true),
            Self::Floats(values) => {
                let mut values = values.to_vec();
                values[0] = f32::NAN;
                Self::Floats(values.into())
            }
        }
    }

    /// As it lies on the disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Toy { words, .. } => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            Self::Floats(values) => {
                let mut bytes = vec![0; 4 * values.len()];
                lockstep_model::copy_to_le_bytes(values, &mut bytes);
                bytes
            }
        }
    }

    /// The number of bytes of [`Self::to_bytes`].
    pub fn byte_len(&self) -> usize {
        match self {
            Self::Toy { words, .. } => size_of_val(words),
            Self::Floats(values) => size_of_val(&values[..]),
        }
    }

    /// The weights that [`Self::to_bytes`] wrote; `None` if no weights have that length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() == PARAMETER_BYTES {
            let mut values = vec![0.0; PARAMETERS];
            lockstep_model::copy_from_le_bytes(bytes, &mut values);
            return Some(Self::Floats(values.into()));
        }
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Some(toy(words, false))
    }

    /// SHA-256 over the bytes.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }
}

impl Kernels {
    fn leaf(&mut self, seed: u64, task: Task, examples: Range<u32>, weights: &Arc<[f32]>) -> Value {
        if !self.loaded.as_ref().is_some_and(|loaded| Arc::ptr_eq(loaded, weights)) {
            self.network.load(weights);
            self.loaded = Some(Arc::clone(weights));
        }
        let count = examples.len();
        let (pixels, labels) = images(seed, task.kind, examples);
        let images = ArrayView3::from_shape((count, IMAGE_SIDE, IMAGE_SIDE), &pixels[..])
            .expect("as many pixels as the images have");
        let labels = ArrayView1::from(&labels[..]);
        if task.kind == TaskKind::Train {
            let mut gradient = vec![0.0; PARAMETERS];
            self.network.shard_gradient(images, labels, &mut self.workspace, &mut gradient);
            return Value::Floats(gradient.into());
        }
        let mut confusion = [0; 100];
        let result = self.network.evaluate(images, labels, &mut self.workspace, &mut confusion);
        // Counts this small are exact as floats, in any order of adding.
        let counts = confusion.iter().map(|count| *count as f32);
        Value::Floats([result.loss, result.correct as f32].into_iter().chain(counts).collect())
    }
}

/// Small synthetic images: a pure function of the seed, the set and the place in it.
fn images(seed: u64, kind: TaskKind, examples: Range<u32>) -> (Vec<u8>, Vec<u8>) {
    let mut pixels = Vec::with_capacity(examples.len() * PIXELS);
    let mut labels = Vec::with_capacity(examples.len());
    for example in examples {
        let mut state = hash(&[5, seed, kind as u64, u64::from(example)]);
        labels.push((state[0] % CLASSES as u64) as u8);
        while pixels.len() % PIXELS != 0 || state[3] != 0 {
            pixels.extend_from_slice(&state[1].to_le_bytes());
            let done = pixels.len() % PIXELS == 0;
            state = if done { [0; 4] } else { hash(&state) };
        }
    }
    (pixels, labels)
}

fn toy(words: [u64; 4], poisoned: bool) -> Value {
    Value::Toy { words, poisoned }
}

/// A quick hash of words, in which every bit and every place counts. No promise against malice.
fn hash(words: &[u64]) -> [u64; 4] {
    let mut state =
        [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0x2545_f491_4f6c_dd1d];
    for (place, word) in words.iter().enumerate() {
        let lane = place % 4;
        state[lane] = fold(state[lane] ^ word, state[(lane + 1) % 4] ^ place as u64);
    }
    for round in 0..4 {
        for lane in 0..4 {
            state[lane] =
                fold(state[lane] ^ 0xa076_1d64_78bd_642f, state[(lane + 1) % 4].wrapping_add(round));
        }
    }
    state
}

/// Both halves of a product, folded.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a | 1) * u128::from(b | 1);
    (product as u64) ^ ((product >> 64) as u64) ^ a.rotate_left(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Task = Task { kind: TaskKind::Train, step: 3 };

    #[test]
    fn toy_sums_do_not_commute_and_every_input_counts() {
        let toys = Arithmetic::new(1, false);
        let weights = toys.initial();
        let leaf = |from| toys.leaf(STEP, from..from + 2, &weights).unwrap();
        assert_eq!(leaf(0), leaf(0));
        assert_ne!(leaf(0), leaf(2));
        assert_ne!(leaf(0).plus(leaf(2), &()), leaf(2).plus(leaf(0), &()));
        assert_ne!(toys.update(&weights, &leaf(0), 4), toys.update(&weights, &leaf(0), 5));
        assert_eq!(toys.leaf(STEP, 2..2, &weights), None);
    }

    #[test]
    fn a_corrupted_leaf_poisons_the_step() {
        for kernels in [false, true] {
            let run = Arithmetic::new(1, kernels);
            let weights = run.initial();
            let (left, right) =
                (run.leaf(STEP, 0..2, &weights).unwrap(), run.leaf(STEP, 2..4, &weights).unwrap());
            assert_ne!(left, left.corrupted());
            assert!(left.is_finite() && !left.corrupted().is_finite());
            let good = left.clone().plus(right.clone(), &());
            assert!(run.update(&weights, &good, 4).is_some());
            assert_eq!(run.update(&weights, &left.corrupted().plus(right, &()), 4), None);
        }
    }

    #[test]
    fn weights_survive_their_bytes() {
        for kernels in [false, true] {
            let weights = Arithmetic::new(9, kernels).initial();
            assert_eq!(Value::from_bytes(&weights.to_bytes()), Some(weights));
        }
        assert_eq!(Value::from_bytes(&[1; 31]), None);
    }

    #[test]
    fn images_have_their_pixels_and_differ() {
        let (pixels, labels) = images(1, TaskKind::Train, 4..7);
        assert_eq!((pixels.len(), labels.len()), (3 * PIXELS, 3));
        assert_ne!(pixels[..PIXELS], pixels[PIXELS..2 * PIXELS]);
        assert_eq!(images(1, TaskKind::Train, 5..6).0, pixels[PIXELS..2 * PIXELS]);
    }
}
