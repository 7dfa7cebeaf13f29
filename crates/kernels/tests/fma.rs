//! The software fused multiply-add has the bits of the hardware's.

mod support;

use lockstep_kernels::Cpu;
use lockstep_kernels::fma::{Fma, Soft};
use support::{FmaOfTriples, Values};

fn soft(a: f32, b: f32, c: f32) -> f32 {
    Soft::fma(a, b, c)
}

/// Values at the edges of the format, and powers of two that make ties.
fn edges() -> Vec<f32> {
    let mut edges: Vec<f32> = [
        0x0000_0000,
        0x0000_0001,
        0x0000_0002,
        0x0000_0003,
        0x0001_0001,
        0x007f_ffff,
        0x0080_0000,
        0x0080_0001,
        0x00ff_ffff,
        0x0100_0000,
        0x1cff_f001,
        0x1700_0800,
        0x3380_0000,
        0x33ff_ffff,
        0x3f7f_ffff,
        0x3f80_0000,
        0x3f80_0001,
        0x4b00_0000,
        0x4b7f_ffff,
        0x4b80_0001,
        0x7f00_0000,
        0x7f7f_ffff,
        0x7f80_0000,
        0x7fc0_0000,
    ]
    .map(f32::from_bits)
    .to_vec();
    edges.extend(edges.clone().into_iter().map(|value| -value));
    edges
}

/// Random bits; products near a third value; results among the subnormals; sums that nearly cancel.
fn triples() -> Vec<[f32; 3]> {
    let edges = edges();
    let mut triples = Vec::new();
    for &a in &edges {
        for &b in &edges {
            triples.extend(edges.iter().map(|&c| [a, b, c]));
        }
    }
    let mut values = Values::new(1);
    for number in 0..1_000_000 {
        let [a, b, c] = [values.word(), values.word(), values.word()].map(f32::from_bits);
        triples.push(match number % 5 {
            0 => [a, b, c],
            1 => [values.ordinary(), values.ordinary(), values.ordinary()],
            // The sum is the product's rounding error or a few units around it.
            2 => {
                let (a, b) = (values.ordinary(), values.ordinary());
                [a, b, f32::from_bits((-(a * b)).to_bits().wrapping_add(values.word() % 5).wrapping_sub(2))]
            }
            // Products around the smallest subnormal beside subnormal addends: ties, and just beside ties.
            3 => {
                let a = f32::from_bits(0x1700_0000 | (values.word() & 0x807f_ffff));
                let b = f32::from_bits(0x1cff_f000 | (values.word() & 0x8000_0fff));
                [a, b, f32::from_bits(values.word() & 0x807f_ffff)]
            }
            // Short significands: exact ties are frequent.
            _ => [a, b, c].map(|value| f32::from_bits(value.to_bits() & 0xfff8_0000)),
        });
    }
    triples
}

#[test]
fn the_triple_that_c_libraries_get_wrong() {
    let [a, b, c] = [0x9700_0800, 0x1cff_f001, 0x0001_0002].map(f32::from_bits);
    assert_eq!(soft(a, b, c).to_bits(), 0x0001_0001);
}

#[test]
fn software_equals_hardware() {
    let triples = triples();
    let mut compared = 0;
    for cpu in Cpu::available().into_iter().filter(|&cpu| cpu != Cpu::Scalar) {
        for (&[a, b, c], hardware) in triples.iter().zip(cpu.run(FmaOfTriples(&triples))) {
            let software = soft(a, b, c);
            let equal = software.to_bits() == hardware.to_bits() || software.is_nan() && hardware.is_nan();
            let bits = [a, b, c].map(f32::to_bits);
            assert!(equal, "{bits:08x?}: {software:e} in software, {hardware:e} by {cpu}");
        }
        compared += 1;
    }
    if compared == 0 {
        println!("this machine has no fused multiply-add: compared with nothing");
    }
}

#[test]
fn special_values_follow_ieee_754() {
    let infinity = f32::INFINITY;
    assert_eq!(soft(infinity, 1.0, -1.0), infinity);
    assert_eq!(soft(2.0, 3.0, -infinity), -infinity);
    assert!(soft(infinity, 0.0, 1.0).is_nan());
    assert!(soft(infinity, 1.0, -infinity).is_nan());
    assert!(soft(f32::NAN, 0.0, 1.0).is_nan());
    assert_eq!(soft(f32::MAX, 2.0, 0.0), infinity);
    assert_eq!(soft(f32::MAX, 2.0, -f32::MAX), f32::MAX);
    assert_eq!(soft(0.0, 1.0, -0.0).to_bits(), 0.0_f32.to_bits());
    assert_eq!(soft(-0.0, 1.0, -0.0).to_bits(), (-0.0_f32).to_bits());
    assert_eq!(soft(1.0, -1.0, 1.0).to_bits(), 0.0_f32.to_bits());
}
