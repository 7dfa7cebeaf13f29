//! The operator's signals.

use std::future::pending;

use lockstep_control::Signal;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::cli::{EXIT_INTERRUPTED, EXIT_TERMINATED};

/// The operator's signals, or nothing where none can come.
pub struct Signals(Option<SignalStreams>);

struct SignalStreams {
    interrupt: SignalStream,
    terminate: SignalStream,
}

impl Signals {
    /// Takes the signals over from the system's default, which is to die.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new() -> std::io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self(Some(SignalStreams { interrupt, terminate })))
    }

    /// Signals that never come: the process' own stay as they are.
    pub fn none() -> Self {
        Self(None)
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        let Some(SignalStreams { interrupt, terminate }) = &mut self.0 else { return pending().await };
        tokio::select! {
            Some(()) = interrupt.recv() => Signal::Interrupt,
            Some(()) = terminate.recv() => Signal::Terminate,
            else => pending().await,
        }
    }
}

/// The exit code of who ended in order after a signal.
pub fn exit_code(signal: Signal) -> u8 {
    match signal {
        Signal::Interrupt => EXIT_INTERRUPTED,
        Signal::Terminate => EXIT_TERMINATED,
    }
}
