//! What the commands of both programs share: variables and durations, signals, printing, exit codes, child processes.

pub mod background;
pub mod exit;
pub mod log_tail;
mod nearest;
pub mod output;
pub mod own_command;
mod period;
pub mod runtime;
pub mod signals;
mod stop_signals;
pub mod variables;

pub use nearest::nearest;
pub use period::{Period, PeriodError};
pub use stop_signals::{Signals, exit_code};
