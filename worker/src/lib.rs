//! The worker: joins a coordinator and computes shard gradients.
