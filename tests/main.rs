//! The promises of the README, tested with real processes over real gRPC: one module per promise, one binary.

#![allow(clippy::unwrap_used, reason = "a test's helpers panic and print like the test")]

mod bad_input;
mod bench_step;
mod browser;
mod compare;
mod compatibility;
mod crash_sweep;
mod dashboard;
mod digits;
mod disks;
mod documents;
mod environment;
mod event_files;
mod external;
mod failed_starts;
mod harness;
mod html_report;
mod instruction_sets;
mod metrics;
mod models;
mod moved_runs;
mod oracle;
mod past_runs;
mod prometheus;
mod resume;
mod same_bits;
mod scaling;
mod shutdown;
mod signals;
mod streams;
mod tensorboard;
mod threads;
mod timeline;
mod verify;
mod worker_death;
