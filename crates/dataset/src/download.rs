//! Owns the download of MNIST: mirrors in turn, bounded, verified, then put in place by one rename.
//!
//! The only file of the crate that uses the network. A file that is there under its final name is whole and
//! verified; a failed or interrupted download leaves nothing under that name. What a cache cannot keep is held in
//! memory: a disk that refuses is no reason to do without the data.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rayon::prelude::*;
use ureq::Agent;

use crate::error::Error;
use crate::examples::hex;
use crate::folder::{self, Held};
use crate::idx;
use crate::mnist::{self, Digests, Role};
use crate::source::Source;

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
fn into_folder(
    source: &Source,
    known: &Digests,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, Error> {
    let dir = source.data_dir.as_ref().unwrap_or(&source.cache_dir);
    fetch_missing(source, known, progress, &mut |_, _, refusal| Err(refusal))?;
    Ok(dir.clone())
}

/// Makes sure that MNIST can be read from the cache, or else from what is returned of it; then a sentence says why.
///
/// # Errors
/// As [`download`], but for a cache that cannot be written.
pub(crate) fn into_cache(
    source: &Source,
    known: &Digests,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Held, Option<String>), Error> {
    let (mut held, mut note) = (Held::default(), None);
    fetch_missing(source, known, progress, &mut |role, bytes, refusal| {
        held[role as usize] = Some(bytes);
        note.get_or_insert_with(|| format!("{refusal}; until then each start downloads MNIST again"));
        Ok(())
    })?;
    Ok((held, note))
}

/// Takes a file that was fetched and cannot be kept, and why; an error ends the download.
type Unkept<'a> = &'a mut dyn FnMut(Role, Vec<u8>, Error) -> Result<(), Error>;

fn fetch_missing(
    source: &Source,
    known: &Digests,
    progress: &mut dyn FnMut(Progress<'_>),
    unkept: Unkept<'_>,
) -> Result<(), Error> {
    let dir = source.data_dir.as_ref().unwrap_or(&source.cache_dir);
    let place = folder::place(dir);
    let states: Vec<State> =
        Role::ALL.into_par_iter().with_max_len(1).map(|role| state(&place, role, known)).collect();
    if states.iter().all(|state| matches!(state, State::Verified)) {
        return Ok(());
    }
    let mut unseen = states.iter().filter_map(|state| match state {
        State::Unseen { reason } => Some(reason.clone()),
        _ => None,
    });
    if source.offline {
        let all = || format!("the four MNIST files are not all in {}", dir.display());
        return Err(Error::Offline { reason: unseen.next().unwrap_or_else(all) });
    }
    // In a folder of the user's nothing is replaced.
    if source.data_dir.is_some() {
        if let Some(reason) = unseen.next() {
            return Err(Error::Unreachable { reason });
        }
        if let Some((path, reason)) = states.iter().find_map(|state| match state {
            State::Other { path, reason } => Some((path.clone(), reason.clone())),
            _ => None,
        }) {
            return Err(Error::InTheWay { path, reason });
        }
    }
    let mut mirrors: Vec<&str> = source.mirrors.iter().map(String::as_str).collect();
    let agent = agent();
    for (role, state) in Role::ALL.into_iter().zip(states) {
        if matches!(state, State::Verified) {
            continue;
        }
        let bytes = fetch(&agent, &mut mirrors, role, known, progress)?;
        let target = target(&place, role);
        let kept = keep(&bytes, &target).and_then(|()| match state {
            // An unpacked file would be preferred to the good one.
            State::Other { path, .. } if path != target => fs::remove_file(&path),
            _ => Ok(()),
        });
        if let Err(source) = kept {
            unkept(role, bytes, Error::Unwritable { path: target, source })?;
        }
    }
    Ok(())
}

/// Puts a file in its place, whole or not at all, with its folder if there is none.
fn keep(bytes: &[u8], target: &Path) -> io::Result<()> {
    let place = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(place)?;
    // Dropped, and so deleted, on every way out but the last.
    let mut file = tempfile::Builder::new()
        .prefix(".download-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(place)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    File::open(place)?.sync_all()
}

/// What lies where a file should be.
enum State {
    Missing,
    Verified,
    /// The system does not let us see.
    Unseen {
        reason: String,
    },
    Other {
        path: PathBuf,
        reason: String,
    },
}

fn state(place: &Path, role: Role, known: &Digests) -> State {
    let path = match folder::find(place, role) {
        Ok(Some(path)) => path,
        Ok(None) => return State::Missing,
        Err(Error::Unreachable { reason }) => return State::Unseen { reason },
        Err(other) => return State::Unseen { reason: other.to_string() },
    };
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

fn agent() -> Agent {
    Agent::config_builder()
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(SILENCE_TIMEOUT))
        .timeout_per_read(Some(SILENCE_TIMEOUT))
        .timeout_recv_body(Some(FILE_TIMEOUT))
        .user_agent(concat!("lockstep/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

/// Tries the mirrors in turn; the one that delivers becomes the first for the next file.
fn fetch(
    agent: &Agent,
    mirrors: &mut [&str],
    role: Role,
    known: &Digests,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<u8>, Error> {
    let mut attempts = Vec::new();
    for i in 0..mirrors.len() {
        let url = format!("{}/{}.gz", mirrors[i].trim_end_matches('/'), role.file_name());
        match fetch_from(agent, &url, role, known, progress) {
            Ok(bytes) => {
                mirrors.swap(0, i);
                return Ok(bytes);
            }
            Err(reason) => attempts.push(format!("{url}: {reason}")),
        }
    }
    if attempts.is_empty() {
        attempts.push("no mirror is configured".into());
    }
    Err(Error::Download { file: role.file_name(), attempts: attempts.join("; ") })
}

/// The verified file, as the mirror has it; or why this mirror does not do.
fn fetch_from(
    agent: &Agent,
    url: &str,
    role: Role,
    known: &Digests,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<u8>, String> {
    let mut request = agent.get(url);
    if is_loopback(url) {
        // A proxy of the environment cannot reach this machine's own servers.
        request = request.config().proxy(None).build();
    }
    let mut response = request.call().map_err(|error| error.to_string())?;
    let total = response.body().content_length();
    let limit = role.download_limit();
    if let Some(total) = total.filter(|&total| total > limit) {
        return Err(format!("{total} bytes announced, at most {limit} are accepted"));
    }
    let mut received = Vec::new();
    let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        progress(Progress { file: role.file_name(), bytes, total });
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("{error} after {bytes} bytes")),
        };
        bytes += n as u64;
        if bytes > limit {
            return Err(format!("more than {limit} bytes sent"));
        }
        received.extend_from_slice(&buffer[..n]);
    }
    check(&received, role, known).map(|()| received)
}

fn is_loopback(url: &str) -> bool {
    let host = url.parse::<ureq::http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    host.is_some_and(|host| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

/// Compares the unpacked content of a received file with what it must be.
fn check(file: &[u8], role: Role, known: &Digests) -> Result<(), String> {
    let expected = role.digest(known);
    match idx::unpacked_sha256(file, role.download_limit(), Path::new(role.file_name())) {
        Ok(found) if found == *expected => Ok(()),
        Ok(found) => {
            Err(format!("the content is wrong: its SHA-256 is {}, expected {}", hex(&found), hex(expected)))
        }
        Err(Error::Gzip { reason, .. }) => Err(format!("the content is damaged: {reason}")),
        Err(Error::TrailingBytes { expected, .. }) => {
            Err(format!("the content unpacks to more than {expected} bytes"))
        }
        Err(error) => Err(error.to_string()),
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
        assert_eq!(folder::load(&folder, Held::default(), &known).unwrap().notes, [""; 0]);
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
        assert!(
            folder::load(&source.cache_dir, Held::default(), &quadruple_digests()).unwrap().notes.is_empty()
        );
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
        assert!(!source.cache_dir.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = Mirror::start(good);
        fs::write(dir.path().join("cache"), "a file").unwrap();
        let source = source(dir.path(), &[mirror.url()]);
        let message = run(&source).unwrap_err().to_string();
        let target = source.cache_dir.join("train-images-idx3-ubyte.gz");
        assert!(message.starts_with(&format!("cannot keep {}: ", target.display())), "{message}");
        assert!(message.ends_with("name a folder that you may write to with --data-dir"), "{message}");
    }
}
