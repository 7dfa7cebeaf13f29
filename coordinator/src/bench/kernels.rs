//! `coordinator bench kernels`: the kernels against the processor's peak, in one process, measurements taking turns.
//!
//! Every layer is timed inside the real computation, on data that is new each time, so that caches and branch
//! prediction are those of a training. Owns what is measured and how it is shown; computes nothing itself.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use lockstep_command_line::exit::EXIT_DONE;
use lockstep_command_line::output::print;
use lockstep_dataset::{Examples, digits_train};
use lockstep_kernels::peak::multiply_adds;
use lockstep_model::{
    Cpu, GROUP, IMAGE_SIDE, Layer, Network, PARAMETERS, PIXELS, Part, ShardResult, Workspace,
    cpu_description, initial_weights, sgd_update,
};
use ndarray::{ArrayView1, ArrayView3};
use serde_json::{Map, Value, json};

use super::threads::together;

/// Multiply-adds of one example, forward and backward, if every term of every layer is computed.
const DENSE_MULTIPLY_ADDS: u64 = 2_173_440;

/// Generated digits to compute on: more than branch prediction can learn.
const EXAMPLES: usize = 2048;

/// Steps of training before the measurements, so that as many activations are zero as in a training.
const STEPS: usize = 200;
const BATCH: usize = 64;
const LEARNING_RATE: f32 = 0.01;

/// Examples of a shard: a batch of 64 in 16 micro-shards.
const SHARD: usize = 4;

/// What one measurement takes: long against the clock and the start of threads, short against the turns that a busy
/// machine gives to other programs.
const SAMPLE: Duration = Duration::from_millis(5);

/// Rounds that are measured however short `--seconds` is.
const LEAST_ROUNDS: usize = 3;

/// Arguments of `coordinator bench kernels`.
#[derive(clap::Args, Clone, Debug, PartialEq)]
pub struct Arguments {
    /// Layer to time, may be repeated: conv1, conv2, conv3, dense1 or dense2 [default: all]
    #[arg(long = "layer", value_name = "NAME")]
    layers: Vec<Layer>,

    /// Instruction set: avx512, avx2, neon or scalar [default: LOCKSTEP_CPU, else the fastest]
    #[arg(long, value_name = "NAME")]
    cpu: Option<Cpu>,

    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", allow_negative_numbers = true)]
    #[arg(value_parser = seconds)]
    seconds: Duration,

    /// Print the results as one JSON object
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0 && *seconds <= 3600.0);
    seconds.map(Duration::from_secs_f64).ok_or("it must be above 0 and at most 3600".to_string())
}

/// Measures and prints; returns the exit code.
///
/// # Errors
///
/// If threads or standard output fail.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let cpu = arguments.cpu.unwrap_or_else(Cpu::detect);
    let layers = if arguments.layers.is_empty() { Layer::ALL.to_vec() } else { arguments.layers.clone() };
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let results = Bench::new(cpu, cores).measure(arguments.seconds)?;
    let text = if arguments.json { results.to_json(&layers) } else { results.to_text(&layers) };
    print(&text)?;
    Ok(EXIT_DONE)
}

/// What the measurements need.
struct Bench {
    cpu: Cpu,
    cores: usize,
    examples: Examples,
    network: Network,
}

/// One number for each round.
type Samples = Vec<f64>;

/// What was measured.
struct Results {
    cpu: Cpu,
    /// GFLOP/s with 1 and with all threads.
    peak: [Samples; 2],
    /// Microseconds per example of each part.
    parts: Vec<(Part, Samples)>,
    /// Microseconds per shard to begin and to end its sums.
    sums: Samples,
    /// Examples per second with 1 thread, 2 threads, ...
    gradient: Vec<Samples>,
}

impl Bench {
    fn new(cpu: Cpu, cores: usize) -> Self {
        let examples = digits_train(EXAMPLES);
        let mut network = Network::new(cpu);
        network.load(&trained(&examples));
        Self { cpu, cores, examples, network }
    }

