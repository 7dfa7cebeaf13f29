//! Points at which tests let a process of the system die or its disk fail, in the very binaries that users run.

pub mod crash;
