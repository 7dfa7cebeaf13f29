//! What a member may send: results of the leaves that it was given, spans that were asked for, and heartbeats in their
//! time. More than that breaks the protocol, so that a member cannot keep the loop busy with what nobody wants.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::budget::Budget;

/// Heartbeats come this many times more often than asked for before they are too many.
const HEARTBEAT_TOLERANCE: u32 = 10;

/// Heartbeats that may come at once, after a pause of the network.
const HEARTBEATS_AT_ONCE: u32 = 100;

/// Of one member; the loop adds, the task that reads from the member takes.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    nodes: AtomicU64,
    spans: AtomicU64,
}

impl Allowance {
    /// For an assignment of `leaves` leaves: a node each at most, and with `traced` spans.
    pub fn assigned(&self, leaves: u32, traced: bool) {
        self.nodes.fetch_add(leaves.into(), Ordering::Relaxed);
        self.spans.fetch_add(traced.into(), Ordering::Relaxed);
    }

    /// Takes a node; `false` if there is none left to take.
    pub fn take_node(&self) -> bool {
        take(&self.nodes)
    }

    /// Takes a message of spans; `false` if there is none left to take.
    pub fn take_spans(&self) -> bool {
        take(&self.spans)
    }
}

fn take(count: &AtomicU64) -> bool {
    // One task takes, so what it has seen stays there.
    let any = count.load(Ordering::Relaxed) > 0;
    if any {
        count.fetch_sub(1, Ordering::Relaxed);
    }
    any
}

/// What heartbeats a member may send that was asked for one in each `period`.
pub(crate) fn heartbeats(period: Duration, now: Instant) -> Budget {
    Budget::new(HEARTBEATS_AT_ONCE, period / HEARTBEAT_TOLERANCE, now)
}
