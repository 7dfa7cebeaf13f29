//! The instruction sets, their detection at run time, and the one place where their code is entered.
//!
//! A kernel is written once, as a value that implements [`Kernel`]; this file compiles it for each instruction set.
//! Never chooses anything by the build's target CPU: the same binary runs everywhere.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::fma::{Fma, Hardware, Soft};

/// An instruction set that this machine has. All of them give the same bits.
///
/// Only [`Cpu::detect`] and [`Cpu::available`] make the vector ones (they are `non_exhaustive` so that no other crate
/// can), so a value is proof that the machine can run the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cpu {
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    #[non_exhaustive]
    Avx512,
    /// x86-64 with AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    #[non_exhaustive]
    Avx2,
    /// AArch64 with NEON.
    #[cfg(target_arch = "aarch64")]
    #[non_exhaustive]
    Neon,
    /// Any machine: baseline instructions and a software fused multiply-add.
    Scalar,
}

/// Why a name stands for no instruction set that can be used here; the texts complete "NAME: ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// No machine has it.
    #[error("no such instruction set; this machine has {}", available_names())]
    Unknown,
    /// Other machines have it.
    #[error("this machine does not have it; it has {}", available_names())]
    Unavailable,
}

/// The names of all instruction sets, on whatever machine.
const NAMES: [&str; 4] = ["avx512", "avx2", "neon", "scalar"];

/// What [`Cpu::force`] fixed for this process.
static FORCED: OnceLock<Cpu> = OnceLock::new();

impl Cpu {
    /// The instruction set of this process: the one that [`Cpu::force`] fixed, or else the machine's fastest.
    pub fn detect() -> Self {
        FORCED.get().copied().unwrap_or_else(|| Self::available()[0])
    }

    /// Makes `self` what [`Cpu::detect`] gives from now on. Only a program's start may do it, once; a second call
    /// changes nothing.
    pub fn force(self) {
        FORCED.get_or_init(|| self);
    }

    /// Every instruction set of this machine, fastest first; [`Cpu::Scalar`] is always the last.
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 && avx512 {
                found.push(Self::Avx512);
            }
            if avx2 {
                found.push(Self::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            found.push(Self::Neon);
        }
        found.push(Self::Scalar);
        found
    }

    /// The processor features that this instruction set uses, as the processor's maker spells them.
    pub fn features(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx2 fma avx512f avx512bw avx512dq avx512vl",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2 fma",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            Self::Scalar => "baseline, software fma",
        }
    }

    /// Runs `kernel` compiled for this instruction set.
    #[allow(unsafe_code)] // Entering a `#[target_feature]` function is the crate's only use of `unsafe`.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            // SAFETY: the value exists only where `available` found every feature that `avx512` enables.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512(kernel) },
            // SAFETY: the value exists only where `available` found every feature that `avx2` enables.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: the value exists only where `available` found the feature that `neon` enables.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon(kernel) },
            Self::Scalar => kernel.run::<ScalarSet>(),
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            Self::Scalar => "scalar",
        })
    }
}

impl FromStr for Cpu {
    type Err = CpuError;

    /// The instruction set of that name, if this machine has it.
    fn from_str(name: &str) -> Result<Self, CpuError> {
        let found = Self::available().into_iter().find(|cpu| cpu.to_string() == name);
        let missing = if NAMES.contains(&name) { CpuError::Unavailable } else { CpuError::Unknown };
        found.ok_or(missing)
    }
}

/// The names of what this machine has, fastest first.
fn available_names() -> String {
    Cpu::available().iter().map(Cpu::to_string).collect::<Vec<_>>().join(", ")
}

/// A computation written once for every instruction set.
///
/// `run` and everything it calls must be `#[inline(always)]`, or the compiler leaves it outside the
/// `#[target_feature]` function and it falls back to baseline instructions (same bits, a tenth of the speed).
pub trait Kernel {
    /// What the computation returns.
    type Output;
    /// The computation, on the instruction set `S`.
    fn run<S: InstructionSet>(self) -> Self::Output;
}

/// What a kernel may know about the instruction set that it is compiled for.
pub trait InstructionSet: Fma<f32> + Fma<f64> {
    /// True where 32 registers of 16 lanes hold a tile; false where there is half of that or less.
    const WIDE: bool;
}

/// The name under which AVX-512 code is compiled.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
struct WideSet;

/// The name under which AVX2 and NEON code is compiled.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)] // Unused where the target has neither.
struct NarrowSet;

/// The name under which baseline code is compiled.
#[derive(Clone, Copy, Debug)]
struct ScalarSet;

macro_rules! instruction_set {
    ($name:ident, $fma:ident, $wide:literal) => {
        impl InstructionSet for $name {
            const WIDE: bool = $wide;
        }
        impl Fma<f32> for $name {
            #[inline(always)]
            fn fma(a: f32, b: f32, c: f32) -> f32 {
                $fma::fma(a, b, c)
            }
        }
        impl Fma<f64> for $name {
            #[inline(always)]
            fn fma(a: f64, b: f64, c: f64) -> f64 {
                $fma::fma(a, b, c)
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
instruction_set!(WideSet, Hardware, true);
instruction_set!(NarrowSet, Hardware, false);
instruction_set!(ScalarSet, Soft, false);

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<WideSet>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<NarrowSet>()
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn neon<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<NarrowSet>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_instruction_set_is_found_by_its_name() {
        for cpu in Cpu::available() {
            assert!(NAMES.contains(&cpu.to_string().as_str()), "{cpu}");
            assert_eq!(cpu.to_string().parse(), Ok(cpu));
        }
    }

    #[test]
    fn another_machine_s_instruction_set_is_told_from_an_unknown_one() {
        let other = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
        assert_eq!(other.parse::<Cpu>(), Err(CpuError::Unavailable));
        for unknown in ["", "sse2", "AVX2", "avx2 ", "fastest"] {
            assert_eq!(unknown.parse::<Cpu>(), Err(CpuError::Unknown), "{unknown:?}");
        }
        let have = available_names();
        assert!(have.ends_with("scalar"));
        let message = CpuError::Unavailable.to_string();
        assert_eq!(message, format!("this machine does not have it; it has {have}"));
        assert_eq!(
            CpuError::Unknown.to_string(),
            format!("no such instruction set; this machine has {have}")
        );
    }
}
