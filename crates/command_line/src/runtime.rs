//! The runtime of every command that waits for sockets, processes or signals.

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

/// A runtime on the thread that asks for it: all it does is wait and hand on.
///
/// # Errors
///
/// If the system refuses, as it does without descriptors.
pub fn on_this_thread() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}
