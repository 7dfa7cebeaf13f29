//! Where a setting came from: a flag, a variable of the environment, or a file.
//!
//! Owns the order in which they beat each other. Knows no setting by name.

use std::{fmt, path::PathBuf};

use clap::{ArgMatches, parser::ValueSource};

/// Where a value came from, as one says it to whoever gave it.
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

/// What flags and environment gave, by the id of each argument.
pub(super) struct Given<'a>(pub &'a ArgMatches);

impl Given<'_> {
    /// The argument if a flag or the environment gave it, else the file's value, else the argument's default.
    pub fn first<T>(&self, id: &str, argument: T, file: Option<T>) -> T {
        match self.0.value_source(id) {
            Some(ValueSource::CommandLine | ValueSource::EnvVariable) => argument,
            _ => file.unwrap_or(argument),
        }
    }

    /// The same for what has no default.
    pub fn first_some<T>(&self, id: &str, argument: Option<T>, file: Option<T>) -> Option<T> {
        self.first(id, argument, file.map(Some))
    }

    /// Whether `flag` was given as such or by the environment; absent if it was not.
    pub fn origin(&self, flag: &'static str) -> Option<Origin> {
        match self.0.value_source(&flag.replace('-', "_")) {
            Some(ValueSource::CommandLine) => Some(Origin::Flag(flag)),
            Some(ValueSource::EnvVariable) => Some(Origin::Variable(flag)),
            _ => None,
        }
    }
}
