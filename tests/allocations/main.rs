//! What a step allocates in steady state, in the whole of a coordinator's and of a worker's process: this program's code,
//! gRPC, HTTP/2, the runtime and the log. It is bounded, and no tensor is copied into memory of its own.
//!
//! This binary is also a coordinator and its workers ([`role`]), with an allocator that counts; the code that they run
//! is that of production. A run of so many steps more costs so much more; what comes once falls out.

#![allow(clippy::unwrap_used, reason = "a test's helpers panic like the test")]

mod role;
mod run;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use run::Counted;

/// Steps until everything has grown to its size, and steps that are counted.
const FEW: u32 = 300;
const MORE: u32 = 1000;

/// Allocations of the coordinator: for every step, and for every message that it sends or receives. They were 12 and 5.
/// HTTP/2 takes most of those of a message: slots of queues, lists of pieces, buffers to read into.
const COORDINATOR_STEP: f64 = 16.0;
const COORDINATOR_MESSAGE: f64 = 6.5;

/// Allocations of a worker in a step, in which it receives two messages and sends one or two. They were 27.
const WORKER_STEP: f64 = 34.0;

/// Bytes beside the payloads that came in, which have to be received into something. For a coordinator, the pixels that
/// it gathers come on top. They were 19,000 to 30,000 for a coordinator of one worker, 45,000 to 74,000 of four, and
/// 17,500 for a worker: buffers of 8 and 16 KiB, for heads of frames to be read into. A tensor has 132,776.
const COORDINATOR_STEP_BYTES: f64 = 20_000.0;
const COORDINATOR_WORKER_BYTES: f64 = 25_000.0;
const WORKER_STEP_BYTES: f64 = 26_000.0;

fn main() -> ExitCode {
    if let Some(folder) = role::counts_folder() {
        return role::play(&folder);
    }
    let trial = |name: &str, workers| Trial::test(name, move || bounded(workers));
    let trials = vec![
        trial("a_step_of_one_worker_allocates_no_more_than_its_bounds", 1),
        trial("a_step_of_four_workers_allocates_no_more_than_its_bounds", 4),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

#[expect(clippy::print_stdout, reason = "the figures are wanted for the documentation")]
fn bounded(workers: u32) -> Result<(), Failed> {
    let few = run::run(workers, FEW);
    let many = run::run(workers, FEW + MORE);
    let Counted { coordinator, workers: all, sent, received, messages } = many.per_step_beyond(&few, MORE);
    let workers = f64::from(workers);
    // A worker receives what the coordinator sends: weights for each, and pixels and labels.
    let weights = run::TENSOR * workers;
    let gathered = sent - weights;
    let lines = [
        (
            "allocations of the coordinator",
            coordinator.allocations,
            COORDINATOR_STEP + COORDINATOR_MESSAGE * messages,
        ),
        (
            "bytes of the coordinator beside what it receives and gathers",
            coordinator.bytes - received - gathered,
            COORDINATOR_STEP_BYTES + COORDINATOR_WORKER_BYTES * workers,
        ),
        ("allocations of all workers", all.allocations, WORKER_STEP * workers),
        ("bytes of all workers beside what they receive", all.bytes - sent, WORKER_STEP_BYTES * workers),
    ];
    let text: Vec<String> = lines
        .iter()
        .map(|(what, found, bound)| format!("{what} in a step: {found:.1}, the bound is {bound:.0}"))
        .collect();
    let text =
        format!("{}; {messages:.2} messages, {sent:.0} bytes sent, {received:.0} received", text.join("; "));
    if lines.iter().any(|(_, found, bound)| found > bound) {
        return Err(text.into());
    }
    println!("{text}");
    Ok(())
}
