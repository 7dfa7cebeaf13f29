//! The files of the run, read-only: those that are known by name, and nothing else of the disk.
//!
//! What a request names is compared with the list and never joined to a path.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path as Requested, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use lockstep_run_directory::RunDirectory;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::site::Site;

/// What is read of a file at once.
const CHUNK_BYTES: usize = 64 << 10;

/// More local workers than a machine has processors for.
const MAX_LOGS: usize = 1024;

/// The report has its style and pictures within, and can do nothing: not run, not ask for anything, not act for this
/// server's page.
const REPORT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; sandbox";

/// The files of a run that anybody who sees the page may have. The join token is not among them.
pub struct RunFiles(Vec<(String, PathBuf)>);

impl RunFiles {
    /// The files that a run in `directory` has or will have, with the logs of `workers` local workers.
    pub fn of(directory: &RunDirectory, workers: u32) -> Self {
        let logs = (1..=workers).map(|number| directory.logs().join(log_name(number)));
        // Those that it was not given there will never be.
        let initial = Some(directory.initial_weights()).filter(|path| path.is_file());
        Self::named(directory, fixed(directory).into_iter().chain(initial).chain(logs))
    }

    /// The files that are there of a run that is over.
    pub fn found(directory: &RunDirectory) -> Self {
        let entries = std::fs::read_dir(directory.logs()).into_iter().flatten().flatten();
        let mut numbers: Vec<u32> =
            entries.filter_map(|entry| log_number(entry.file_name().to_str()?)).collect();
        numbers.sort_unstable();
        numbers.truncate(MAX_LOGS);
        let logs = numbers.into_iter().map(|number| directory.logs().join(log_name(number)));
        let known = fixed(directory).into_iter().chain([directory.initial_weights()]).chain(logs);
        Self::named(directory, known.filter(|path| path.is_file()))
    }

    fn named(directory: &RunDirectory, paths: impl Iterator<Item = PathBuf>) -> Self {
        let named =
            |path: PathBuf| Some((path.strip_prefix(directory.path()).ok()?.to_str()?.to_string(), path));
        Self(paths.filter_map(named).collect())
    }

    /// Their names, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    fn path(&self, name: &str) -> Option<&Path> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, path)| path.as_path())
    }
}

/// What every run writes, sooner or later.
fn fixed(directory: &RunDirectory) -> [PathBuf; 8] {
    [
        directory.config(),
        directory.metrics(),
        directory.events(),
        directory.summary(),
        directory.workers(),
        directory.model(),
        directory.steps_log(),
        directory.report(),
    ]
}

/// As local workers have theirs.
fn log_name(number: u32) -> String {
    format!("local-{number}.log")
}

fn log_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("local-")?.strip_suffix(".log")?.parse().ok()?;
    (log_name(number) == name).then_some(number)
}

/// `GET /files/NAME`.
pub async fn file(State(site): State<Arc<Site>>, Requested(name): Requested<String>) -> Response {
    let files = site.files();
    let Some(path) = files.as_ref().and_then(|files| files.path(&name)) else {
        return (StatusCode::NOT_FOUND, "this is no file of the run that is shown here\n").into_response();
    };
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) => {
            let sentence = format!("{name} cannot be read now: {error}\n");
            return (StatusCode::NOT_FOUND, sentence).into_response();
        }
    };
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(read(file, sender));
    let body = Body::from_stream(ReceiverStream::new(receiver));
    let mut response = ([(header::CONTENT_TYPE, content_type(&name))], body).into_response();
    if name.ends_with(".html") {
        let policy = HeaderValue::from_static(REPORT_SECURITY_POLICY);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Reads up to the end that the file has by then, at most as fast as it is taken. Where the disk fails the answer breaks
/// off, and does not pass for a whole one.
async fn read(mut file: tokio::fs::File, sender: mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let read = match file.read_buf(&mut chunk).await {
            Ok(0) => return,
            Ok(_) => Ok(chunk.into()),
            Err(error) => Err(error),
        };
        let fails = read.is_err();
        if sender.send(read).await.is_err() || fails {
            return;
        }
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "json")) => "application/json",
        Some((_, "safetensors")) => "application/octet-stream",
        _ if name == "steps.log" => "application/octet-stream",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_list_are_files() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(&scratch.path().join("run")).unwrap();
        let files = RunFiles::of(&run, 2);
        assert_eq!(files.path("config.toml"), Some(&*run.config()));
        assert_eq!(files.path("logs/local-2.log"), Some(&*run.logs().join("local-2.log")));
        for other in ["token", "lock", "term", "logs/local-3.log", "../x", "./config.toml", "", "/etc/passwd"]
        {
            assert_eq!(files.path(other), None, "{other}");
        }
    }

    #[test]
    fn of_a_run_that_is_over_there_are_the_files_that_there_are() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(&scratch.path().join("run")).unwrap();
        assert!(!RunFiles::of(&run, 0).names().contains(&"initial.safetensors".to_string()));
        std::fs::create_dir_all(run.logs()).unwrap();
        for name in ["config.toml", "initial.safetensors", "token", "logs/local-10.log", "logs/local-2.log"] {
            std::fs::write(run.path().join(name), "").unwrap();
        }
        for other in ["logs/other.log", "logs/local-x.log", "logs/local-03.log", "logs/local-.log"] {
            std::fs::write(run.path().join(other), "").unwrap();
        }
        let found = ["config.toml", "initial.safetensors", "logs/local-2.log", "logs/local-10.log"];
        assert_eq!(RunFiles::found(&run).names(), found);
        assert!(RunFiles::of(&run, 0).names().contains(&"initial.safetensors".to_string()));
    }
}
