//! What watches a run while it trains: times, workers, weights. A run computes the same without any of it.

pub mod step_times;
pub mod timeline;
pub mod weight_norms;
pub mod worker_stats;
