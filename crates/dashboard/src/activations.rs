//! The activations of the network for one image, layer by layer, and the filters of the first layer.
//!
//! The reference program computes them, layer by layer as it is written; some milliseconds, only when a page asks, and at
//! most a few times a second whoever asks.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use lockstep_dataset::{IMAGE_PIXELS, IMAGE_SIDE};
use lockstep_image_input::{Picture, as_mnist};
use lockstep_kernels::cpu::{InstructionSet, Kernel};
use lockstep_kernels::reference as layer;
use lockstep_model::{CLASSES, Cpu, PARAMETERS, TENSORS, copy_from_le_bytes};
use ndarray::{Array1, Array3, ArrayView1, ArrayView2, ArrayView4, Axis};
use serde::Serialize;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::site::Site;

/// Sides of a drawing.
const LEAST_SIDE: usize = IMAGE_SIDE;
const GREATEST_SIDE: usize = 280;

/// A drawing has to come within.
const DRAWING_PATIENCE: Duration = Duration::from_secs(10);

/// Requests that may wait for their turn.
const MAX_WAITING: usize = 8;

/// The pause after each: so they take a small part of one processor at most.
const PAUSE: Duration = Duration::from_millis(80);

/// Weights of a filter of the first layer.
const FILTER_WEIGHTS: usize = 9;

/// One request at a time, a pause after each, and a bound on those that wait.
pub struct RateLimit {
    waiting: Semaphore,
    one: Mutex<()>,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { waiting: Semaphore::new(MAX_WAITING), one: Mutex::new(()) }
    }
}

/// What is said of one layer; its values follow the JSON as bytes.
#[derive(Serialize)]
struct LayerHead {
    name: &'static str,
    height: usize,
    width: usize,
    channels: usize,
    /// What 255 stands for.
    greatest: f32,
}

#[derive(Serialize)]
struct Head {
    step: u64,
    predicted: usize,
    probabilities: Vec<f32>,
    layers: Vec<LayerHead>,
}

/// `POST /api/look`: the body is a square of grey values, bright ink on black.
pub async fn of_drawing(State(site): State<Arc<Site>>, request: Request) -> Response {
    let body = to_bytes(request.into_body(), GREATEST_SIDE * GREATEST_SIDE);
    let pixels = match timeout(DRAWING_PATIENCE, body).await {
        Ok(Ok(pixels)) => pixels,
        Ok(Err(_)) => {
            return (StatusCode::PAYLOAD_TOO_LARGE, "a drawing has at most 280x280 bytes\n").into_response();
        }
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "the drawing did not come in time\n").into_response(),
    };
    let side = pixels.len().isqrt();
    if side * side != pixels.len() || side < LEAST_SIDE {
        return (StatusCode::BAD_REQUEST, "a drawing is a square of 28x28 to 280x280 bytes\n")
            .into_response();
    }
    // Nothing drawn is black.
    let drawing = Picture::grey(side, side, pixels.to_vec()).and_then(|drawing| as_mnist(&drawing));
    of_image(&site, drawing.unwrap_or([0; IMAGE_PIXELS])).await
}

/// `GET /api/look/INDEX`: an image of the sample of test digits.
pub async fn of_digit(State(site): State<Arc<Site>>, Path(index): Path<usize>) -> Response {
    let image = site.with_digits(|digits| digits.image(index).map(<[u8; IMAGE_PIXELS]>::try_from)).flatten();
    match image {
        Some(Ok(image)) => of_image(&site, image).await,
        _ => (StatusCode::NOT_FOUND, "there is no such test digit here\n").into_response(),
    }
}

/// `GET /api/digits`: the pixels of the sample, 784 bytes an image.
pub async fn digits(State(site): State<Arc<Site>>) -> Response {
    let images = site.with_digits(|digits| Bytes::copy_from_slice(digits.images()));
    bytes(images.unwrap_or_default().into())
}

