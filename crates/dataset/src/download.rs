//! Owns the download of MNIST: mirrors in turn, bounded, verified, then put in place by one rename.
//!
//! The only file of the crate that uses the network. A file that is there under its final name is whole and
//! verified; a failed or interrupted download leaves nothing under that name.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rayon::prelude::*;
use tempfile::NamedTempFile;
use ureq::Agent;
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;

use crate::certificates;
use crate::error::Error;
use crate::examples::hex;
use crate::folder;
use crate::idx;
use crate::look_up::LookUp;
use crate::mnist::{self, Digests, Role};
use crate::source::Source;
use crate::threads::on_all_cores;

/// The public mirrors of MNIST.
pub const MIRRORS: [&str; 2] =
    ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"];

/// To find the host and to connect to it: without a network the fallback must come soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// To the head of the answer, and then between two pieces of the body.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// For a whole file: the largest has 10 MB, so this bears 33 kB/s.
const FILE_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes between two reports of progress.
const CHUNK_BYTES: usize = 64 * 1024;

/// How far the download of one file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file's name at the mirror.
    pub file: &'a str,
    /// Bytes received so far; starts again from 0 with the next mirror.
    pub bytes: u64,
    /// Bytes announced by the mirror.
    pub total: Option<u64>,
}

/// Fetches what is missing of MNIST into the data folder, or the cache if there is none; returns that folder.
///
/// Uses no network if all four files are there and verified. A file of other content is replaced in the
/// cache and left alone, with an error, in a folder of the user's.
///
/// # Errors
/// If no mirror delivers a file with the right SHA-256, if it cannot be written, or if one is missing and
/// [`Source::offline`] forbids the network.
pub fn download(source: &Source, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, Error> {
    into_folder(source, &mnist::DIGESTS, progress)
}

/// [`download`] of files with the digests `known`.
pub(crate) fn into_folder(
    source: &Source,
    known: &Digests,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, Error> {
    let dir = source.data_dir.as_ref().unwrap_or(&source.cache_dir);
    let place = folder::place(dir);
    let states: Vec<State> = on_all_cores(|| {
        Role::ALL.into_par_iter().with_max_len(1).map(|role| state(&place, role, known)).collect()
    });
    if states.iter().all(|state| matches!(state, State::Verified)) {
        return Ok(dir.clone());
    }
    if source.offline {
        return Err(Error::Offline { dir: dir.clone() });
    }
    for state in &states {
        if let (State::Other { path, reason }, true) = (state, source.data_dir.is_some()) {
            return Err(Error::InTheWay { path: path.clone(), reason: reason.clone() });
        }
    }
    let agent = agent()?;
    fs::create_dir_all(&place).map_err(Error::io("create", &place))?;
    let mut mirrors: Vec<&str> = source.mirrors.iter().map(String::as_str).collect();
    for (role, state) in Role::ALL.into_iter().zip(states) {
        match state {
            State::Verified => {}
            State::Missing => fetch(&agent, &mut mirrors, &place, role, known, progress)?,
            State::Other { path, .. } => {
                fetch(&agent, &mut mirrors, &place, role, known, progress)?;
                // An unpacked file would be preferred to the good one.
                if path != target(&place, role) {
                    fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                }
            }
        }
    }
    Ok(dir.clone())
}

/// What lies where a file should be.
enum State {
    Missing,
    Verified,
    Other { path: PathBuf, reason: String },
}

fn state(place: &Path, role: Role, known: &Digests) -> State {
    let Some(path) = folder::find(place, role) else { return State::Missing };
    let reason = match idx::read(&path, folder::content(role)) {
        Ok(file) if file.sha256 == *role.digest(known) => return State::Verified,
        Ok(file) => format!("its SHA-256 is {}", hex(&file.sha256)),
        Err(error) => error.to_string(),
    };
    State::Other { path, reason }
}

/// The final name of a downloaded file.
fn target(place: &Path, role: Role) -> PathBuf {
    place.join(format!("{}.gz", role.file_name()))
}

fn agent() -> Result<Agent, Error> {
    let tls = TlsConfig::builder().root_certs(certificates::from_environment()?).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(SILENCE_TIMEOUT))
        .timeout_per_read(Some(SILENCE_TIMEOUT))
        .timeout_recv_body(Some(FILE_TIMEOUT))
        .user_agent(concat!("lockstep/", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(Agent::with_parts(config, DefaultConnector::default(), LookUp))
}

/// Tries the mirrors in turn; the one that delivers becomes the first for the next file.
fn fetch(
    agent: &Agent,
    mirrors: &mut [&str],
    place: &Path,
    role: Role,
    known: &Digests,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Error> {
    let mut attempts = Vec::new();
    for i in 0..mirrors.len() {
        let url = format!("{}/{}.gz", mirrors[i].trim_end_matches('/'), role.file_name());
        match fetch_from(agent, &url, place, role, known, progress) {
            Ok(()) => {
                mirrors.swap(0, i);
                return Ok(());
            }
            Err(Failure::Mirror(reason)) => attempts.push(format!("{url}: {reason}")),
            Err(Failure::Here(error)) => return Err(error),
        }
    }
    if attempts.is_empty() {
        attempts.push("no mirror is configured".into());
    }
    Err(Error::Download { file: role.file_name(), attempts: attempts.join("; ") })
}

/// Whose fault it is decides whether another mirror can help.
enum Failure {
    Mirror(String),
    Here(Error),
}

fn fetch_from(
    agent: &Agent,
    url: &str,
    place: &Path,
    role: Role,
    known: &Digests,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Failure> {
    let mirror = |error: &dyn std::fmt::Display| Failure::Mirror(error.to_string());
    let mut request = agent.get(url);
    if is_loopback(url) {
        // A proxy of the environment cannot reach this machine's own servers.
        request = request.config().proxy(None).build();
    }
    let mut response = request.call().map_err(|error| mirror(&error))?;
    let total = response.body().content_length();
    let limit = role.download_limit();
    if let Some(total) = total.filter(|&total| total > limit) {
        return Err(Failure::Mirror(format!("{total} bytes announced, at most {limit} are accepted")));
    }
    let target = target(place, role);
    let here = |action: &'static str| {
        let target = target.clone();
        move |error| Failure::Here(Error::io(action, target)(error))
    };
    // Dropped, and so deleted, on every way out but the last.
    let mut file = tempfile::Builder::new()
        .prefix(".download-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(place)
        .map_err(here("create a temporary file for"))?;
    let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        progress(Progress { file: role.file_name(), bytes, total });
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::Mirror(format!("{error} after {bytes} bytes"))),
        };
        bytes += n as u64;
        if bytes > limit {
            return Err(Failure::Mirror(format!("more than {limit} bytes sent")));
        }
        file.write_all(&buffer[..n]).map_err(here("write"))?;
    }
    check(&file, role, known)?;
    file.as_file().sync_all().map_err(here("write"))?;
    file.persist(&target).map_err(|error| here("rename to")(error.error))?;
    File::open(place).and_then(|dir| dir.sync_all()).map_err(here("sync the folder of"))
}

fn is_loopback(url: &str) -> bool {
    let host = url.parse::<ureq::http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    host.is_some_and(|host| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

/// Compares the unpacked content of a received file with what it must be.
fn check(file: &NamedTempFile, role: Role, known: &Digests) -> Result<(), Failure> {
    let expected = role.digest(known);
    match idx::unpacked_sha256(file.path(), role.download_limit()) {
        Ok(found) if found == *expected => Ok(()),
        Ok(found) => Err(Failure::Mirror(format!(
            "the content is wrong: its SHA-256 is {}, expected {}",
            hex(&found),
            hex(expected)
        ))),
        Err(Error::Gzip { reason, .. }) => Err(Failure::Mirror(format!("the content is damaged: {reason}"))),
        Err(Error::TrailingBytes { expected, .. }) => {
            Err(Failure::Mirror(format!("the content unpacks to more than {expected} bytes")))
        }
        Err(error) => Err(Failure::Here(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Choice;
    use crate::testing::{
        Mirror, answer, good, gzip, idx_labels, quadruple, quadruple_digests, unreachable_url, write_packed,
    };

    fn source(cache: &Path, mirrors: &[String]) -> Source {
        Source { cache_dir: cache.join("cache"), mirrors: mirrors.into(), ..Source::new(Choice::Mnist) }
    }

    fn run(source: &Source) -> Result<PathBuf, Error> {
        into_folder(source, &quadruple_digests(), &mut |_| {})
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// One mirror that treats `t10k-labels` as `bad` does and delivers the rest: the message, and that nothing
    /// is left under the file's name nor under a temporary one.
    fn failure(bad: impl Fn() -> Vec<u8> + Send + 'static) -> String {
        let dir = tempfile::tempdir().unwrap();
        let mirror =
            Mirror::start(move |name| if name.starts_with("t10k-labels") { bad() } else { good(name) });
        let source = source(dir.path(), &[mirror.url()]);
        let error = run(&source).unwrap_err();
        assert!(matches!(error, Error::Download { .. }), "{error}");
        assert_eq!(names(&source.cache_dir).len(), 3, "{:?}", names(&source.cache_dir));
        assert!(!folder::is_complete(&source.cache_dir));
        let message = error.to_string();
        assert!(!message.contains('\n'));
        let end = message.find("; check the network").unwrap();
        message[message.find(".gz: ").unwrap() + 5..end].to_owned()
    }

    #[test]
    fn four_good_files_are_put_in_place_and_not_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = Mirror::start(good);
        let source = source(dir.path(), &[mirror.url()]);
        let mut reports = Vec::new();
        let known = quadruple_digests();
        let folder = into_folder(&source, &known, &mut |p: Progress<'_>| {
            reports.push((p.file.to_owned(), p.bytes, p.total));
        })
        .unwrap();
        assert_eq!(folder, source.cache_dir);
        assert_eq!(folder::load(&folder, &known).unwrap().notes, [""; 0]);
        assert_eq!(names(&folder).len(), 4);
        let size = gzip(&quadruple()[0]).len() as u64;
        assert_eq!(reports[0], ("train-images-idx3-ubyte".into(), 0, Some(size)));
        assert_eq!(reports[1], ("train-images-idx3-ubyte".into(), size, Some(size)));

        assert_eq!(mirror.requests(), 4);
        run(&source).unwrap();
        assert_eq!(mirror.requests(), 4);
        let offline = Source { offline: true, ..source };
        run(&offline).unwrap();
    }

    #[test]
    fn only_what_is_missing_or_damaged_in_the_cache_is_fetched() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = Mirror::start(good);
        let source = source(dir.path(), &[mirror.url()]);
        write_packed(&source.cache_dir);
        fs::remove_file(source.cache_dir.join("t10k-images-idx3-ubyte.gz")).unwrap();
        fs::write(source.cache_dir.join("train-labels-idx1-ubyte"), b"damaged").unwrap();
        run(&source).unwrap();
        assert_eq!(mirror.requests(), 2);
        assert!(folder::load(&source.cache_dir, &quadruple_digests()).unwrap().notes.is_empty());
    }

    #[test]
    fn a_file_of_the_users_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = Mirror::start(good);
        let data_dir = dir.path().join("fashion");
        write_packed(&data_dir);
        let mine = data_dir.join("train-labels-idx1-ubyte.gz");
        fs::write(&mine, gzip(&idx_labels(&[1, 1, 1, 1, 1, 1]))).unwrap();
        let source = Source { data_dir: Some(data_dir.clone()), ..source(dir.path(), &[mirror.url()]) };
        assert!(matches!(run(&source), Err(Error::InTheWay { path, .. }) if path == mine));
        assert_eq!(mirror.requests(), 0);

        fs::remove_file(&mine).unwrap();
        assert_eq!(run(&source).unwrap(), data_dir);
        assert_eq!(mirror.requests(), 1);
        assert!(!source.cache_dir.exists());
    }

    #[test]
    fn wrong_content_is_refused() {
        let reason = failure(|| {
            let body = gzip(&idx_labels(&[7, 2, 1, 1]));
            answer("200 OK", body.len(), &body)
        });
        assert!(reason.starts_with("the content is wrong: its SHA-256 is "), "{reason}");
    }

    #[test]
    fn damaged_content_is_refused() {
        let reason = failure(|| {
            let body = gzip(&quadruple()[3]);
            answer("200 OK", 20, &body[..20])
        });
        assert_eq!(reason, "the content is damaged: the compressed data end early");
    }

    #[test]
    fn a_body_that_ends_early_is_refused() {
        let reason = failure(|| answer("200 OK", 5000, &[7; 1000]));
        assert!(reason.ends_with("after 1000 bytes"), "{reason}");
    }

    #[test]
    fn a_missing_file_is_reported() {
        assert_eq!(failure(|| answer("404 Not Found", 9, b"Not Found")), "http status: 404");
    }

    #[test]
    fn a_body_that_is_too_large_is_not_kept() {
        let announced = failure(|| answer("200 OK", 10_000_000, &[7; 1000]));
        assert_eq!(announced, "10000000 bytes announced, at most 75544 are accepted");
        let endless =
            failure(|| [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(), vec![7; 400_000]].concat());
        assert_eq!(endless, "more than 75544 bytes sent");
    }

    #[test]
    fn a_small_body_that_unpacks_to_too_much_is_refused() {
        let reason = failure(|| {
            let body = gzip(&vec![0; 1 << 20]);
            answer("200 OK", body.len(), &body)
        });
        assert_eq!(reason, "the content unpacks to more than 75544 bytes");
    }

    #[test]
    fn the_next_mirror_is_tried_and_then_preferred() {
        let dir = tempfile::tempdir().unwrap();
        let bad = Mirror::start(|_| answer("503 Service Unavailable", 0, b""));
        let fine = Mirror::start(good);
        run(&source(dir.path(), &[unreachable_url(), bad.url(), fine.url()])).unwrap();
        assert_eq!((bad.requests(), fine.requests()), (1, 4));
    }

    #[test]
    fn every_attempt_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = unreachable_url();
        let source = source(dir.path(), &[nobody.clone(), nobody.clone()]);
        let message = run(&source).unwrap_err().to_string();
        assert_eq!(message.matches(&nobody).count(), 2, "{message}");
        assert!(message.starts_with("cannot download train-images-idx3-ubyte: "), "{message}");
        assert!(names(&source.cache_dir).is_empty());
    }
}