    fn measure(&self, limit: Duration) -> Result<Results> {
        let mut results = Results {
            cpu: self.cpu,
            peak: [vec![], vec![]],
            parts: Part::ALL.map(|part| (part, vec![])).into(),
            sums: vec![],
            gradient: vec![vec![]; self.cores],
        };
        let mut ws = Workspace::new();
        let mut next = 0;
        let start = Instant::now();
        while results.sums.len() < LEAST_ROUNDS || start.elapsed() < limit {
            results.peak[0].push(self.peak(1)?);
            results.peak[1].push(self.peak(self.cores)?);
            self.time_parts(&mut ws, &mut next, &mut results.parts);
            results.sums.push(self.time_sums(&mut ws));
            for (index, samples) in results.gradient.iter_mut().enumerate() {
                samples.push(self.gradient(index + 1)?);
            }
        }
        Ok(results)
    }

    /// GFLOP/s, a multiply-add being two.
    fn peak(&self, threads: usize) -> Result<f64> {
        let rate = rate(threads, || {
            let cpu = self.cpu;
            move || multiply_adds(cpu, 4)
        })?;
        Ok(2e-9 * rate)
    }

    /// Examples per second.
    fn gradient(&self, threads: usize) -> Result<f64> {
        let mut first = 0;
        rate(threads, || {
            // Each thread begins somewhere else.
            first += EXAMPLES / (threads * SHARD) * SHARD;
            let (mut next, mut ws) = (first % EXAMPLES, Workspace::new());
            let mut gradient = vec![0.0; PARAMETERS];
            move || {
                let (images, labels) = self.examples_from(next, SHARD);
                self.network.shard_gradient(images, labels, &mut ws, &mut gradient);
                next = (next + SHARD) % EXAMPLES;
                SHARD as u64
            }
        })
    }

    /// Adds a sample to each part: groups of examples go through the network, and the clock is read between parts.
    fn time_parts(&self, ws: &mut Workspace, next: &mut usize, parts: &mut [(Part, Samples)]) {
        let mut spent = vec![Duration::ZERO; parts.len()];
        let mut total = ShardResult::default();
        let mut examples = 0;
        let start = Instant::now();
        while start.elapsed() < SAMPLE {
            let (images, labels) = self.examples_from(*next, GROUP);
            let mut before = Instant::now();
            for ((part, _), spent) in parts.iter().zip(&mut spent) {
                self.network.compute(*part, images, labels, ws, &mut total);
                let after = Instant::now();
                *spent += after - before;
                before = after;
            }
            *next = (*next + GROUP) % EXAMPLES;
            examples += GROUP;
        }
        for ((_, samples), spent) in parts.iter_mut().zip(spent) {
            samples.push(spent.as_secs_f64() * 1e6 / examples as f64);
        }
    }

