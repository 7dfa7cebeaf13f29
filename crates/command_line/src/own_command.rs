//! This very program as the command of a child process: of local workers, and of whole trainings for `chaos` and `bench`.
//!
//! Starts nothing itself, and gives no arguments.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::{env, io};

use crate::variables::PREFIX;
use tokio::process::Command;

/// This program, even if a build has replaced its file since: all processes are of one build. Of the environment
/// variables of this program it inherits those `inherited` only. Ctrl-C at the terminal does not reach it, and it is
/// killed when its `Child` is dropped.
///
/// # Errors
///
/// If the system does not say which program this is.
pub fn own_command(inherited: &[&str]) -> io::Result<Command> {
    let path = env::current_exe()?;
    let program = if path.exists() { path } else { PathBuf::from("/proc/self/exe") };
    let mut command = std::process::Command::new(program);
    command.arg0("coordinator");
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with(PREFIX) && !inherited.contains(&text.as_ref()) {
            command.env_remove(name);
        }
    }
    let mut command = Command::from(command);
    command.process_group(0).kill_on_drop(true);
    Ok(command)
}
