//! The time that a leaf takes a member, estimated from what was measured. Integers only.

/// Nanoseconds that one leaf takes a member: mean and mean deviation, smoothed as TCP smooths its round trips
/// (V. Jacobson, "Congestion avoidance and control", 1988): a single outlier raises the deviation more than the mean,
/// so it is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeafTime {
    mean: u64,
    deviation: u64,
}

impl LeafTime {
    #[cfg(test)]
    pub(crate) fn exact(mean: u64, deviation: u64) -> Self {
        Self { mean, deviation }
    }

    pub(crate) fn first(sample: u64) -> Self {
        Self { mean: sample, deviation: sample / 2 }
    }

    pub(crate) fn add(&mut self, sample: u64) {
        let error = sample.abs_diff(self.mean);
        self.deviation = self.deviation - self.deviation / 4 + error / 4;
        self.mean = if sample > self.mean { self.mean + error / 8 } else { self.mean - error / 8 };
    }

    pub(crate) fn mean(self) -> u64 {
        self.mean
    }

    /// What `leaves` leaves hardly ever exceed, in nanoseconds.
    pub(crate) fn bound(self, leaves: u32) -> u64 {
        self.mean.saturating_add(self.deviation.saturating_mul(4)).saturating_mul(leaves.into())
    }

    /// Nanoseconds of a leaf for one thread, and what they vary by.
    pub(crate) fn per_thread(self, threads: u32) -> (u64, u64) {
        (self.mean.saturating_mul(threads.into()), self.deviation.saturating_mul(threads.into()))
    }
}
