//! Dense layers over a few examples at once: forward beside backward.
//!
//! The weights are streamed through the registers once for all examples of a call. Outputs come in blocks of 16;
//! a layer with fewer is padded with zeros by its owner.

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2};

use crate::block::{LANES, Lanes, blocks, blocks_mut, elements, elements_mut, fma};
use crate::cpu::{Cpu, InstructionSet, Kernel};

/// `x [N, I]`, `w [I, O]`, `b [O]` to `z [N, O]`.
///
/// # Panics
/// If the shapes do not belong together, an array is not in standard layout, or `O` is not a multiple of 16.
pub fn forward(
    cpu: Cpu,
    x: ArrayView2<f32>,
    w: ArrayView2<f32>,
    b: ArrayView1<f32>,
    mut z: ArrayViewMut2<f32>,
) {
    assert_eq!(w.dim(), (x.ncols(), b.len()), "shape of the dense weights");
    assert_eq!(z.dim(), (x.nrows(), b.len()), "shape of the dense outputs");
    assert_eq!(b.len() % LANES, 0, "dense outputs come in blocks of {LANES}");
    let (inputs, bias) = (x.ncols(), Some(elements(&b)));
    cpu.run(Product::<false> { x: elements(&x), w: elements(&w), bias, z: elements_mut(&mut z), inputs });
}

/// [`forward`] and then a ReLU.
///
/// # Panics
/// As [`forward`].
pub fn forward_relu(
    cpu: Cpu,
    x: ArrayView2<f32>,
    w: ArrayView2<f32>,
    b: ArrayView1<f32>,
    mut y: ArrayViewMut2<f32>,
) {
    assert_eq!(w.dim(), (x.ncols(), b.len()), "shape of the dense weights");
    assert_eq!(y.dim(), (x.nrows(), b.len()), "shape of the dense outputs");
    assert_eq!(b.len() % LANES, 0, "dense outputs come in blocks of {LANES}");
    let (inputs, bias) = (x.ncols(), Some(elements(&b)));
    cpu.run(Product::<true> { x: elements(&x), w: elements(&w), bias, z: elements_mut(&mut y), inputs });
}

/// Gradient of the inputs: `dz [N, O]` and the transposed weights `wt [O, I]` to `dx [N, I]`.
///
/// # Panics
/// If the shapes do not belong together, an array is not in standard layout, or `I` is not a multiple of 16.
pub fn backward_input(cpu: Cpu, dz: ArrayView2<f32>, wt: ArrayView2<f32>, mut dx: ArrayViewMut2<f32>) {
    assert_eq!(wt.nrows(), dz.ncols(), "rows of the transposed dense weights");
    assert_eq!(dx.dim(), (dz.nrows(), wt.ncols()), "shape of the dense inputs' gradient");
    assert_eq!(wt.ncols() % LANES, 0, "dense inputs come in blocks of {LANES}");
    let (x, w, z, inputs) = (elements(&dz), elements(&wt), elements_mut(&mut dx), dz.ncols());
    cpu.run(Product::<false> { x, w, bias: None, z, inputs });
}

/// Gradient of the parameters: adds `x [N, I]` times `dz [N, O]` to `dw [I, O]`, and `dz` to `db [O]`.
///
/// # Panics
/// If the shapes do not belong together, an array is not in standard layout, or `O` is not a multiple of 16.
pub fn backward_weights(
    cpu: Cpu,
    x: ArrayView2<f32>,
    dz: ArrayView2<f32>,
    mut dw: ArrayViewMut2<f32>,
    mut db: ArrayViewMut1<f32>,
) {
    assert_eq!(dw.dim(), (x.ncols(), dz.ncols()), "shape of the dense weights' gradient");
    assert_eq!((x.nrows(), db.len()), dz.dim(), "shape of the dense outputs' gradient");
    assert_eq!(db.len() % LANES, 0, "dense outputs come in blocks of {LANES}");
    let (inputs, dw, db) = (x.ncols(), elements_mut(&mut dw), elements_mut(&mut db));
    cpu.run(OuterProducts { x: elements(&x), dz: elements(&dz), dw, db, inputs });
}

/// Gradient of a ReLU from its outputs, in place: `dy` becomes zero where `y` is not greater than zero.
///
/// # Panics
/// If the lengths differ.
pub fn relu_backward(y: &[f32], dy: &mut [f32]) {
    assert_eq!(y.len(), dy.len(), "outputs beside their gradient");
    for (dy, &y) in dy.iter_mut().zip(y) {
        *dy = if y > 0.0 { *dy } else { 0.0 };
    }
}

/// `z = bias + x w`, inputs in ascending order in every sum, and a ReLU if `RELU`. Without a bias the sums start at
/// +0.0.
struct Product<'a, const RELU: bool> {
    x: &'a [f32],
    w: &'a [f32],
    bias: Option<&'a [f32]>,
    z: &'a mut [f32],
    inputs: usize,
}

impl<const RELU: bool> Kernel for Product<'_, RELU> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(mut self) {
        let outputs = self.w.len() / self.inputs;
        let examples = self.z.len() / outputs;
        let mut first = 0;
        // A tile is 16 registers wide or less: that many independent sums hide the latency of the multiply-add.
        if S::WIDE {
            while examples - first >= 4 {
                self.columns::<S, 4, 4>(first, outputs);
                first += 4;
            }
        }
        while examples - first >= 2 {
            self.columns::<S, 2, 2>(first, outputs);
            first += 2;
        }
        if first < examples {
            self.columns::<S, 1, 4>(first, outputs);
        }
    }
}

