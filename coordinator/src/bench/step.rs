//! `coordinator bench step`: what lock-step and gRPC cost. The same steps by the same kernels and the same trainer, in
//! four arrangements in turn: kernels without any synchronisation, lock-step without a network, lock-step over bare TCP
//! sockets, and a real training over gRPC with local workers.
//!
//! A measuring device: the bare sockets know no failure, no fence and no deadline, and nothing else uses them. All
//! arrangements that train have to end with the same weights.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use lockstep_command_line::exit::EXIT_DONE;
use lockstep_command_line::exit::Interrupted;
use lockstep_command_line::output::print;
use lockstep_command_line::own_command::own_command;
use lockstep_command_line::runtime;
use lockstep_command_line::{Signals, exit_code};
use lockstep_control::{Task, TaskKind, WorkerId};
use lockstep_dataset::{Dataset, Kind, digits_test, digits_train};
use lockstep_model::{Cpu, PARAMETER_BYTES, PARAMETERS, PIXELS, copy_from_le_bytes, initial_weights};
use lockstep_proto::NodeValue;
use lockstep_reduction::Node;
use lockstep_worker::Recomputer;
use serde::{Deserialize, Serialize};

use super::threads::together;
use crate::batches::{Batches, LeafData};
use crate::single_process::SingleProcess;
use crate::trainer::Trainer;

const SEED: u64 = 42;
const LEARNING_RATE: f32 = 0.01;

/// Generated digits to train on: more than a cache or branch prediction keeps, and drawn in a moment.
const EXAMPLES: usize = 6400;

/// Arguments of `coordinator bench step`.
#[derive(clap::Args, Clone, Debug, PartialEq)]
pub struct Arguments {
    /// Workers
    #[arg(long, value_name = "N", default_value_t = 4, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: u32,

    /// Threads of each worker
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    threads_per_worker: u32,

    /// Examples in a batch
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch_size: u32,

    /// Steps of each measurement
    #[arg(long, value_name = "N", default_value_t = 500, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: u32,

    /// Measurements of each arrangement, in turn
    #[arg(long, value_name = "N", default_value_t = 5, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Print the results as one JSON object
    #[arg(long)]
    json: bool,
}

/// Micro-shards of a batch: the default of a training.
const SHARDS: u32 = 16;

/// An arrangement and how fast it was in each round, in examples per second.
#[derive(Debug, Serialize)]
struct Line {
    arrangement: &'static str,
    examples_per_second: Vec<f64>,
    /// Median, against the kernels' without synchronisation.
    share_of_kernels: f64,
}

/// Measures and prints; returns the exit code.
///
/// # Errors
///
/// If threads, sockets, the real training or standard output fail, or the weights differ.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let names = ["kernels alone", "lock-step, no network", "lock-step over bare TCP", "gRPC, local workers"];
    let mut rates: [Vec<f64>; 4] = Default::default();
    let mut digests = Vec::new();
    let measures = [kernels_alone, without_network, over_tcp, over_grpc];
    for round in 0..arguments.rounds as usize {
        for turn in 0..measures.len() {
            let at = (round + turn) % measures.len();
            let Measured { seconds, examples, digest } =
                measures[at](arguments).with_context(|| format!("the measurement '{}' failed", names[at]))?;
            rates[at].push(examples as f64 / seconds);
            digests.extend(digest.map(|digest| (names[at], digest)));
        }
    }
    if let Some((other, _)) = digests.iter().find(|(_, digest)| *digest != digests[0].1) {
        bail!("'{other}' ends with other weights than '{}'", digests[0].0);
    }
    let kernels = median(&rates[0]);
    let lines: Vec<Line> = names
        .into_iter()
        .zip(rates)
        .map(|(arrangement, examples_per_second)| Line {
            arrangement,
            share_of_kernels: median(&examples_per_second) / kernels,
            examples_per_second,
        })
        .collect();
    let text = if arguments.json { to_json(arguments, &lines)? } else { to_text(arguments, &lines) };
    print(&text)?;
    Ok(EXIT_DONE)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn to_text(arguments: &Arguments, lines: &[Line]) -> String {
    let Arguments { workers, threads_per_worker, batch_size, steps, rounds, .. } = arguments;
    let mut text = format!(
        "{workers} workers of {threads_per_worker} threads, batch size {batch_size} in {SHARDS} micro-shards, {steps} \
         steps, median of {rounds} rounds; {}\n",
        Cpu::detect()
    );
    for Line { arrangement, examples_per_second, share_of_kernels } in lines {
        let rate = median(examples_per_second);
        let batch_us = 1e6 * f64::from(*batch_size) / rate;
        text += &format!(
            "{arrangement:<24} {rate:>9.0} examples/s {batch_us:>8.0} us a step {:>6.1} % of the kernels alone\n",
            100.0 * share_of_kernels
        );
    }
    text
}

