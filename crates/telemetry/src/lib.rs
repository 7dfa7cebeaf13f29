//! The per-batch and per-epoch records and the sinks that consume them.
