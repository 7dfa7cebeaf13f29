//! `attacks fast|full [NAME]`: what strangers and members can do to a coordinator, one attack after the other against one
//! real run with two honest workers.
//!
//! An attack fails the program if an honest worker is dropped, a step takes two deadlines, the coordinator's CPU time of
//! a step is above one and a half of what it is in quiet, or its memory grows by 64 MiB; and in the end if the run's bits
//! are not those that a single process computes. Rates are told beside those before and after.

#![allow(clippy::print_stdout, reason = "its table is its result")]

mod frames;
mod members;
mod strangers;
mod target;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use target::{Interval, Target};

/// How much more CPU time a step may take under attack.
const MAX_CPU_RATIO: f64 = 1.5;

/// The longest step under attack: two deadlines.
const MAX_STEP_SECONDS: f64 = 2.0;

/// How often an attack is tried before it counts as one that does harm.
const LOOKS: u32 = 3;

/// How much more memory an attack may cost, in MiB.
const MAX_GROWTH_MIB: f64 = 64.0;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let (seconds, full) = match arguments.next().as_deref() {
        Some("fast") => (1.0, false),
        Some("full") => (6.0, true),
        _ => {
            println!("attacks fast|full [NAME]");
            return Ok(ExitCode::from(2));
        }
    };
    let name = arguments.next().unwrap_or_default();
    let target = Target::start()?;
    let mut failed = false;
    println!(
        "attack | steps/s before, during, after | CPU ms a step, quiet and during | longest step, s | peak MiB | verdict"
    );
    let mut report =
        |name: &str, attack: &(dyn Fn(SocketAddr, &AtomicBool) + Sync), threads: usize| -> Result<()> {
            // On a shared machine one look may be disturbed by others; what an attack costs is there each time.
            for _ in 0..LOOKS {
                if judge(&target, name, seconds, threads, attack)? {
                    return Ok(());
                }
            }
            failed = true;
            Ok(())
        };
    for attack in strangers::ATTACKS.iter().filter(|attack| attack.name.contains(&name)) {
        report(attack.name, &attack.run, attack.threads)?;
    }
    for attack in
        members::ATTACKS.iter().filter(|attack| attack.name.contains(&name) && (full || !attack.slow))
    {
        report(attack.name, &|to, stop| members::run(attack, to, stop), 1)?;
    }
    if failed {
        println!("the last events:\n{}", target.events());
    }
    target.end_and_verify()?;
    println!("the bits are those of a single process");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Watches the run before, during and after an attack, tells what it cost, and whether that is little enough.
fn judge(
    target: &Target,
    name: &str,
    seconds: f64,
    threads: usize,
    attack: &(dyn Fn(SocketAddr, &AtomicBool) + Sync),
) -> Result<bool> {
    let watch = || -> Result<Interval> {
        let begin = target.sample()?;
        std::thread::sleep(Duration::from_secs_f64(seconds));
        target.since(begin)
    };
    let (dropped, before) = (target.honest_dropped(), watch()?);
    let (stop, address) = (AtomicBool::new(false), target.address);
    let during = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| attack(address, &stop));
        }
        let during = watch();
        stop.store(true, Ordering::Relaxed);
        during
    })?;
    let after = watch()?;
    let quiet = before.cpu_ms.max(after.cpu_ms);
    let mut faults = Vec::new();
    let dropped = target.honest_dropped() - dropped;
    if dropped > 0 {
        faults.push(format!("{dropped} honest workers dropped"));
    }
    if during.cpu_ms.is_nan() || during.cpu_ms > MAX_CPU_RATIO * quiet {
        faults.push("CPU".to_string());
    }
    if during.longest > MAX_STEP_SECONDS {
        faults.push("gap".to_string());
    }
    if after.peak_mib > before.peak_mib + MAX_GROWTH_MIB {
        faults.push("memory".to_string());
    }
    println!(
        "{name} | {:.0}, {:.0}, {:.0} | {quiet:.2}, {:.2} | {:.2} | {:.0}, {:.0} | {}",
        before.rate,
        during.rate,
        after.rate,
        during.cpu_ms,
        during.longest,
        before.peak_mib,
        after.peak_mib,
        if faults.is_empty() { "ok".to_string() } else { format!("BROKEN: {}", faults.join(", ")) }
    );
    Ok(faults.is_empty())
}