fn to_json(arguments: &Arguments, lines: &[Line]) -> Result<String> {
    let json = serde_json::json!({
        "schema_version": 1,
        "workers": arguments.workers,
        "threads_per_worker": arguments.threads_per_worker,
        "batch_size": arguments.batch_size,
        "micro_shards": SHARDS,
        "steps": arguments.steps,
        "cpu": Cpu::detect().to_string(),
        "arrangements": lines,
    });
    Ok(serde_json::to_string(&json)? + "\n")
}

/// What one measurement found.
struct Measured {
    seconds: f64,
    examples: u64,
    /// Of the weights, where something was trained.
    digest: Option<String>,
}

fn batches(arguments: &Arguments) -> Batches {
    let dataset = Dataset {
        kind: Kind::Digits,
        train: digits_train(EXAMPLES),
        test: digits_test(1),
        digest: [0; 32],
        fallback: None,
        notes: Vec::new(),
    };
    Batches::new(dataset, SEED, arguments.batch_size, SHARDS, 0.0)
}

fn trainer() -> Trainer {
    Trainer::new(&initial_weights(SEED), LEARNING_RATE)
}

fn task(step: u64) -> Task {
    Task { kind: TaskKind::Train, step }
}

/// The leaves of each of so many workers.
fn intervals(workers: u32) -> impl Iterator<Item = Range<u32>> {
    let workers = workers.min(SHARDS);
    (0..workers).map(move |at| at * SHARDS / workers..(at + 1) * SHARDS / workers)
}

/// An interval's first leaf and its data.
type Share = (u32, LeafData);

/// The data of a step, for each of so many workers.
fn shares(batches: &mut Batches, step: u64, workers: u32) -> Vec<Share> {
    intervals(workers).map(|leaves| (leaves.start, batches.leaves(task(step), leaves))).collect()
}

/// Every thread computes its share of a batch again and again, and waits for nobody.
fn kernels_alone(arguments: &Arguments) -> Result<Measured> {
    let threads = arguments.workers * arguments.threads_per_worker;
    let shares = shares(&mut batches(arguments), 1, threads);
    let weights = initial_weights(SEED);
    let examples = shares.iter().map(|(_, data)| data.labels.len() as u64).sum::<u64>();
    let mut works = Vec::new();
    for (first_leaf, data) in &shares {
        works.push((Recomputer::new(Cpu::detect(), 1)?, data.inputs(task(1), *first_leaf)));
    }
    let (_, time) = together(
        works,
        |(recomputer, inputs)| {
            recomputer.load(&weights);
            drop(recomputer.nodes(*inputs));
        },
        |(recomputer, inputs)| (0..arguments.steps).for_each(|_| drop(recomputer.nodes(inputs))),
    )?;
    let seconds = time.as_secs_f64();
    Ok(Measured { seconds, examples: examples * u64::from(arguments.steps), digest: None })
}

/// One process and one pool of threads: the price of waiting for each other, and of the tree and the update.
fn without_network(arguments: &Arguments) -> Result<Measured> {
    let threads = arguments.workers * arguments.threads_per_worker;
    let mut training = SingleProcess::new(batches(arguments), trainer(), threads)?;
    let begin = Instant::now();
    let mut examples = 0;
    for step in 1..=u64::from(arguments.steps) {
        let means = training.step(step).ok().context(NOT_FINITE)?;
        examples += u64::from(means.examples);
    }
    let digest = Some(training.trainer().digest().to_string());
    Ok(Measured { seconds: begin.elapsed().as_secs_f64(), examples, digest })
}

const NOT_FINITE: &str = "loss or weights are not finite";

/// Threads in the workers' place, each behind a TCP connection that carries nothing but what a step needs.
fn over_tcp(arguments: &Arguments) -> Result<Measured> {
    let (mut batches, mut trainer) = (batches(arguments), trainer());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (workers, steps) = (arguments.workers, u64::from(arguments.steps));
    thread::scope(|scope| {
        let mut sockets = Vec::new();
        let mut serving = Vec::new();
        for _ in intervals(workers) {
            let serve = move || serve(address, arguments.threads_per_worker, steps);
            serving.push(thread::Builder::new().spawn_scoped(scope, serve)?);
            let (socket, _) = listener.accept()?;
            socket.set_nodelay(true)?;
            sockets.push(socket);
        }
        let begin = Instant::now();
        let mut examples = 0;
        send_shares(&mut sockets, &shares(&mut batches, 1, workers))?;
        for step in 1..=steps {
            let weights = trainer.weights_as_bytes();
            for socket in &mut sockets {
                socket.write_all(&weights)?;
            }
            // The next pixels travel while this step is computed.
            if step < steps {
                send_shares(&mut sockets, &shares(&mut batches, step + 1, workers))?;
            }
            for socket in &mut sockets {
                for _ in 0..read_u32(socket)? {
                    let (node, value) = read_node(socket)?;
                    trainer.combine(task(step), SHARDS, WorkerId(1), node, Some(value));
                }
            }
            let means = trainer.step(task(step)).ok().context(NOT_FINITE)?;
            examples += u64::from(means.examples);
        }
        let seconds = begin.elapsed().as_secs_f64();
        for thread in serving {
            thread.join().ok().context("a worker's thread panicked")??;
        }
        Ok(Measured { seconds, examples, digest: Some(trainer.digest().to_string()) })
    })
}

