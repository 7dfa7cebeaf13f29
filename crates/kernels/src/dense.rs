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
    cpu.run(Product { x: elements(&x), w: elements(&w), bias, z: elements_mut(&mut z), inputs, relu: false });
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
    cpu.run(Product { x: elements(&x), w: elements(&w), bias, z: elements_mut(&mut y), inputs, relu: true });
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
    cpu.run(Product { x, w, bias: None, z, inputs, relu: false });
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

/// `z = bias + x w`, inputs in ascending order in every sum. Without a bias the sums start at +0.0.
struct Product<'a> {
    x: &'a [f32],
    w: &'a [f32],
    bias: Option<&'a [f32]>,
    z: &'a mut [f32],
    inputs: usize,
    relu: bool,
}

impl Kernel for Product<'_> {
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

impl Product<'_> {
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
        let mut sums = [[[0.0; LANES]; BLOCKS]; EXAMPLES];
        if let Some(bias) = self.bias {
            let bias: &[Lanes<LANES>] = blocks(&bias[column..column + BLOCKS * LANES]);
            for example in 0..EXAMPLES {
                sums[example].copy_from_slice(bias);
            }
        }
        let mut x = [[].as_slice(); EXAMPLES];
        for example in 0..EXAMPLES {
            x[example] = &self.x[(first + example) * self.inputs..][..self.inputs];
        }
        for (input, row) in self.w.chunks_exact(outputs).enumerate().take(self.inputs) {
            let row: &[Lanes<LANES>] = blocks(&row[column..column + BLOCKS * LANES]);
            for example in 0..EXAMPLES {
                let value = x[example][input];
                for block in 0..BLOCKS {
                    fma::<S, LANES>(value, &row[block], &mut sums[example][block]);
                }
            }
        }
        for example in 0..EXAMPLES {
            let z = &mut self.z[(first + example) * outputs + column..][..BLOCKS * LANES];
            let z: &mut [Lanes<LANES>] = blocks_mut(z);
            for block in 0..BLOCKS {
                for lane in 0..LANES {
                    let sum = sums[example][block][lane] + 0.0;
                    z[block][lane] = if self.relu { if sum > 0.0 { sum } else { 0.0 } } else { sum };
                }
            }
        }
    }
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
            let row: &mut [Lanes<LANES>] = blocks_mut(&mut row[column..column + BLOCKS * LANES]);
            for block in 0..BLOCKS {
                let mut sums = row[block];
                for example in 0..EXAMPLES {
                    fma::<S, LANES>(x[example][input], &dz[example][block], &mut sums);
                }
                row[block] = sums;
            }
        }
        let db: &mut [Lanes<LANES>] = blocks_mut(&mut self.db[column..column + BLOCKS * LANES]);
        for block in 0..BLOCKS {
            for example in 0..EXAMPLES {
                for lane in 0..LANES {
                    db[block][lane] += dz[example][block][lane];
                }
            }
        }
    }
}

/// Transposes the weights `w [I, O]` into `wt [O, I]`.
///
/// # Panics
/// If the shapes do not belong together or an array is not in standard layout.
pub fn transpose(w: ArrayView2<f32>, mut wt: ArrayViewMut2<f32>) {
    assert_eq!((wt.ncols(), wt.nrows()), w.dim(), "shape of the transposed weights");
    let (inputs, outputs) = w.dim();
    let (w, wt) = (elements(&w), elements_mut(&mut wt));
    for (input, row) in w.chunks_exact(outputs).enumerate() {
        for (output, &value) in row.iter().enumerate() {
            wt[output * inputs + input] = value;
        }
    }
}
