//! What a run needs before its loop begins.

pub(crate) mod dataset;
mod download_display;
pub mod initial_weights;
pub mod open_run;

pub(crate) use download_display::DownloadDisplay;
