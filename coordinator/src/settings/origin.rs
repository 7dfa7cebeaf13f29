//! Where a setting came from: a flag, a variable of the environment, or a file.

use std::collections::BTreeMap;
use std::{fmt, path::PathBuf};

/// Where a value came from, in the words of messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// A flag, without its dashes.
    Flag(&'static str),
    /// The environment variable of that flag.
    Variable(&'static str),
    /// The key of that name in a configuration file.
    Key(&'static str, PathBuf),
}

impl Origin {
    /// How to do without the value.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Flag(_) => format!("leave {self} out"),
            Self::Variable(_) => format!("unset {self}"),
            Self::Key(..) => format!("set {self} back"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(formatter, "--{flag}"),
            Self::Variable(flag) => {
                write!(formatter, "LOCKSTEP_{}", flag.to_uppercase().replace('-', "_"))
            }
            Self::Key(key, path) => write!(formatter, "the key {key} of {}", path.display()),
        }
    }
}

/// How a flag was given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// On the command line.
    CommandLine,
    /// By its variable of the environment.
    Environment,
}

/// The flags that were given, without their dashes, and how.
#[derive(Debug, Default)]
pub(crate) struct Sources(pub BTreeMap<String, Source>);

impl Sources {
    /// Where `flag` came from; absent if it was not given.
    pub fn origin(&self, flag: &'static str) -> Option<Origin> {
        self.0.get(flag).map(|source| match source {
            Source::CommandLine => Origin::Flag(flag),
            Source::Environment => Origin::Variable(flag),
        })
    }
}
