//! The variables of the environment that are flags: whom they are for, when they are set, and how a message names them.
//!
//! A variable is for the command whose flag it is and for no other. An empty one is not set, as `${X:-}` of a compose file
//! makes it. Whatever is wrong with its value is said of the variable, not of a flag that nobody gave. Knows no flag by name.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{Resettable, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, value_parser};

/// What their names begin with.
pub const PREFIX: &str = "LOCKSTEP_";

/// The variables that gave a flag its value.
#[derive(Clone, Debug, Default)]
pub struct Variables(Vec<Given>);

#[derive(Clone, Debug)]
struct Given {
    /// With its dashes; none of an argument without a name.
    flag: Option<String>,
    variable: String,
    /// What it says, where that is a path: a message may have it and no flag.
    path: Option<String>,
}

/// Has `command` understand `arguments` (the program's name first) and the variables that are for the command they name.
///
/// # Errors
///
/// What is wrong with the arguments or a variable, which is named.
pub fn parse(command: Command, arguments: &[OsString]) -> Result<(ArgMatches, Variables), clap::Error> {
    let command = for_named_command(command, arguments.get(1..).unwrap_or_default());
    let matches = command.clone().try_get_matches_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error,
        _ => blame(&command, arguments, error),
    })?;
    let variables = Variables::of(&command, &matches);
    Ok((matches, variables))
}

/// The same command without the variables that `keep` says no to, in its subcommands as well.
pub fn without(command: Command, keep: &dyn Fn(&OsStr) -> bool) -> Command {
    own_without(command, keep).mut_subcommands(|command| without(command, keep))
}

fn own_without(command: Command, keep: &dyn Fn(&OsStr) -> bool) -> Command {
    command.mut_args(|argument| match argument.get_env() {
        Some(name) if !keep(name) => argument.env(Resettable::Reset),
        _ => argument,
    })
}

/// The command without the variables of those above the one that `arguments` name, and without empty ones.
fn for_named_command(command: Command, arguments: &[OsString]) -> Command {
    let named = arguments.first().filter(|name| command.find_subcommand(name).is_some());
    match named.and_then(|name| name.to_str()) {
        Some(name) => own_without(command, &|_| false)
            .mut_subcommand(name, |command| for_named_command(command, &arguments[1..])),
        None => own_without(command, &|name| env::var_os(name).is_none_or(|value| !value.is_empty())),
    }
}

/// The error, said of the variable that is at fault, if one is: the one without which it is another.
fn blame(command: &Command, arguments: &[OsString], error: clap::Error) -> clap::Error {
    let known = fingerprint(&error);
    for name in set_variables(command) {
        let rest = without(command.clone(), &|other| other != name);
        let same = rest.try_get_matches_from(arguments).is_err_and(|error| fingerprint(&error) == known);
        if same {
            continue;
        }
        let variable = name.to_string_lossy().into_owned();
        let mut error = error;
        if error.insert(ContextKind::InvalidArg, ContextValue::String(variable.clone())).is_none() {
            return clap::Error::raw(
                error.kind(),
                format!("the environment variable {variable} is no UTF-8\n"),
            );
        }
        return error;
    }
    error
}

fn fingerprint(error: &clap::Error) -> (ErrorKind, Option<String>, Option<String>) {
    let context = |kind| error.get(kind).map(ToString::to_string);
    (error.kind(), context(ContextKind::InvalidArg), context(ContextKind::InvalidValue))
}

/// Those that `command` or one below it listens to.
fn set_variables(command: &Command) -> Vec<OsString> {
    let own = command.get_arguments().filter_map(Arg::get_env).filter(|name| env::var_os(name).is_some());
    own.map(OsStr::to_os_string).chain(command.get_subcommands().flat_map(set_variables)).collect()
}

impl Variables {
    fn of(command: &Command, matches: &ArgMatches) -> Self {
        if let Some((name, matches)) = matches.subcommand()
            && let Some(command) = command.find_subcommand(name)
        {
            return Self::of(command, matches);
        }
        let source = |argument: &&Arg| matches.value_source(argument.get_id().as_str());
        let given =
            command.get_arguments().filter(|argument| source(argument) == Some(ValueSource::EnvVariable));
        Self(given.filter_map(Given::by).collect())
    }

    /// Whether no flag has its value from a variable.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `text` with the variables in the place of the flags that they gave. Code between backticks, which somebody may
    /// type, stays as it is; of a path that is told without a flag it is said where it came from.
    pub fn name_in(&self, text: &str) -> String {
        let mut text = text.to_string();
        for Given { flag, variable, path } in &self.0 {
            if let Some(flag) = flag {
                text = replace_outside_code(&text, flag, variable);
            }
            if let Some(path) = path.as_ref().filter(|path| text.contains(*path))
                && !text.contains(variable)
            {
                text = format!("{text} ({path} is {variable})");
            }
        }
        text
    }
}

impl Given {
    fn by(argument: &Arg) -> Option<Self> {
        let variable = argument.get_env()?;
        let is_path = |parser: &ValueParser| parser.type_id() == value_parser!(PathBuf).type_id();
        let path = is_path(argument.get_value_parser()).then(|| env::var_os(variable)).flatten();
        Some(Self {
            flag: argument.get_long().map(|flag| format!("--{flag}")),
            variable: variable.to_string_lossy().into_owned(),
            path: path.map(|path| path.to_string_lossy().into_owned()),
        })
    }
}

/// `--epochs` in place of the whole word only: `--resume-or-start` is not `--resume`.
fn replace_outside_code(text: &str, flag: &str, variable: &str) -> String {
    let replace = |prose: &str| {
        let mut pieces = prose.split(flag);
        let mut replaced = pieces.next().unwrap_or_default().to_string();
        for piece in pieces {
            let goes_on = piece.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-');
            replaced.push_str(if goes_on { flag } else { variable });
            replaced.push_str(piece);
        }
        replaced
    };
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| if index % 2 == 0 { replace(part) } else { part.to_string() });
    parts.collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_variable_that_gave_the_flag() {
        let given = |flag: &str, variable: &str, path: Option<&str>| Given {
            flag: Some(flag.to_string()),
            variable: variable.to_string(),
            path: path.map(str::to_string),
        };
        let variables = Variables(vec![
            given("--resume", "L_RESUME", Some("/r")),
            given("--data-dir", "L_DATA", Some("/d")),
        ]);
        for (text, expected) in [
            ("--resume is 1; see --resume-or-start", "L_RESUME is 1; see --resume-or-start"),
            ("take another (--resume), or `x --resume`", "take another (L_RESUME), or `x --resume`"),
            ("/d is no folder", "/d is no folder (/d is L_DATA)"),
            ("L_DATA is /d, no folder", "L_DATA is /d, no folder"),
            ("--seed is 1", "--seed is 1"),
        ] {
            assert_eq!(variables.name_in(text), expected);
        }
    }
}
