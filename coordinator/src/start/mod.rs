//! The start of a run, up to the moment when its loop begins: checks, directory, data, sinks, page, service, workers.

mod assemble;
pub(crate) mod dataset;
mod download_display;
pub(crate) mod initial_weights;
mod inputs;
pub mod open_run;
mod page;
mod sinks;
mod workers;

pub(crate) use assemble::ReadyRun;
pub(crate) use download_display::DownloadDisplay;
pub(crate) use inputs::Inputs;