    /// Microseconds that a shard without examples takes: its sums are cleared, and written out.
    fn time_sums(&self, ws: &mut Workspace) -> f64 {
        let mut gradient = vec![0.0; PARAMETERS];
        let (images, labels) = self.examples_from(0, 0);
        let mut shards = 0;
        let start = Instant::now();
        while start.elapsed() < SAMPLE {
            self.network.shard_gradient(images, labels, ws, &mut gradient);
            shards += 1;
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(shards)
    }

    fn examples_from(&self, first: usize, count: usize) -> (ArrayView3<'_, u8>, ArrayView1<'_, u8>) {
        examples_from(&self.examples, first, count)
    }
}

fn examples_from(
    examples: &Examples,
    first: usize,
    count: usize,
) -> (ArrayView3<'_, u8>, ArrayView1<'_, u8>) {
    let images = &examples.images[first * PIXELS..(first + count) * PIXELS];
    let images = ArrayView3::from_shape((count, IMAGE_SIDE, IMAGE_SIDE), images).expect("whole images");
    (images, ArrayView1::from(&examples.labels[first..first + count]))
}

/// Weights after a few steps of training, on the fastest instruction set: all of them give the same.
fn trained(examples: &Examples) -> Box<[f32]> {
    let mut network = Network::new(Cpu::available()[0]);
    let mut weights = initial_weights(42);
    let (mut updated, mut gradient) = (weights.clone(), weights.clone());
    let mut ws = Workspace::new();
    for step in 0..STEPS {
        network.load(&weights);
        let (images, labels) = examples_from(examples, step * BATCH % EXAMPLES, BATCH);
        network.shard_gradient(images, labels, &mut ws, &mut gradient);
        sgd_update(&weights, &gradient, LEARNING_RATE, BATCH as u32, &mut updated);
        std::mem::swap(&mut weights, &mut updated);
    }
    weights
}

/// What `threads` threads do together in a second: `prepare` makes the work of each, which says how much it did.
fn rate<W: FnMut() -> u64 + Send>(threads: usize, mut prepare: impl FnMut() -> W) -> Result<f64> {
    let works: Vec<W> = (0..threads).map(|_| prepare()).collect();
    let measure = |mut work: W| {
        let start = Instant::now();
        let mut done = 0;
        while start.elapsed() < SAMPLE {
            done += work();
        }
        done as f64 / start.elapsed().as_secs_f64()
    };
    let (rates, _) = together(works, |work| _ = work(), measure)?;
    Ok(rates.into_iter().sum())
}

/// The middle of the samples.
fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

fn greatest(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(0.0, f64::max)
}

/// Multiply-adds of one example, if every term is computed; the first layer has no input gradient.
fn dense_multiply_adds(part: Part) -> u64 {
    let of = |layer| match layer {
        Layer::Conv1 => 26 * 26 * 9 * 16,
        Layer::Conv2 => 11 * 11 * 144 * 32,
        Layer::Conv3 => 3 * 3 * 288 * 32,
        Layer::Dense1 => 288 * 64,
        Layer::Dense2 => 64 * 10,
    };
    match part {
        Part::Pixels | Part::Loss => 0,
        Part::Forward(layer) => of(layer),
        Part::Backward(Layer::Conv1) => of(Layer::Conv1),
        Part::Backward(layer) => 2 * of(layer),
    }
}

impl Results {
    /// Examples per second, if the dense arithmetic ran at the peak of one or of all threads.
    fn roofline(&self, threads: usize, of: impl Fn(&[f64]) -> f64) -> f64 {
        let peak = of(&self.peak[usize::from(threads > 1)]);
        // Threads between one and all of them: their share of the peak of all.
        let share = if threads > 1 { threads as f64 / self.gradient.len() as f64 } else { 1.0 };
        peak * share * 1e9 / 2.0 / DENSE_MULTIPLY_ADDS as f64
    }

    fn of_part(&self, part: Part) -> &[f64] {
        self.parts.iter().find(|(of, _)| *of == part).map_or(&[], |(_, samples)| samples)
    }

    fn to_text(&self, layers: &[Layer]) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_text(layers, &mut text);
        text
    }

