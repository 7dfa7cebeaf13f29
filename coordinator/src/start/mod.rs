//! What a run needs before its loop begins.

pub mod initial_weights;
pub mod open_run;
