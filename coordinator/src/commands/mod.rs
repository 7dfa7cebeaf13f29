//! What the program can be asked to do, a file each.

pub mod compare;
pub mod data;
pub mod evaluate;
pub mod export;
mod model_source;
pub mod predict;
pub mod report;
pub mod show;
pub mod train;
pub mod verify;
