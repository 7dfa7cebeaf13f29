//! The operator's signals (SIGINT, SIGTERM, SIGHUP), as a stream that the loop waits for.

use lockstep_control::Signal;
use std::future::poll_fn;
use std::task::Poll;

use crate::signals;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::exit::{EXIT_HUNG_UP, EXIT_INTERRUPTED, EXIT_TERMINATED};

/// The operator's signals, or nothing where none can come.
pub struct Signals(Vec<(Signal, SignalStream)>);

impl Signals {
    /// Takes over the signals that end a run; without this they end the process at once. One that this process is to
    /// ignore stays ignored.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new() -> std::io::Result<Self> {
        let mut streams = Vec::new();
        for (which, kind) in [
            (Signal::Interrupt, SignalKind::interrupt()),
            (Signal::Terminate, SignalKind::terminate()),
            (Signal::Hangup, SignalKind::hangup()),
        ] {
            if !signals::is_ignored(kind.as_raw_value()) {
                streams.push((which, signal(kind)?));
            }
        }
        signals::await_signals();
        Ok(Self(streams))
    }

    /// Signals that never come: the process' own stay as they are.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        let next = poll_fn(|context| {
            let mut streams = self.0.iter_mut();
            let come =
                streams.find_map(|(which, stream)| stream.poll_recv(context).is_ready().then_some(*which));
            come.map_or(Poll::Pending, Poll::Ready)
        });
        next.await
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Nobody waits any longer.
        if !self.0.is_empty() {
            signals::end_at_once();
        }
    }
}

/// The exit code of a process that ended in order after a signal.
pub fn exit_code(signal: Signal) -> u8 {
    match signal {
        Signal::Interrupt => EXIT_INTERRUPTED,
        Signal::Terminate => EXIT_TERMINATED,
        Signal::Hangup => EXIT_HUNG_UP,
    }
}
