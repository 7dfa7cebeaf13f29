//! Files that a user names for a result: whole or not at all, and never in the place of something that a run needs.
//!
//! A result may also go to standard output, under its name or as `-`: then nothing else goes there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lockstep_checkpoint::write_atomically;
use lockstep_command_line::output::{self, print, print_aside};

use crate::RunDirectory;

/// What stands for standard output in the place of a file.
const STANDARD_OUTPUT: &str = "-";

/// Two results are to go to standard output.
#[derive(Debug, thiserror::Error)]
#[error("--json and {flag} both write to standard output; name a file with {flag}, or leave --json out")]
pub struct TwoResults {
    /// The flag that names the other one's place.
    flag: &'static str,
}

/// How a command says what it has to say besides its result, which goes to `result` if that is named: on standard output,
/// unless the result goes there.
pub fn voice(result: Option<&Path>) -> fn(&str) -> Result<()> {
    if result.is_some_and(is_standard_output) { print_aside } else { print }
}

/// Refuses a result that `flag` sends to standard output where `json` does so with another one.
///
/// # Errors
///
/// [`TwoResults`].
pub fn refuse_two(result: Option<&Path>, flag: &'static str, json: bool) -> Result<(), TwoResults> {
    match result {
        Some(path) if json && is_standard_output(path) => Err(TwoResults { flag }),
        _ => Ok(()),
    }
}

/// Whether what is written to `path` comes out where this process' standard output does.
pub fn is_standard_output(path: &Path) -> bool {
    path == Path::new(STANDARD_OUTPUT) || is_stream(path, io::stdout())
}

/// The same for standard error.
pub fn is_standard_error(path: &Path) -> bool {
    is_stream(path, io::stderr())
}

fn is_stream(path: &Path, stream: impl AsFd) -> bool {
    let Ok(stream) = stream.as_fd().try_clone_to_owned().map(File::from).and_then(|file| file.metadata())
    else {
        return false;
    };
    fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (stream.dev(), stream.ino()))
}

/// Writes `bytes` to the file `path`, which the flag `flag` names; `-` is standard output. A link is followed, and what
/// is there and is no file, a pipe or a device, is written to and not replaced.
///
/// # Errors
///
/// If it is a folder, or one of a run's own files, or cannot be written.
pub fn write(path: &Path, bytes: &[u8], flag: &str) -> Result<()> {
    let refused =
        || format!("cannot write {}; name a place that you may write to with {flag}", path.display());
    if is_standard_output(path) {
        // Through the stream, not through its name: what stands in a file already stays there.
        return output::write(bytes).context("cannot write to standard output");
    }
    // A link to nothing, or nothing: it is made.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    match fs::metadata(&real) {
        Ok(found) if found.is_dir() => bail!("{} is a folder; name a file with {flag}", path.display()),
        Ok(found) if !found.is_file() => {
            let written = File::options().write(true).open(&real).and_then(|mut file| file.write_all(bytes));
            return written.with_context(refused);
        }
        _ => {}
    }
    if let Some(run) = owner(&real) {
        bail!(
            "{} belongs to the run in {} and is not overwritten; name another file with {flag}",
            path.display(),
            run.display()
        );
    }
    write_atomically(&real, bytes).with_context(refused)
}

/// The run directory that has the file as one of its own.
fn owner(path: &Path) -> Option<PathBuf> {
    // A bare name lies here.
    let folder = fs::canonicalize(Path::new(".").join(path.parent()?)).ok()?;
    let path = folder.join(path.file_name()?);
    folder.ancestors().take(RunDirectory::DEPTH).find_map(|folder| {
        let run = RunDirectory::open(folder).ok()?;
        run.owns(&path).then(|| folder.to_path_buf())
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn refusal(path: &Path) -> String {
        format!("{:#}", write(path, b"new", "--out").unwrap_err())
    }

    #[test]
    fn a_file_is_made_or_replaced_and_a_link_leads_to_it() {
        let scratch = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| scratch.path().join(name));
        write(&file, b"old", "--out").unwrap();
        symlink(&file, &link).unwrap();
        write(&link, b"new", "--out").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let path = scratch.path().display();
        assert_eq!(refusal(scratch.path()), format!("{path} is a folder; name a file with --out"));
        let absent = refusal(&scratch.path().join("absent/file"));
        let expected =
            format!("cannot write {path}/absent/file; name a place that you may write to with --out: ");
        assert!(absent.starts_with(&expected), "{absent}");
    }

    #[test]
    fn a_pipe_stays_a_pipe() {
        let scratch = tempfile::tempdir().unwrap();
        let pipe = scratch.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || {
                let mut text = String::new();
                File::open(pipe).unwrap().read_to_string(&mut text).unwrap();
                text
            })
        };
        write(&pipe, b"new", "--out").unwrap();
        assert_eq!(reader.join().unwrap(), "new");
        assert!(!fs::metadata(&pipe).unwrap().is_file());
    }

    #[test]
    fn what_a_run_needs_is_not_overwritten() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(&scratch.path().join("run")).unwrap();
        fs::write(run.config(), "").unwrap();
        fs::create_dir(run.checkpoints()).unwrap();
        let mut own = vec![
            run.config(),
            run.model(),
            run.steps_log(),
            run.checkpoints().join("step-1.json"),
            run.lock(),
        ];
        own.extend(["steps.log.2", "term-3"].map(|name| run.path().join(name)));
        for path in own {
            let expected = format!("{} belongs to the run in ", path.display());
            assert!(refusal(&path).starts_with(&expected), "{}", refusal(&path));
        }
        assert_eq!(fs::read(run.config()).unwrap(), b"");
        write(&run.path().join("model.onnx"), b"new", "--out").unwrap();
        write(&run.report(), b"new", "--out").unwrap();
        write(&scratch.path().join("config.toml"), b"new", "--out").unwrap();
    }
}
