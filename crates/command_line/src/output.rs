//! Standard output: the one place that prints results.
//!
//! A pipe that its reader has closed is no failure: whoever closed it wants no more.

use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};

/// Writes a result to standard output.
///
/// # Errors
///
/// If the stream refuses it, unless its reader has closed it.
pub fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stream = io::stdout();
    accept_closed(stream.write_all(bytes).and_then(|()| stream.flush()))
}

/// Prints a result on standard output.
///
/// # Errors
///
/// As [`write()`].
pub fn print(text: &str) -> Result<()> {
    write(text.as_bytes()).context("cannot write to standard output")
}

/// Prints on standard error what would be beside a result on standard output.
///
/// # Errors
///
/// None: a stream that is gone leaves nowhere to report it.
pub fn print_aside(text: &str) -> Result<()> {
    let _ = io::stderr().write_all(text.as_bytes());
    Ok(())
}

fn accept_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
        assert!(accept_closed(Err(ErrorKind::BrokenPipe.into())).is_ok());
        assert!(accept_closed(Err(ErrorKind::StorageFull.into())).is_err());
    }
}
