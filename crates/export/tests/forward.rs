//! Each exported layout, read as its own users read it, classifies as the network does: a naive forward pass over the
//! exported bytes, written from the formats' documentation and not from the exporter.

#![allow(clippy::unwrap_used, reason = "a test's helpers panic like the test")]

use std::collections::HashMap;

use lockstep_export::{NamedTensor, onnx, pytorch, tfjs};
use lockstep_model::{Cpu, IMAGE_SIDE, Network, PIXELS, Prediction, Workspace, initial_weights};
use ndarray::ArrayView2;
use prost::Message;
use serde_json::Value;

/// Far above the rounding of some hundred terms, far below what a single weight in a wrong place changes.
const TOLERANCE: f32 = 1e-5;

/// Weights without symmetry, and biases that are not zero.
fn weights() -> Box<[f32]> {
    let mut weights = initial_weights(3);
    for (place, weight) in weights.iter_mut().enumerate() {
        *weight += ((place * 37) % 101) as f32 / 2e3 - 0.02;
    }
    weights
}

/// Images that are not their own mirror images.
fn images() -> Vec<Vec<u8>> {
    (1..4)
        .map(|image| (0..PIXELS).map(|at| ((at * 31 * image + at * at / 97) % 256) as u8).collect())
        .collect()
}

/// Asserts that `forward` gives logits and probabilities like the network's.
fn assert_forward(forward: impl Fn(&Maps) -> (Vec<f32>, Vec<f32>)) {
    let mut network = Network::new(Cpu::detect());
    network.load(&weights());
    let mut workspace = Workspace::new();
    for image in images() {
        let view = ArrayView2::from_shape((IMAGE_SIDE, IMAGE_SIDE), &image).unwrap();
        let Prediction { logits, probabilities, .. } = network.predict(view, &mut workspace);
        let values = image.iter().map(|pixel| f32::from(*pixel) / 255.0).collect();
        let (actual_logits, actual_probabilities) =
            forward(&Maps { channels: 1, height: IMAGE_SIDE, width: IMAGE_SIDE, values });
        for (actual, expected) in [(actual_logits, logits), (actual_probabilities, probabilities)] {
            assert_eq!(actual.len(), 10);
            let most = actual.iter().zip(&expected).map(|(a, e)| (a - e).abs()).fold(0.0, f32::max);
            assert!(most < TOLERANCE, "{most}: {actual:?} and {expected:?}");
        }
    }
}

#[test]
fn pytorch_tensors_classify_as_the_network_does() {
    let tensors: HashMap<String, NamedTensor> =
        pytorch::tensors(&weights()).into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let tensor = |name: &str| &tensors[name];
    assert_forward(|image| {
        let conv = |x: &Maps, layer: &str| {
            let (weight, bias) = (tensor(&format!("{layer}.weight")), tensor(&format!("{layer}.bias")));
            x.conv(channels_first(&weight.shape, &weight.values), &bias.values).relu()
        };
        let dense = |x: &[f32], layer: &str| {
            let (weight, bias) = (tensor(&format!("{layer}.weight")), tensor(&format!("{layer}.bias")));
            linear(x, |output, input| weight.values[output * x.len() + input], &bias.values)
        };
        let x = conv(image, "conv1").max_pool();
        let x = conv(&x, "conv2").max_pool();
        let x = conv(&x, "conv3").flat_channels_first();
        let hidden: Vec<f32> = dense(&x, "dense1").into_iter().map(|x| x.max(0.0)).collect();
        let logits = dense(&hidden, "dense2");
        let probabilities = softmax(&logits);
        (logits, probabilities)
    });
}

