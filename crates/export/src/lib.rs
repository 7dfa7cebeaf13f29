//! The network's weights in the formats of other programs.
//!
//! Owns names, layouts and files of PyTorch ([`pytorch`]), ONNX ([`onnx`]) and TensorFlow.js ([`tfjs`]), and the way
//! back from named tensors to weights ([`weights_of_tensors`]). Every conversion moves values and changes none. Knows
//! no run, no command line and no path: bytes and tensors go in and come out.
//!
//! The trap in all of them is the order of channels: here they are last, so the 288 inputs of `dense1` are ordered by
//! height, width, channel; where channels come first they are ordered by channel, height, width.

mod import;
pub mod onnx;
pub mod pytorch;
pub mod tfjs;

pub use import::{ImportError, NamedTensor, weights_of_tensors};
