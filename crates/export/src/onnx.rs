//! The network as an ONNX graph: channels first, weights inside the file, any number of images.
//!
//! Input `image [N, 1, 28, 28]`, outputs `logits [N, 10]` and `probabilities [N, 10]`. The weights are PyTorch's, so the
//! layouts have one owner.

pub mod messages;

use lockstep_model::{CLASSES, IMAGE_SIDE};
use prost::Message;

use crate::pytorch;
use messages::{
    AttributeProto, Dimension, FLOAT, GraphProto, INT, INTS, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    dimension, type_proto,
};

/// Of the file's structure: understood by every runtime since 2021.
const IR_VERSION: i64 = 8;
/// Of the operators: the oldest in which `Softmax` means what it says here.
const OPERATOR_SET: i64 = 13;

/// The name of the input.
pub const INPUT: &str = "image";
/// The names of the outputs.
pub const OUTPUTS: [&str; 2] = ["logits", "probabilities"];
/// The name of the dimension that is free.
const BATCH: &str = "N";
/// The key of what is said about the weights.
const METADATA_KEY: &str = "lockstep";

const DESCRIPTION: &str = "MNIST convnet. image: float32 [N, 1, 28, 28], grey value / 255, light digit on black. \
    logits: before the softmax. probabilities: after it. Class = index of the greatest.";

/// The file's bytes; `metadata` is kept in it under the key `lockstep`.
///
/// # Panics
///
/// If there are not as many weights as the network has.
pub fn encode(weights: &[f32], metadata: &str) -> Vec<u8> {
    model(weights, metadata).encode_to_vec()
}

fn model(weights: &[f32], metadata: &str) -> ModelProto {
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "lockstep".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        model_version: 1,
        doc_string: DESCRIPTION.to_owned(),
        graph: Some(graph(weights)),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPERATOR_SET }],
        metadata_props: vec![StringStringEntryProto {
            key: METADATA_KEY.to_owned(),
            value: metadata.to_owned(),
        }],
    }
}

fn graph(weights: &[f32]) -> GraphProto {
    let tensor = |tensor: crate::NamedTensor| TensorProto {
        dims: tensor.shape.iter().map(|side| *side as i64).collect(),
        data_type: FLOAT,
        name: tensor.name,
        raw_data: tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    let side = dimension::Value::DimValue(IMAGE_SIDE as i64);
    let batch = dimension::Value::DimParam(BATCH.to_owned());
    let classes = dimension::Value::DimValue(CLASSES as i64);
    GraphProto {
        node: nodes(),
        name: "mnist-convnet".to_owned(),
        initializer: pytorch::tensors(weights).into_iter().map(tensor).collect(),
        input: vec![value(INPUT, [batch.clone(), dimension::Value::DimValue(1), side.clone(), side])],
        output: OUTPUTS.map(|name| value(name, [batch.clone(), classes.clone()])).into(),
    }
}

/// The layers in order; each reads what the one before has written.
fn nodes() -> Vec<NodeProto> {
    let conv = |x: &str, layer: &str, y: &str| {
        let (weight, bias) = (format!("{layer}.weight"), format!("{layer}.bias"));
        node("Conv", &[x, &weight, &bias], y, vec![ints("kernel_shape", &[3, 3])])
    };
    let relu = |x: &str, y: &str| node("Relu", &[x], y, vec![]);
    let pool = |x: &str, y: &str| {
        node("MaxPool", &[x], y, vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])])
    };
    let dense = |x: &str, layer: &str, y: &str| {
        let (weight, bias) = (format!("{layer}.weight"), format!("{layer}.bias"));
        node("Gemm", &[x, &weight, &bias], y, vec![int("transB", 1)])
    };
    vec![
        conv(INPUT, "conv1", "conv1"),
        relu("conv1", "relu1"),
        pool("relu1", "pool1"),
        conv("pool1", "conv2", "conv2"),
        relu("conv2", "relu2"),
        pool("relu2", "pool2"),
        conv("pool2", "conv3", "conv3"),
        relu("conv3", "relu3"),
        node("Flatten", &["relu3"], "flat", vec![int("axis", 1)]),
        dense("flat", "dense1", "dense1"),
        relu("dense1", "relu4"),
        dense("relu4", "dense2", OUTPUTS[0]),
        node("Softmax", &[OUTPUTS[0]], OUTPUTS[1], vec![int("axis", 1)]),
    ]
}

fn node(op_type: &str, input: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: input.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        name: output.to_owned(),
        op_type: op_type.to_owned(),
        attribute,
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i: value, ints: vec![], r#type: INT }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i: 0, ints: values.to_vec(), r#type: INTS }
}

fn value(name: &str, dimensions: impl IntoIterator<Item = dimension::Value>) -> ValueInfoProto {
    let dim = dimensions.into_iter().map(|value| Dimension { value: Some(value) }).collect();
    let tensor = TensorTypeProto { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)) }),
    }
}