/// The filters of the first layer, as rows of 9.
#[derive(Serialize)]
struct Filters {
    step: u64,
    now: Vec<f32>,
    start: Vec<f32>,
}

/// `GET /api/filters`.
pub async fn filters(State(site): State<Arc<Site>>) -> Response {
    let (Some((step, weights)), Some(start)) = (site.history.newest_weights(), site.first_weights()) else {
        return no_weights();
    };
    let mut now = vec![0.0; TENSORS[0].len()];
    copy_from_le_bytes(&weights[..4 * TENSORS[0].len()], &mut now);
    let rows = |kernel: &[f32]| -> Vec<f32> {
        let filters = kernel.len() / FILTER_WEIGHTS;
        (0..kernel.len()).map(|at| kernel[at % FILTER_WEIGHTS * filters + at / FILTER_WEIGHTS]).collect()
    };
    let filters = Filters { step, now: rows(&now), start: rows(&start[TENSORS[0].range()]) };
    // Numbers only.
    let text = serde_json::to_string(&filters).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn no_weights() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "there are no weights yet\n").into_response()
}

fn bytes(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

async fn of_image(site: &Site, image: [u8; IMAGE_PIXELS]) -> Response {
    let Ok(_waiting) = site.rate_limit.waiting.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many look at once; try again\n").into_response();
    };
    let _turn = site.rate_limit.one.lock().await;
    let Some((step, weights)) = site.history.newest_weights() else { return no_weights() };
    let mut values = vec![0.0; PARAMETERS];
    copy_from_le_bytes(&weights, &mut values);
    let answer = answer(step, &image, &Cpu::detect().run(Forward { weights: &values, image: &image }));
    tokio::time::sleep(PAUSE).await;
    bytes(answer.into())
}

/// A line of JSON, then the image and the values of each layer, a byte each.
fn answer(step: u64, image: &[u8], activations: &Activations) -> Vec<u8> {
    let Activations { maps, hidden, logits } = activations;
    let probabilities = softmax(logits.view());
    let names = ["conv1", "pool1", "conv2", "pool2", "conv3"];
    let mut layers = Vec::new();
    let mut values = image.to_vec();
    let mut add = |name, (height, width, channels), of: &mut dyn Iterator<Item = f32>| {
        let of: Vec<f32> = of.collect();
        let greatest = of.iter().copied().fold(0.0_f32, |a, b| if b > a { b } else { a });
        layers.push(LayerHead { name, height, width, channels, greatest });
        // Below 0 and beyond 255 a conversion stays at the border.
        values.extend(of.iter().map(|value| (value / greatest.max(f32::MIN_POSITIVE) * 255.0).round() as u8));
    };
    for (name, map) in names.into_iter().zip(maps) {
        add(name, map.dim(), &mut map.iter().copied());
    }
    add("dense1", (1, hidden.len(), 1), &mut hidden.iter().copied());
    let predicted = layer::argmax(logits.view());
    let head = Head { step, predicted, probabilities, layers };
    // Numbers and names.
    let mut answer = serde_json::to_vec(&head).unwrap_or_default();
    answer.push(b'\n');
    answer.extend(values);
    answer
}

fn softmax(logits: ArrayView1<f32>) -> Vec<f32> {
    let (_, gradient) = layer::softmax_cross_entropy(logits, 0);
    // The gradient is the probability, less one for the label.
    (0..CLASSES).map(|class| gradient[class] + if class == 0 { 1.0 } else { 0.0 }).collect()
}

/// What every layer gives for one image, channels last.
struct Activations {
    /// conv1, pool1, conv2, pool2, conv3, each behind its ReLU.
    maps: [Array3<f32>; 5],
    /// dense1 behind its ReLU.
    hidden: Array1<f32>,
    logits: Array1<f32>,
}

/// The network forward, as the reference has it, but for the second convolution: place by place, not by windows, so that
/// all of its places are there to be seen. The last bits differ.
struct Forward<'a> {
    weights: &'a [f32],
    image: &'a [u8; IMAGE_PIXELS],
}