#[test]
fn the_onnx_graph_classifies_as_the_network_does() {
    let bytes = onnx::encode(&weights(), r#"{"step":7}"#);
    let model = onnx::messages::ModelProto::decode(&*bytes).unwrap();
    assert_eq!((model.ir_version, model.opset_import[0].version), (8, 13));
    assert_eq!(model.metadata_props[0].value, r#"{"step":7}"#);
    let graph = model.graph.unwrap();
    assert_forward(|image| run(&graph, image));
}

#[test]
fn the_batch_of_the_onnx_graph_has_any_size() {
    use onnx::messages::{dimension, type_proto};
    let graph = onnx::messages::ModelProto::decode(&*onnx::encode(&weights(), "{}")).unwrap().graph.unwrap();
    let dimensions = |value: &onnx::messages::ValueInfoProto| -> Vec<String> {
        let Some(type_proto::Value::TensorType(tensor)) = value.r#type.clone().unwrap().value else {
            panic!()
        };
        let dimensions = tensor.shape.unwrap().dim.into_iter();
        dimensions
            .map(|dimension| match dimension.value.unwrap() {
                dimension::Value::DimValue(value) => value.to_string(),
                dimension::Value::DimParam(name) => name,
            })
            .collect()
    };
    assert_eq!(
        (graph.input[0].name.as_str(), dimensions(&graph.input[0]).join(" ")),
        ("image", "N 1 28 28".into())
    );
    let outputs: Vec<_> =
        graph.output.iter().map(|output| (output.name.as_str(), dimensions(output).join(" "))).collect();
    assert_eq!(outputs, [("logits", "N 10".into()), ("probabilities", "N 10".into())]);
}

#[test]
fn the_layers_model_classifies_as_the_network_does() {
    let files = tfjs::encode(&weights(), &serde_json::json!({ "step": 7 }));
    let model: Value = serde_json::from_str(&files.model).unwrap();
    assert_eq!(
        (&model["format"], &model["userDefinedMetadata"]["lockstep"]["step"]),
        (&"layers-model".into(), &7.into())
    );
    let group = &model["weightsManifest"][0];
    assert_eq!(group["paths"], serde_json::json!([tfjs::WEIGHTS_FILE]));
    let mut rest = files.weights.as_chunks::<4>().0;
    let mut tensors = HashMap::new();
    for entry in group["weights"].as_array().unwrap() {
        assert_eq!(entry["dtype"], "float32");
        let shape: Vec<usize> =
            entry["shape"].as_array().unwrap().iter().map(|side| side.as_u64().unwrap() as usize).collect();
        let (values, after) = rest.split_at(shape.iter().product());
        rest = after;
        let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        tensors.insert(entry["name"].as_str().unwrap().to_owned(), (shape, values));
    }
    assert!(rest.is_empty(), "the manifest names all bytes");
    assert_forward(|image| {
        run_layers(model["modelTopology"]["config"]["layers"].as_array().unwrap(), &tensors, image)
    });
}

/// Feature maps of one example.
#[derive(Clone)]
struct Maps {
    channels: usize,
    height: usize,
    width: usize,
    /// `[channels, height, width]`.
    values: Vec<f32>,
}

impl Maps {
    fn build(
        channels: usize,
        height: usize,
        width: usize,
        value: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let mut values = Vec::new();
        for channel in 0..channels {
            for y in 0..height {
                values.extend((0..width).map(|x| value(channel, y, x)));
            }
        }
        Self { channels, height, width, values }
    }

    fn at(&self, channel: usize, y: usize, x: usize) -> f32 {
        self.values[(channel * self.height + y) * self.width + x]
    }

    /// 3x3, no padding, stride 1; `weight(filter, channel, row, column)`.
    fn conv(&self, weight: impl Fn(usize, usize, usize, usize) -> f32, bias: &[f32]) -> Self {
        Self::build(bias.len(), self.height - 2, self.width - 2, |filter, y, x| {
            let mut sum = bias[filter];
            for channel in 0..self.channels {
                for row in 0..3 {
                    for column in 0..3 {
                        sum += weight(filter, channel, row, column) * self.at(channel, y + row, x + column);
                    }
                }
            }
            sum
        })
    }

    fn relu(mut self) -> Self {
        self.values.iter_mut().for_each(|value| *value = value.max(0.0));
        self
    }

    fn max_pool(&self) -> Self {
        Self::build(self.channels, self.height / 2, self.width / 2, |channel, y, x| {
            let at = |place: usize| self.at(channel, 2 * y + place / 2, 2 * x + place % 2);
            (0..4).map(at).fold(f32::NEG_INFINITY, f32::max)
        })
    }

    fn flat_channels_first(self) -> Vec<f32> {
        self.values
    }

    fn flat_channels_last(&self) -> Vec<f32> {
        let places = (0..self.height).flat_map(|y| (0..self.width).map(move |x| (y, x)));
        places.flat_map(|(y, x)| (0..self.channels).map(move |channel| self.at(channel, y, x))).collect()
    }
}

/// A kernel `[filters, channels, 3, 3]`.
fn channels_first<'a>(shape: &[usize], values: &'a [f32]) -> impl Fn(usize, usize, usize, usize) -> f32 + 'a {
    let channels = shape[1];
    assert_eq!(shape[2..], [3, 3]);
    move |filter, channel, row, column| values[((filter * channels + channel) * 3 + row) * 3 + column]
}

/// `weight(output, input)`.
fn linear(x: &[f32], weight: impl Fn(usize, usize) -> f32, bias: &[f32]) -> Vec<f32> {
    let output = |output: usize| {
        x.iter().enumerate().fold(bias[output], |sum, (input, x)| sum + weight(output, input) * x)
    };
    (0..bias.len()).map(output).collect()
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / sum).collect()
}

/// What flows through an ONNX graph.
#[derive(Clone)]
enum Flow {
    Maps(Maps),
    Flat(Vec<f32>),
}