fn send_shares(sockets: &mut [TcpStream], shares: &[Share]) -> Result<()> {
    for (socket, (first_leaf, data)) in sockets.iter_mut().zip(shares) {
        let mut bytes = Vec::with_capacity(data.pixels.len() + 1024);
        let numbers = [*first_leaf, data.leaf_examples.len() as u32];
        for number in numbers.iter().chain(&data.leaf_examples) {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&data.labels);
        bytes.extend(&data.pixels);
        socket.write_all(&bytes)?;
    }
    Ok(())
}

/// A worker of bare sockets: pixels, weights, nodes, step after step.
fn serve(address: std::net::SocketAddr, threads: u32, steps: u64) -> Result<()> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut recomputer = Recomputer::new(Cpu::detect(), threads)?;
    let mut weights = vec![0.0; PARAMETERS];
    let (mut first_leaf, mut data) = read_share(&mut socket)?;
    for step in 1..=steps {
        copy_from_le_bytes(&read_bytes(&mut socket, PARAMETER_BYTES)?, &mut weights);
        recomputer.load(&weights);
        let nodes = recomputer.nodes(data.inputs(task(step), first_leaf));
        socket.write_all(&(nodes.len() as u32).to_le_bytes())?;
        for (node, value) in nodes {
            write_node(&mut socket, node, &value.context("every shard of a full batch has examples")?)?;
        }
        if step < steps {
            (first_leaf, data) = read_share(&mut socket)?;
        }
    }
    Ok(())
}

fn read_share(socket: &mut TcpStream) -> Result<Share> {
    let (first_leaf, leaves) = (read_u32(socket)?, read_u32(socket)?);
    let leaf_examples = (0..leaves).map(|_| read_u32(socket)).collect::<Result<Vec<u32>>>()?;
    let examples = leaf_examples.iter().map(|examples| *examples as usize).sum();
    let labels = read_bytes(socket, examples)?;
    let pixels = read_bytes(socket, examples * PIXELS)?;
    Ok((first_leaf, LeafData { leaf_examples, labels, pixels }))
}

fn write_node(socket: &mut TcpStream, node: Node, value: &NodeValue) -> Result<()> {
    let numbers = [node.level(), node.index(), value.examples, value.loss.to_bits(), value.correct];
    let head: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    socket.write_all(&head)?;
    socket.write_all(&value.gradient).map_err(Into::into)
}

fn read_node(socket: &mut TcpStream) -> Result<(Node, NodeValue)> {
    let node = Node::new(read_u32(socket)?, read_u32(socket)?).context("a node of the tree")?;
    let (examples, loss) = (read_u32(socket)?, f32::from_bits(read_u32(socket)?));
    let correct = read_u32(socket)?;
    let gradient = read_bytes(socket, PARAMETER_BYTES)?;
    Ok((node, NodeValue { examples, loss, correct, gradient, confusion: Bytes::new() }))
}

fn read_u32(socket: &mut TcpStream) -> Result<u32> {
    let mut bytes = [0; 4];
    socket.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn read_bytes(socket: &mut TcpStream, length: usize) -> Result<Bytes> {
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

/// The real thing: this program, with local workers.
fn over_grpc(arguments: &Arguments) -> Result<Measured> {
    let folder = tempfile::tempdir()?;
    let text = |number: u32| number.to_string();
    let mut command = own_command(&[])?;
    command
        .args([
            "--dataset",
            "digits",
            "--offline",
            "--json",
            "--no-progress",
            "--no-dashboard",
            "--validation-split",
            "0",
        ])
        .args([
            "--examples",
            &EXAMPLES.to_string(),
            "--epochs",
            "1000000",
            "--max-steps",
            &text(arguments.steps),
        ])
        .args(["--batch-size", &text(arguments.batch_size), "--micro-shards", &text(SHARDS)])
        .args(["--workers", &text(arguments.workers)])
        .args(["--threads-per-worker", &text(arguments.threads_per_worker)])
        .args(["--seed", &SEED.to_string(), "--learning-rate", &LEARNING_RATE.to_string()])
        .arg("--run-dir")
        .arg(folder.path().join("run"));
    let output = runtime::on_this_thread()?.block_on(async {
        let mut signals = Signals::new()?;
        tokio::select! {
            output = command.stdin(Stdio::null()).output() => anyhow::Ok(output?),
            // Dropped, the training is killed.
            signal = signals.next() => bail!(Interrupted { exit_code: exit_code(signal) }),
        }
    })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("the training ended with {}: {}", output.status, stderr.lines().last().unwrap_or_default());
    }
    let summary: Summary = serde_json::from_slice(&output.stdout).context("no summary of the training")?;
    Ok(Measured {
        seconds: summary.train_seconds,
        examples: summary.examples,
        digest: Some(summary.weights_digest),
    })
}

/// What is wanted of a training's summary.
#[derive(Deserialize)]
struct Summary {
    train_seconds: f64,
    examples: u64,
    weights_digest: String,
}