    fn write_text(&self, layers: &[Layer], text: &mut String) -> std::fmt::Result {
        let cores = self.gradient.len();
        writeln!(text, "{}, {} rounds", cpu_description(self.cpu), self.sums.len())?;
        writeln!(
            text,
            "generated digits, weights after {STEPS} steps, shards of {SHARD} examples; median (best)\n"
        )?;
        for (threads, peak) in [(1, &self.peak[0]), (cores, &self.peak[1])] {
            writeln!(
                text,
                "f32 multiply-add peak, {threads:>2} threads: {:>7.1} ({:.1}) GFLOP/s = {:.0} ({:.0}) examples/s dense",
                median(peak),
                greatest(peak),
                self.roofline(threads, median),
                self.roofline(threads, greatest)
            )?;
        }
        writeln!(
            text,
            "\n{:<8}{:>30}{:>32}",
            "layer", "forward us/example, of peak", "backward us/example, of peak"
        )?;
        for &layer in layers {
            write!(text, "{layer:<8}")?;
            for part in [Part::Forward(layer), Part::Backward(layer)] {
                let samples = self.of_part(part);
                let share =
                    dense_multiply_adds(part) as f64 * 2.0 / (least(samples) * 1e3) / greatest(&self.peak[0]);
                let (median, least) = (median(samples), least(samples));
                write!(text, "{median:>14.2} ({least:>5.2}) {:>6.0} %", share * 100.0)?;
            }
            writeln!(text)?;
        }
        for (name, samples, per) in [
            ("pixels", self.of_part(Part::Pixels), 1),
            ("loss", self.of_part(Part::Loss), 1),
            ("sums", &self.sums, SHARD),
        ] {
            let (median, least) = (median(samples) / per as f64, least(samples) / per as f64);
            writeln!(text, "{name:<8}{median:>14.2} ({least:>5.2})")?;
        }
        writeln!(text)?;
        for (index, samples) in self.gradient.iter().enumerate() {
            let threads = index + 1;
            let (median, best) = (median(samples), greatest(samples));
            writeln!(
                text,
                "gradient, {threads:>2} threads: {median:>8.0} ({best:.0}) examples/s = {:.2} ({:.2}) x dense",
                median / self.roofline(threads, self::median),
                best / self.roofline(threads, greatest)
            )?;
        }
        Ok(())
    }

    fn to_json(&self, layers: &[Layer]) -> String {
        let cores = self.gradient.len();
        let higher = |samples: &[f64]| json!({"median": median(samples), "best": greatest(samples)});
        let lower = |samples: &[f64]| json!({"median": median(samples), "best": least(samples)});
        let by_threads = |value: &dyn Fn(usize, &[f64]) -> Value| -> Value {
            let of =
                |(index, samples): (usize, &Samples)| ((index + 1).to_string(), value(index + 1, samples));
            self.gradient.iter().enumerate().map(of).collect::<Map<_, _>>().into()
        };
        let mut microseconds: Map<String, Value> = layers
            .iter()
            .map(|&layer| {
                let [forward, backward] =
                    [Part::Forward(layer), Part::Backward(layer)].map(|part| lower(self.of_part(part)));
                (layer.to_string(), json!({"forward": forward, "backward": backward}))
            })
            .collect();
        microseconds.insert("pixels".into(), lower(self.of_part(Part::Pixels)));
        microseconds.insert("loss".into(), lower(self.of_part(Part::Loss)));
        let sums: Samples = self.sums.iter().map(|shard| shard / SHARD as f64).collect();
        microseconds.insert("sums".into(), lower(&sums));
        let object = json!({
            "schema_version": 1,
            "cpu": self.cpu.to_string(),
            "cores": cores,
            "rounds": self.sums.len(),
            "shard_examples": SHARD,
            "peak_gflops": {"one_thread": higher(&self.peak[0]), "all_threads": higher(&self.peak[1])},
            "dense_roofline_examples_per_second": by_threads(&|threads, _| {
                json!({"median": self.roofline(threads, median), "best": self.roofline(threads, greatest)})
            }),
            "examples_per_second": by_threads(&|_, samples| higher(samples)),
            "ratio_to_dense_roofline": by_threads(&|threads, samples| json!({
                "median": median(samples) / self.roofline(threads, median),
                "best": greatest(samples) / self.roofline(threads, greatest),
            })),
            "microseconds_per_example": microseconds,
        });
        format!("{object}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layers_add_up_to_the_dense_arithmetic() {
        assert_eq!(Part::ALL.map(dense_multiply_adds).iter().sum::<u64>(), DENSE_MULTIPLY_ADDS);
    }

    #[test]
    fn the_median_is_of_the_sorted_samples() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!((least(&[3.0, 1.0, 2.0]), greatest(&[3.0, 1.0, 2.0])), (1.0, 3.0));
    }

    #[test]
    fn seconds_are_positive_and_bounded() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "nan", "inf", "3601", "ten"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
