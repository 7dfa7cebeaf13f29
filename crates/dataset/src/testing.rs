//! Owns small IDX files, folders and a mirror on this machine for the tests of this crate; never compiled into
//! a release.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::examples::{IMAGE_PIXELS, sha256};
use crate::mnist::{Digests, Role};

/// `bytes` as one gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An IDX file of `n` images that differ from each other.
pub(crate) fn idx_images(n: u32) -> Vec<u8> {
    let mut file = [0x0803, n, 28, 28].map(u32::to_be_bytes).concat();
    file.extend((0..n as usize * IMAGE_PIXELS).map(|i| (i * i / 7) as u8));
    file
}

/// An IDX file of these labels.
pub(crate) fn idx_labels(labels: &[u8]) -> Vec<u8> {
    let mut file = [0x0801, labels.len() as u32].map(u32::to_be_bytes).concat();
    file.extend(labels);
    file
}

/// The unpacked content of four files that belong together: 6 training and 4 test examples.
pub(crate) fn quadruple() -> [Vec<u8>; 4] {
    [idx_images(6), idx_labels(&[5, 0, 4, 1, 9, 2]), idx_images(4), idx_labels(&[7, 2, 1, 0])]
}

/// The digests of [`quadruple`].
pub(crate) fn quadruple_digests() -> Digests {
    quadruple().map(|file| sha256(&file))
}

/// Writes [`quadruple`] into `dir` as the mirrors have it.
pub(crate) fn write_packed(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for (role, content) in Role::ALL.into_iter().zip(quadruple()) {
        fs::write(dir.join(format!("{}.gz", role.file_name())), gzip(&content)).unwrap();
    }
}

/// A mirror on this machine that answers each request on a thread of its own.
pub(crate) struct Mirror {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Mirror {
    /// `answer` gets the name of the file asked for and returns all bytes of the answer.
    pub(crate) fn start(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        // Ends with the process: a test asks for as many files as it likes.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                reader.read_line(&mut line).unwrap();
                let mut header = String::new();
                while reader.read_line(&mut header).unwrap() > 2 {
                    header.clear();
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let path = line.split(' ').nth(1).unwrap();
                let name = path.rsplit('/').next().unwrap();
                // The client may hang up as soon as it has seen too much.
                let _ = stream.write_all(&answer(name));
            }
        });
        Self { address, requests }
    }

    /// What stands in [`crate::Source::mirrors`].
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mnist/", self.address)
    }

    /// Requests answered so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// An address at which nobody listens.
pub(crate) fn unreachable_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

/// An answer with this body; `length` is what its header announces.
pub(crate) fn answer(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The good answer of a mirror that has [`quadruple`].
pub(crate) fn good(name: &str) -> Vec<u8> {
    let index = Role::ALL.iter().position(|role| format!("{}.gz", role.file_name()) == name).unwrap();
    let body = gzip(&quadruple()[index]);
    answer("200 OK", body.len(), &body)
}