impl Kernel for Forward<'_> {
    type Output = Activations;

    #[inline(always)]
    fn run<S: InstructionSet>(self) -> Activations {
        let w = self.weights;
        let image = ArrayView2::from_shape((IMAGE_SIDE, IMAGE_SIDE), self.image).expect("28 rows of 28");
        let x = image.mapv(layer::pixel::<f32>).insert_axis(Axis(2));
        let a1 = layer::conv2d::<f32, S>(x.view(), kernel(w, 0), vector(w, 1)).mapv_into(layer::relu);
        let (p1, _) = layer::max_pool2d(a1.view());
        let a2 = layer::conv2d::<f32, S>(p1.view(), kernel(w, 2), vector(w, 3)).mapv_into(layer::relu);
        let (p2, _) = layer::max_pool2d(a2.view());
        let a3 = layer::conv2d::<f32, S>(p2.view(), kernel(w, 4), vector(w, 5)).mapv_into(layer::relu);
        let flat = ArrayView1::from(a3.as_slice().expect("a new array is in order"));
        let hidden = layer::dense::<f32, S>(flat, matrix(w, 6), vector(w, 7)).mapv_into(layer::relu);
        let logits = layer::dense::<f32, S>(hidden.view(), matrix(w, 8), vector(w, 9));
        Activations { maps: [a1, p1, a2, p2, a3], hidden, logits }
    }
}

#[inline(always)]
fn vector(weights: &[f32], tensor: usize) -> ArrayView1<'_, f32> {
    ArrayView1::from(&weights[TENSORS[tensor].range()])
}

#[inline(always)]
fn matrix(weights: &[f32], tensor: usize) -> ArrayView2<'_, f32> {
    let shape = TENSORS[tensor].shape;
    ArrayView2::from_shape((shape[0], shape[1]), &weights[TENSORS[tensor].range()])
        .expect("the table's shape")
}

#[inline(always)]
fn kernel(weights: &[f32], tensor: usize) -> ArrayView4<'_, f32> {
    let shape = TENSORS[tensor].shape;
    ArrayView4::from_shape((shape[0], shape[1], shape[2], shape[3]), &weights[TENSORS[tensor].range()])
        .expect("the table's shape")
}

#[cfg(test)]
mod tests {
    use lockstep_model::{Network, Workspace, initial_weights};

    use super::*;

    #[test]
    fn the_layers_are_those_that_training_computes() {
        let weights = initial_weights(7);
        let test = lockstep_dataset::digits_test(10);
        let image: [u8; IMAGE_PIXELS] = test.image(3).try_into().unwrap();
        let activations = Cpu::detect().run(Forward { weights: &weights, image: &image });
        let mut network = Network::new(Cpu::detect());
        network.load(&weights);
        let image_view = ArrayView2::from_shape((28, 28), &image).unwrap();
        let fast = network.predict(image_view, &mut Workspace::new()).probabilities;
        let slow = softmax(activations.logits.view());
        for class in 0..CLASSES {
            assert!((fast[class] - slow[class]).abs() < 1e-6, "{class}: {fast:?} {slow:?}");
        }
        let answer = answer(5, &image, &activations);
        let end = answer.iter().position(|byte| *byte == b'\n').unwrap();
        let head: serde_json::Value = serde_json::from_slice(&answer[..end]).unwrap();
        let layers = head["layers"].as_array().unwrap();
        let names: Vec<&str> = layers.iter().map(|layer| layer["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["conv1", "pool1", "conv2", "pool2", "conv3", "dense1"]);
        let values: u64 = layers
            .iter()
            .map(|layer| {
                ["height", "width", "channels"]
                    .iter()
                    .map(|side| layer[side].as_u64().unwrap())
                    .product::<u64>()
            })
            .sum();
        assert_eq!(answer.len(), end + 1 + IMAGE_PIXELS + values as usize);
        assert_eq!(head["step"], 5);
    }
}
