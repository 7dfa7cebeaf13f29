//! The signals that end a process by default, and what each of them does to ours. `main` takes them over first of all:
//! the first process of a container has no default action, so that a signal without a handler is lost there.
//!
//! | signal | here |
//! |---|---|
//! | SIGHUP (a terminal or session that closed), SIGINT (Ctrl-C), SIGTERM (a scheduler, a container) | the end, with exit code 129, 130 or 143: at once, or in order where something waits for them |
//! | SIGXFSZ (a file grew beyond `ulimit -f`) | nothing: the write fails, and is reported like a full disk |
//! | SIGPIPE (nobody reads any longer) | nothing, by Rust's own start: the write fails |
//! | SIGQUIT (Ctrl-\\) | stays: the way to a core dump |
//! | SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGUSR1, SIGUSR2, SIGPWR, SIGSTKFLT, real-time signals | stay: nothing here asks for them, and a scheduler that sends one can be told to send SIGTERM |
//! | SIGXCPU (`ulimit -t`) | stays: a run that is killed can be resumed |
//! | SIGILL, SIGBUS, SIGFPE, SIGSEGV, SIGSYS, SIGTRAP, SIGABRT | stay: the program is at fault, and a core dump tells where |
//!
//! A signal that this process inherited as ignored (`nohup`, `trap '' INT`, a background job of a script) stays ignored.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use rustix::process::Signal;

/// What a user, a terminal or a scheduler ends a process with.
const ENDING: [Signal; 3] = [Signal::HUP, Signal::INT, Signal::TERM];

/// Whether one of them ends this process at once.
static AT_ONCE: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// Has `ENDING` signals end this process at once, whatever its threads are doing, while nobody waits for them.
///
/// # Errors
///
/// If the system refuses.
pub fn take_over() -> io::Result<()> {
    let ignored = ignored();
    for signal in ENDING.map(Signal::as_raw).into_iter().filter(|signal| !has(ignored, *signal)) {
        signal_hook::flag::register_conditional_shutdown(signal, exit_code(signal), Arc::clone(&AT_ONCE))?;
    }
    // Any handler will do, and a child does not inherit it, as it would inherit that the signal is ignored.
    signal_hook::flag::register(Signal::XFSZ.as_raw(), Arc::default())?;
    Ok(())
}

/// From now on somebody waits for the signals, and ends the process in order.
pub fn await_signals() {
    AT_ONCE.store(false, Ordering::SeqCst);
}

/// Nobody waits for them any longer, and they end the process at once again.
pub fn end_at_once() {
    AT_ONCE.store(true, Ordering::SeqCst);
}

/// Whether this process inherited `signal` as one to be ignored.
pub fn is_ignored(signal: i32) -> bool {
    has(ignored(), signal)
}

/// The exit code after a signal, as shells have it.
pub fn exit_code(signal: i32) -> i32 {
    128 + signal
}

/// The set of signals that are ignored; none where the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

/// Signals are counted from 1.
fn has(set: u64, signal: i32) -> bool {
    set >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_known() {
        // Rust's start ignores this one.
        assert!(is_ignored(Signal::PIPE.as_raw()));
        assert!(!is_ignored(Signal::SEGV.as_raw()));
    }
}
