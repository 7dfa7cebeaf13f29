//! A member as the control plane sees it: when it was heard, how fast it is, whether it is trusted with work.

use std::time::Duration;

use crate::deadlines::Distrust;
use crate::leaf_time::LeafTime;
use crate::shares::Candidate;
use crate::{TaskKind, Time};

/// Tasks in a row without a leaf after which a slow member gets one, to be measured again.
const PROBE_AFTER: u32 = 64;

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) threads: u32,
    pub(crate) joined: Time,
    /// When anything came from it last.
    pub(crate) heard: Time,
    /// Of training and of evaluation leaves.
    leaf_times: [Option<LeafTime>; 2],
    distrust: Distrust,
    /// Steps in a row in which it was too slow for a leaf.
    unused: u32,
    /// It was given one to be measured again.
    probed: bool,
    /// The longest time between two signs that it gets on with its work.
    longest_pause: Duration,
}

impl Member {
    pub(crate) fn new(now: Time, threads: u32, deadline: Duration) -> Self {
        Self {
            threads,
            joined: now,
            heard: now,
            leaf_times: [None; 2],
            distrust: Distrust::none(deadline),
            unused: 0,
            probed: false,
            longest_pause: Duration::ZERO,
        }
    }

    pub(crate) fn longest_pause(&self) -> Duration {
        self.longest_pause
    }

    /// It got on with its work, after a pause longer than any before.
    pub(crate) fn note_pause(&mut self, pause: Duration) {
        self.longest_pause = pause;
    }

    pub(crate) fn leaf_time(&self, kind: TaskKind) -> Option<LeafTime> {
        self.leaf_times[slot(kind)]
    }

    pub(crate) fn candidate(&self, kind: TaskKind) -> Candidate {
        // Portions of an evaluation go to any idle member, so speed needs no measuring.
        let leaf_time = if kind == TaskKind::Train { self.leaf_time(kind) } else { None };
        Candidate { threads: self.threads, leaf_time }
    }

    /// Takes in how long `leaves` leaves took.
    pub(crate) fn measured(&mut self, kind: TaskKind, took: Duration, leaves: u32) {
        let sample = nanoseconds(took) / u64::from(leaves);
        match &mut self.leaf_times[slot(kind)] {
            // After a while without work what was known of it is old.
            Some(leaf_time) if !self.probed || sample > leaf_time.mean() / 2 => leaf_time.add(sample),
            leaf_time => *leaf_time = Some(LeafTime::first(sample)),
        }
        (self.unused, self.probed) = (0, false);
    }

    /// Notes that a step went by in which it was too slow for a leaf; says whether it is to be tried again.
    pub(crate) fn passed_over(&mut self) -> bool {
        self.unused += 1;
        self.probed = self.unused == PROBE_AFTER;
        self.unused %= PROBE_AFTER;
        self.probed
    }

    /// It is late with `leaves` leaves, and has them for `waited`: at least so slow is it.
    pub(crate) fn was_late(
        &mut self,
        now: Time,
        kind: TaskKind,
        waited: Duration,
        leaves: u32,
        deadline: Duration,
    ) {
        let sample = nanoseconds(waited) / u64::from(leaves);
        match &mut self.leaf_times[slot(kind)] {
            Some(leaf_time) => leaf_time.add(sample.max(leaf_time.mean().saturating_mul(2))),
            leaf_time => *leaf_time = Some(LeafTime::first(sample)),
        }
        self.distrust.begin(now, deadline);
    }

    /// It got on with its work.
    pub(crate) fn end_distrust(&mut self, deadline: Duration) {
        self.distrust = Distrust::none(deadline);
    }

    /// Whether it was distrusted and may be given work again, now that it was heard.
    pub(crate) fn regains_trust(&self, now: Time) -> bool {
        self.distrust.is_some() && self.is_trusted(now)
    }

    /// Whether it may be given work.
    pub(crate) fn is_trusted(&self, now: Time) -> bool {
        self.distrust.is_over(now, self.heard)
    }
}

fn slot(kind: TaskKind) -> usize {
    usize::from(kind != TaskKind::Train)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
