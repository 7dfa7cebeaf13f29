//! The network as a TensorFlow.js layers model: `model.json` and one file of weights.
//!
//! Input `[N, 28, 28, 1]`, output the probabilities `[N, 10]`; the logits are what the layer `dense2` gives. Channels
//! are last there as here, so the weights are the canonical bytes as they are.

use lockstep_model::{PARAMETERS, TENSORS, TensorSpec};
use serde_json::{Value, json};

/// The file that is loaded; it names the other one.
pub const MODEL_FILE: &str = "model.json";
/// The file of the weights, in the same folder.
pub const WEIGHTS_FILE: &str = "group1-shard1of1.bin";

/// The two files of a layers model.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// The content of [`MODEL_FILE`].
    pub model: String,
    /// The content of [`WEIGHTS_FILE`].
    pub weights: Vec<u8>,
}

/// The files for `weights`; `metadata` is kept as the model's `userDefinedMetadata.lockstep`.
///
/// # Panics
///
/// If there are not [`PARAMETERS`] weights.
pub fn encode(weights: &[f32], metadata: &Value) -> Files {
    assert_eq!(weights.len(), PARAMETERS, "the network's weights");
    let manifest: Vec<Value> = TENSORS.iter().map(entry).collect();
    let model = json!({
        "format": "layers-model",
        "generatedBy": concat!("lockstep ", env!("CARGO_PKG_VERSION")),
        "convertedBy": null,
        "modelTopology": {
            "class_name": "Sequential",
            "config": { "name": "mnist_convnet", "layers": layers() },
            "keras_version": "tfjs-layers 4.22.0",
            "backend": "tensor_flow.js",
        },
        "weightsManifest": [{ "paths": [WEIGHTS_FILE], "weights": manifest }],
        "userDefinedMetadata": { "lockstep": metadata },
    });
    Files {
        // Its keys come sorted, whatever their order here.
        model: format!("{model}\n"),
        weights: weights.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

fn entry(tensor: &TensorSpec) -> Value {
    json!({ "name": tensor.name.replace('.', "/"), "shape": tensor.shape, "dtype": "float32" })
}

fn layers() -> Vec<Value> {
    let layer = |class: &str, name: &str, config: Value| {
        let mut config = config;
        config["name"] = json!(name);
        config["trainable"] = json!(true);
        json!({ "class_name": class, "config": config })
    };
    let conv = |filters: u32| {
        json!({
            "filters": filters, "kernel_size": [3, 3], "strides": [1, 1], "padding": "valid", "dilation_rate": [1, 1],
            "data_format": "channels_last", "activation": "relu", "use_bias": true,
        })
    };
    let pool = || json!({ "pool_size": [2, 2], "strides": [2, 2], "padding": "valid", "data_format": "channels_last" });
    let dense =
        |units: u32, activation: &str| json!({ "units": units, "activation": activation, "use_bias": true });
    let mut first = conv(16);
    first["batch_input_shape"] = json!([null, 28, 28, 1]);
    first["dtype"] = json!("float32");
    vec![
        layer("Conv2D", "conv1", first),
        layer("MaxPooling2D", "pool1", pool()),
        layer("Conv2D", "conv2", conv(32)),
        layer("MaxPooling2D", "pool2", pool()),
        layer("Conv2D", "conv3", conv(32)),
        layer("Flatten", "flatten", json!({})),
        layer("Dense", "dense1", dense(64, "relu")),
        layer("Dense", "dense2", dense(10, "linear")),
        layer("Activation", "softmax", json!({ "activation": "softmax" })),
    ]
}
