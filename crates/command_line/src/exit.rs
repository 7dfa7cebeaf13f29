//! How the program ends: its exit codes, and an error as the one line that is printed.

/// The run is done.
pub const EXIT_DONE: u8 = 0;
/// Data, input, output or divergence.
pub const EXIT_FAILED: u8 = 1;
/// Usage, flags or configuration.
pub const EXIT_USAGE: u8 = 2;
/// All workers are lost; another attempt may succeed (`EX_TEMPFAIL`).
pub const EXIT_WORKERS_LOST: u8 = 75;
/// After SIGHUP.
pub const EXIT_HUNG_UP: u8 = 129;
/// After SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;
/// After SIGTERM.
pub const EXIT_TERMINATED: u8 = 143;

/// A signal came, and a training was ended for it; not an error, but the way out of everything.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted {
    /// The exit code that follows.
    pub exit_code: u8,
}

/// An error and its causes in one line; some errors have named their cause already.
pub fn sentence(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |sentence, cause| {
        if sentence.contains(&cause) { sentence } else { format!("{sentence}: {cause}") }
    })
}
