//! Why a worker ends before its run does, and the exit code that says so.

use lockstep_command_line::Period;
use lockstep_proto::{MalformedMessage, TokenError};

use crate::instruction_set::ForcedCpuError;

/// Why a worker ended before its run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The URL is none.
    #[error("--coordinator {url} is no address: {cause}; write it as HOST:PORT")]
    Address {
        /// As given.
        url: String,
        /// What is wrong.
        cause: String,
    },
    /// An instruction set that this machine does not have.
    #[error(transparent)]
    Cpu(#[from] ForcedCpuError),
    /// No token.
    #[error("no join token: give --token or LOCKSTEP_TOKEN, as the coordinator prints it at its start")]
    NoToken,
    /// A token that cannot be one.
    #[error("--token: {0}")]
    Token(TokenError),
    /// The coordinator that spawned this worker is gone, or its pipe.
    #[error("cannot follow the coordinator's process: {0}")]
    Parent(std::io::Error),
    /// Nobody answers.
    #[error(
        "no coordinator answers at {url} within {patience} ({cause}); is it running with --external, and is the port right?"
    )]
    Unreachable {
        /// As given.
        url: String,
        /// How long it was tried.
        patience: Period,
        /// The last failure.
        cause: String,
    },
    /// The coordinator does not want this worker.
    #[error("the coordinator at {url} refuses this worker: {reason}")]
    Refused {
        /// As given.
        url: String,
        /// The coordinator's words.
        reason: String,
    },
    /// The coordinator was there, and did not come back.
    #[error("the coordinator at {url} is gone: {cause}; tried for {patience}")]
    Lost {
        /// As given.
        url: String,
        /// How long it was tried.
        patience: Period,
        /// The last failure.
        cause: String,
    },
    /// The coordinator broke the protocol.
    #[error("the coordinator at {url} sent {cause}")]
    Malformed {
        /// As given.
        url: String,
        /// What it sent.
        cause: MalformedMessage,
    },
    /// The coordinator broke the order of messages.
    #[error("the coordinator at {url} sent {cause}")]
    Protocol {
        /// As given.
        url: String,
        /// What it sent.
        cause: String,
    },
    /// Computing failed.
    #[error("{0}")]
    Compute(String),
    /// No runtime or thread.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
}

impl WorkerError {
    /// The exit code of the process: 1 refused, 2 usage, 75 try again.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Address { .. } | Self::Cpu(_) | Self::NoToken | Self::Token(_) => 2,
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Parent(_) => 75,
            Self::Refused { .. } | Self::Malformed { .. } | Self::Protocol { .. } => 1,
            Self::Compute(_) | Self::Start(_) => 1,
        }
    }
}