impl<const RELU: bool> Product<'_, RELU> {
    /// All outputs of `EXAMPLES` examples from `first` on, `BLOCKS` blocks at a time.
    #[inline(always)]
    fn columns<S: InstructionSet, const EXAMPLES: usize, const BLOCKS: usize>(
        &mut self,
        first: usize,
        outputs: usize,
    ) {
        let mut column = 0;
        while outputs - column >= BLOCKS * LANES {
            self.tile::<S, EXAMPLES, BLOCKS>(first, column, outputs);
            column += BLOCKS * LANES;
        }
        while column < outputs {
            self.tile::<S, EXAMPLES, 1>(first, column, outputs);
            column += LANES;
        }
    }

    #[inline(always)]
    fn tile<S: InstructionSet, const EXAMPLES: usize, const BLOCKS: usize>(
        &mut self,
        first: usize,
        column: usize,
        outputs: usize,
    ) {
        let bias = match self.bias {
            Some(bias) => *blocks(&bias[column..]).first_chunk().expect("whole blocks"),
            None => [[0.0; LANES]; BLOCKS],
        };
        let x = std::array::from_fn(|example| &self.x[(first + example) * self.inputs..][..self.inputs]);
        let sums = product::<S, EXAMPLES, BLOCKS>(&bias, x, blocks(&self.w[column..]), outputs / LANES);
        for example in 0..EXAMPLES {
            let z = blocks_mut(&mut self.z[(first + example) * outputs + column..]);
            let z: &mut [Lanes<LANES>; BLOCKS] = z.first_chunk_mut().expect("whole blocks");
            for block in 0..BLOCKS {
                for lane in 0..LANES {
                    let sum = sums[example][block][lane] + 0.0;
                    // Not the other way round: no number is greater than zero, and gives zero.
                    z[block][lane] = if !RELU || sum > 0.0 { sum } else { 0.0 };
                }
            }
        }
    }
}

/// `EXAMPLES` examples times `BLOCKS` blocks of outputs: the sums, without their final `+ 0.0`. `w` is what is left of
/// the weights from the first of these outputs on, `stride` the blocks in a row of them.
#[inline(always)]
pub(crate) fn product<S: InstructionSet, const EXAMPLES: usize, const BLOCKS: usize>(
    bias: &[Lanes<LANES>; BLOCKS],
    x: [&[f32]; EXAMPLES],
    w: &[Lanes<LANES>],
    stride: usize,
) -> [[Lanes<LANES>; BLOCKS]; EXAMPLES] {
    let mut sums = [[[0.0; LANES]; BLOCKS]; EXAMPLES];
    for example in 0..EXAMPLES {
        for block in 0..BLOCKS {
            sums[example][block] = bias[block];
        }
    }
    let inputs = x[0].len();
    let x = x.map(|x| &x[..inputs]);
    for input in 0..inputs {
        let row = &w[input * stride..][..BLOCKS];
        for example in 0..EXAMPLES {
            for block in 0..BLOCKS {
                fma::<S, LANES>(x[example][input], &row[block], &mut sums[example][block]);
            }
        }
    }
    sums
}

/// `dw += x dz`, `db += dz`, examples in order in every sum.
struct OuterProducts<'a> {
    x: &'a [f32],
    dz: &'a [f32],
    dw: &'a mut [f32],
    db: &'a mut [f32],
    inputs: usize,
}

impl Kernel for OuterProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(mut self) {
        let examples = self.dz.len() / self.db.len();
        let mut first = 0;
        // Four examples' gradients and one sum: wider tiles measured slower, their loads and stores are the limit.
        if S::WIDE {
            while examples - first >= 4 {
                self.columns::<S, 4, 1>(first);
                first += 4;
            }
        }
        while examples - first >= 2 {
            self.columns::<S, 2, 2>(first);
            first += 2;
        }
        if first < examples {
            self.columns::<S, 1, 2>(first);
        }
    }
}

impl OuterProducts<'_> {
    #[inline(always)]
    fn columns<S: InstructionSet, const EXAMPLES: usize, const BLOCKS: usize>(&mut self, first: usize) {
        let outputs = self.db.len();
        let mut column = 0;
        while outputs - column >= BLOCKS * LANES {
            self.tile::<S, EXAMPLES, BLOCKS>(first, column);
            column += BLOCKS * LANES;
        }
        while column < outputs {
            self.tile::<S, EXAMPLES, 1>(first, column);
            column += LANES;
        }
    }

    #[inline(always)]
    fn tile<S: InstructionSet, const EXAMPLES: usize, const BLOCKS: usize>(
        &mut self,
        first: usize,
        column: usize,
    ) {
        let outputs = self.db.len();
        let mut dz = [[[0.0; LANES]; BLOCKS]; EXAMPLES];
        let mut x = [[].as_slice(); EXAMPLES];
        for example in 0..EXAMPLES {
            let row = &self.dz[(first + example) * outputs + column..][..BLOCKS * LANES];
            dz[example].copy_from_slice(blocks(row));
            x[example] = &self.x[(first + example) * self.inputs..][..self.inputs];
        }
        for (input, row) in self.dw.chunks_exact_mut(outputs).enumerate().take(self.inputs) {
            let row = blocks_mut(&mut row[column..]);
            let row: &mut [Lanes<LANES>; BLOCKS] = row.first_chunk_mut().expect("whole blocks");
            for block in 0..BLOCKS {
                let mut sums = row[block];
                for example in 0..EXAMPLES {
                    fma::<S, LANES>(x[example][input], &dz[example][block], &mut sums);
                }
                row[block] = sums;
            }
        }
        let db: &mut [Lanes<LANES>; BLOCKS] =
            blocks_mut(&mut self.db[column..]).first_chunk_mut().expect("whole blocks");
        for block in 0..BLOCKS {
            for example in 0..EXAMPLES {
                for lane in 0..LANES {
                    db[block][lane] += dz[example][block][lane];
                }
            }
        }
    }
}