fn run(graph: &onnx::messages::GraphProto, image: &Maps) -> (Vec<f32>, Vec<f32>) {
    let tensor = |name: &str| {
        let tensor = graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
        assert_eq!(tensor.data_type, onnx::messages::FLOAT);
        let shape: Vec<usize> = tensor.dims.iter().map(|side| *side as usize).collect();
        let values: Vec<f32> =
            tensor.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert_eq!(shape.iter().product::<usize>(), values.len());
        (shape, values)
    };
    let mut flows = HashMap::from([(graph.input[0].name.clone(), Flow::Maps(image.clone()))]);
    for node in &graph.node {
        let ints = |name: &str| {
            node.attribute.iter().find(|attribute| attribute.name == name).map(|found| found.ints.clone())
        };
        let int =
            |name: &str| node.attribute.iter().find(|attribute| attribute.name == name).map(|found| found.i);
        let output = match (node.op_type.as_str(), flows[&node.input[0]].clone()) {
            ("Conv", Flow::Maps(x)) => {
                let ((shape, weight), (_, bias)) = (tensor(&node.input[1]), tensor(&node.input[2]));
                assert_eq!(ints("kernel_shape"), Some(vec![3, 3]));
                Flow::Maps(x.conv(channels_first(&shape, &weight), &bias))
            }
            ("Relu", Flow::Maps(x)) => Flow::Maps(x.relu()),
            ("Relu", Flow::Flat(x)) => Flow::Flat(x.into_iter().map(|x| x.max(0.0)).collect()),
            ("MaxPool", Flow::Maps(x)) => {
                assert_eq!((ints("kernel_shape"), ints("strides")), (Some(vec![2, 2]), Some(vec![2, 2])));
                Flow::Maps(x.max_pool())
            }
            ("Flatten", Flow::Maps(x)) => {
                assert_eq!(int("axis"), Some(1));
                Flow::Flat(x.flat_channels_first())
            }
            ("Gemm", Flow::Flat(x)) => {
                let ((shape, weight), (_, bias)) = (tensor(&node.input[1]), tensor(&node.input[2]));
                assert_eq!((int("transB"), &*shape), (Some(1), &[bias.len(), x.len()][..]));
                Flow::Flat(linear(&x, |output, input| weight[output * x.len() + input], &bias))
            }
            ("Softmax", Flow::Flat(x)) => {
                assert_eq!(int("axis"), Some(1));
                Flow::Flat(softmax(&x))
            }
            (other, _) => panic!("{other} of this kind of input"),
        };
        flows.insert(node.output[0].clone(), output);
    }
    let output = |index: usize| match &flows[&graph.output[index].name] {
        Flow::Flat(values) => values.clone(),
        Flow::Maps(_) => panic!("an output of ten values"),
    };
    (output(0), output(1))
}

type Tensors = HashMap<String, (Vec<usize>, Vec<f32>)>;

fn run_layers(layers: &[Value], tensors: &Tensors, image: &Maps) -> (Vec<f32>, Vec<f32>) {
    let mut flow = Flow::Maps(image.clone());
    let mut logits = Vec::new();
    assert_eq!(layers[0]["config"]["batch_input_shape"], serde_json::json!([null, 28, 28, 1]));
    for layer in layers {
        let config = &layer["config"];
        let name = config["name"].as_str().unwrap();
        let activation = config["activation"].as_str().unwrap_or("linear");
        let weights = || (&tensors[&format!("{name}/kernel")], &tensors[&format!("{name}/bias")]);
        flow = match (layer["class_name"].as_str().unwrap(), flow) {
            ("Conv2D", Flow::Maps(x)) => {
                let ((shape, kernel), (_, bias)) = weights();
                let [3, 3, channels, filters] = shape[..] else { panic!("{shape:?}") };
                assert_eq!((channels, config["filters"].as_u64()), (x.channels, Some(filters as u64)));
                assert_eq!((&config["padding"], activation), (&"valid".into(), "relu"));
                let weight = |filter, channel, row, column| {
                    kernel[((row * 3 + column) * channels + channel) * filters + filter]
                };
                Flow::Maps(x.conv(weight, bias).relu())
            }
            ("MaxPooling2D", Flow::Maps(x)) => {
                assert_eq!(config["pool_size"], config["strides"]);
                Flow::Maps(x.max_pool())
            }
            ("Flatten", Flow::Maps(x)) => Flow::Flat(x.flat_channels_last()),
            ("Dense", Flow::Flat(x)) => {
                let ((shape, kernel), (_, bias)) = weights();
                assert_eq!((shape[0], config["units"].as_u64()), (x.len(), Some(shape[1] as u64)));
                let z = linear(&x, |output, input| kernel[input * shape[1] + output], bias);
                logits = z.clone();
                Flow::Flat(if activation == "relu" { z.into_iter().map(|z| z.max(0.0)).collect() } else { z })
            }
            ("Activation", Flow::Flat(x)) if activation == "softmax" => Flow::Flat(softmax(&x)),
            (other, _) => panic!("{other} of this kind of input"),
        };
    }
    let Flow::Flat(probabilities) = flow else { panic!("an output of ten values") };
    (logits, probabilities)
}
