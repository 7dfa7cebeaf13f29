//! What a session and the computing threads share about the assignment that is being computed: whether anybody still
//! wants it, and how much of it is done.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The assignment that was handed out last. Its values guard no other memory, so any order will do.
#[derive(Debug, Default)]
pub(crate) struct Current {
    stop: AtomicBool,
    examples_done: AtomicU32,
}

impl Current {
    /// Another assignment begins.
    pub(crate) fn begin(&self) {
        self.stop.store(false, Ordering::Relaxed);
        self.examples_done.store(0, Ordering::Relaxed);
    }

    /// Nobody wants it any more.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether somebody wants it still: asked before every leaf and after every group of examples.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// So many examples more are done, by whatever thread.
    pub(crate) fn add_done(&self, examples: u32) {
        self.examples_done.fetch_add(examples, Ordering::Relaxed);
    }

    pub(crate) fn examples_done(&self) -> u32 {
        self.examples_done.load(Ordering::Relaxed)
    }
}
