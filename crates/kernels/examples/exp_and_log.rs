//! All 2^32 inputs of the loss' `expf` and `logf`: every instruction set gives the same bits, and the recorded ones.
//!
//! The kernels have one implementation of both for all instruction sets: the `libm` crate's, in plain Rust. What could
//! still part the bits is the compiler, if it built that code for a richer instruction set and contracted or reordered
//! a sum there. So each input is computed in code compiled for each instruction set of this machine and held against
//! plain code; and the digest of all outputs is held against the recorded one, which also tells of a build for another
//! processor (`RUSTFLAGS=-Ctarget-cpu=x86-64-v4`), of AArch64 and of another version of the crate. `.ci/full` does all
//! of these.
//!
//! Usage: `exp_and_log [N]`. With N only one input in N is computed, and the digest is printed, not judged. NaN outputs
//! count as equal: a NaN ends a run as diverged, and its payload is promised nowhere.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what it prints is all that this program is for"
)]

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use lockstep_kernels::Cpu;
use lockstep_kernels::cpu::{InstructionSet, Kernel};

/// Inputs that a thread takes at a time.
const BLOCK: u64 = 1 << 16;

/// A function and the digest of its outputs for all inputs in ascending order of their bits.
const FUNCTIONS: [(&str, Function, u64); 2] =
    [("expf", Function::Exp, 0x8680_da47_d51c_33a8), ("logf", Function::Log, 0x9a9e_c4a7_f37f_98f8)];

#[derive(Clone, Copy)]
enum Function {
    Exp,
    Log,
}

impl Function {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        match self {
            Self::Exp => libm::expf(x),
            Self::Log => libm::logf(x),
        }
    }
}

/// The function's outputs for one input in `every` of the block from `first` on.
struct Outputs<'a> {
    function: Function,
    first: u64,
    every: u64,
    outputs: &'a mut [f32],
}

impl Kernel for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(self) {
        self.compute();
    }
}

impl Outputs<'_> {
    #[inline(always)]
    fn compute(self) {
        for (at, output) in (0..).zip(self.outputs) {
            // The last block may reach beyond the last input, and begins again.
            *output = self.function.of(f32::from_bits((self.first + at * self.every) as u32));
        }
    }
}

fn main() -> ExitCode {
    let every = std::env::args().nth(1).map_or(Some(1), |every| every.parse().ok());
    let Some(every) = every.filter(|every| (1..=1 << 16).contains(every)) else {
        println!("usage: exp_and_log [N], N from 1 to 65536");
        return ExitCode::from(2);
    };
    let mut code = ExitCode::SUCCESS;
    for (name, function, recorded) in FUNCTIONS {
        match digest(function, every) {
            Err(difference) => {
                println!("{name}: {difference}");
                code = ExitCode::FAILURE;
            }
            Ok(digest) => {
                let cpus: Vec<String> = Cpu::available().iter().map(ToString::to_string).collect();
                let inputs = (1_u64 << 32).div_ceil(every);
                println!("{name} {inputs} inputs, digest {digest:016x}");
                // Apart, because it differs between machines.
                eprintln!("{name}: plain code and code for {} give the same bits", cpus.join(", "));
                if every == 1 && digest != recorded {
                    println!("{name}: the recorded digest is {recorded:016x}");
                    code = ExitCode::FAILURE;
                }
            }
        }
    }
    code
}

/// The digest of the outputs, or the first difference that was found.
fn digest(function: Function, every: u64) -> Result<u64, String> {
    let blocks = (1_u64 << 32).div_ceil(BLOCK * every);
    let next = AtomicU64::new(0);
    let digests = Mutex::new(vec![0; blocks as usize]);
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let work = || {
        let (mut plain, mut other) = (vec![0.0; BLOCK as usize], vec![0.0; BLOCK as usize]);
        loop {
            let block = next.fetch_add(1, Ordering::Relaxed);
            if block >= blocks {
                return Ok(());
            }
            let first = block * BLOCK * every;
            Outputs { function, first, every, outputs: &mut plain }.compute();
            for cpu in Cpu::available() {
                cpu.run(Outputs { function, first, every, outputs: &mut other });
                let differs = |(one, other): (&f32, &f32)| bits(*one) != bits(*other);
                if let Some(at) = plain.iter().zip(&other).position(differs) {
                    let input = f32::from_bits((first + at as u64 * every) as u32);
                    let (plain, other) = (plain[at], other[at]);
                    return Err(format!(
                        "of {input:e} it is {other:e} with {cpu}, and {plain:e} in plain code"
                    ));
                }
            }
            digests.lock().expect("no thread panics")[block as usize] =
                fold(plain.iter().map(|y| bits(*y).into()));
        }
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
    })?;
    Ok(fold(digests.into_inner().expect("no thread panics")))
}

fn bits(y: f32) -> u32 {
    if y.is_nan() { f32::NAN.to_bits() } else { y.to_bits() }
}

/// FNV-1a, by words instead of bytes.
fn fold(words: impl IntoIterator<Item = u64>) -> u64 {
    words
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |digest, word| (digest ^ word).wrapping_mul(0x0000_0100_0000_01b3))
}
