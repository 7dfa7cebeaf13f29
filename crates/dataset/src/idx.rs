//! Owns one IDX file, plain or gzip: every byte is checked before anyone uses it.
//!
//! Nothing is allocated on the word of a header, nothing is read without a bound, and a file that holds one
//! byte more or less than its header says is refused. Knows no file names and no folders.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::examples::{CLASSES, IMAGE_PIXELS, IMAGE_SIDE};
use crate::missing::why_not;

/// The most items accepted: more than any data set of this shape has (EMNIST by class: 814,255).
pub(crate) const MAX_ITEMS: u32 = 1 << 20;
/// The most memory reserved before a byte has arrived: holds MNIST's training images.
const MAX_RESERVE: u64 = 48 << 20;
/// How much DEFLATE can pack into a byte, at most.
const MAX_RATIO: u64 = 1032;
/// The most zeros behind a gzip file: more than any block of a tape or a device.
const MAX_PADDING: usize = 16 << 20;
/// Bytes read from the file at a time.
const READ_BYTES: usize = 256 * 1024;

/// What a file is expected to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Images,
    Labels,
}

impl Content {
    const fn what(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Labels => "labels",
        }
    }

    /// Two zeros, type 8 (unsigned byte), number of dimensions.
    const fn magic(self) -> u32 {
        match self {
            Self::Images => 0x0803,
            Self::Labels => 0x0801,
        }
    }

    const fn header_bytes(self) -> usize {
        match self {
            Self::Images => 16,
            Self::Labels => 8,
        }
    }

    const fn item_bytes(self) -> usize {
        match self {
            Self::Images => IMAGE_PIXELS,
            Self::Labels => 1,
        }
    }
}

/// A file that has passed every check.
#[derive(Debug)]
pub(crate) struct IdxFile {
    /// Number of images or labels.
    pub(crate) items: usize,
    /// The content after the header.
    pub(crate) data: Vec<u8>,
    /// SHA-256 of the unpacked content, header included.
    pub(crate) sha256: [u8; 32],
}

/// Reads the file at `path`.
///
/// # Errors
/// If it cannot be read, is damaged, or holds anything but 28x28 images or labels below 10.
pub(crate) fn read(path: &Path, content: Content) -> Result<IdxFile, Error> {
    let file = File::open(path).map_err(|error| Error::Unreachable { reason: why_not(path, &error) })?;
    let size = file.metadata().map_err(Error::io("read", path))?.len();
    read_from(BufReader::with_capacity(READ_BYTES, file), size, content, path)
}

/// Reads a file that is in memory; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_bytes(bytes: &[u8], content: Content, path: &Path) -> Result<IdxFile, Error> {
    read_from(bytes, bytes.len() as u64, content, path)
}

fn read_from(mut reader: impl BufRead, size: u64, content: Content, path: &Path) -> Result<IdxFile, Error> {
    let packed = is_gzip(&mut reader).map_err(Error::io("read", path))?;
    if packed {
        parse(Members::of(reader), content, path, size.saturating_mul(MAX_RATIO))
    } else {
        parse(reader, content, path, size)
    }
}

/// SHA-256 of the unpacked content of a file in memory, whatever it is, if there are at most `limit` bytes of it; `path`
/// is for messages.
pub(crate) fn unpacked_sha256(mut bytes: &[u8], limit: u64, path: &Path) -> Result<[u8; 32], Error> {
    let packed = is_gzip(&mut bytes).map_err(Error::io("read", path))?;
    let mut content: Box<dyn Read + '_> = if packed { Box::new(Members::of(bytes)) } else { Box::new(bytes) };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut total = 0;
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(n) => {
                total += n as u64;
                if total > limit {
                    return Err(Error::TrailingBytes { path: path.into(), expected: limit });
                }
                hash.update(&buffer[..n]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error(error, path)),
        }
    }
}

/// By content, not by name: browsers unpack files and keep the `.gz`.
fn is_gzip(reader: &mut impl BufRead) -> io::Result<bool> {
    Ok(reader.fill_buf()?.starts_with(&[0x1f, 0x8b]))
}

/// The content of all members of a gzip file, one after the other (RFC 1952, 2.2). Zeros behind the last one are padding,
/// as tapes and block devices leave it, and pass as they do with gzip itself.
struct Members<R> {
    /// Absent once the file has ended.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn of(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let n = member.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            let Some(ended) = self.member.take() else { break };
            let mut rest = ended.into_inner();
            if rest.fill_buf()?.first().is_some_and(|byte| *byte != 0) {
                self.member = Some(GzDecoder::new(rest));
                continue;
            }
            let mut padded = 0;
            loop {
                let padding = rest.fill_buf()?;
                padded += padding.len();
                if padding.iter().any(|byte| *byte != 0) || padded > MAX_PADDING {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        "something follows the compressed data",
                    ));
                }
                match padding.len() {
                    0 => break,
                    zeros => rest.consume(zeros),
                }
            }
        }
        Ok(0)
    }
}

/// Reads and checks unpacked content of at most `most` bytes; `path` is for messages.
fn parse(mut reader: impl Read, content: Content, path: &Path, most: u64) -> Result<IdxFile, Error> {
    let mut header = [0; 16];
    let header = &mut header[..content.header_bytes()];
    let got = fill(&mut reader, header).map_err(|error| read_error(error, path))?;
    let word = |i: usize| u32::from_be_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    if got >= 4 && word(0) != content.magic() {
        let (what, found, expected) = (content.what(), word(0), content.magic());
        return Err(Error::Magic { path: path.into(), what, found, expected });
    }
    if got < header.len() {
        return Err(Error::Truncated {
            path: path.into(),
            expected: header.len() as u64,
            actual: got as u64,
        });
    }
    let count = word(4);
    if content == Content::Images && (word(8), word(12)) != (IMAGE_SIDE as u32, IMAGE_SIDE as u32) {
        return Err(Error::Dimensions { path: path.into(), rows: word(8), columns: word(12) });
    }
    if count == 0 || count > MAX_ITEMS {
        return Err(Error::Count { path: path.into(), count, limit: MAX_ITEMS });
    }

    let expected = u64::from(count) * content.item_bytes() as u64;
    let mut data = Vec::with_capacity(expected.min(most).min(MAX_RESERVE) as usize);
    reader.by_ref().take(expected).read_to_end(&mut data).map_err(|error| read_error(error, path))?;
    let whole = header.len() as u64 + expected;
    if (data.len() as u64) < expected {
        let actual = (header.len() + data.len()) as u64;
        return Err(Error::Truncated { path: path.into(), expected: whole, actual });
    }
    // This read also makes the decompressor check the length and CRC-32 at the end of the stream.
    if fill(&mut reader, &mut [0]).map_err(|error| read_error(error, path))? != 0 {
        return Err(Error::TrailingBytes { path: path.into(), expected: whole });
    }
    if content == Content::Labels
        && let Some(index) = data.iter().position(|&label| usize::from(label) >= CLASSES)
    {
        return Err(Error::Label { path: path.into(), index, label: data[index] });
    }
    let sha256 = Sha256::new().chain_update(header).chain_update(&data).finalize().into();
    Ok(IdxFile { items: count as usize, data, sha256 })
}

/// Reads until `buffer` is full or the content ends; returns how many bytes there were.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Tells damage from trouble with the disk.
fn read_error(error: io::Error, path: &Path) -> Error {
    let reason = match error.kind() {
        ErrorKind::UnexpectedEof => "the compressed data end early".to_owned(),
        ErrorKind::InvalidData | ErrorKind::InvalidInput => error.to_string(),
        _ => return Error::io("read", path)(error),
    };
    Error::Gzip { path: path.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::sha256;
    use crate::testing::{gzip, idx_images, idx_labels};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};
    use std::fs;

    fn read_bytes(bytes: &[u8], content: Content) -> Result<IdxFile, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        read(&path, content)
    }

    /// The message without the folder, which differs from run to run.
    fn message(bytes: &[u8], content: Content) -> String {
        let text = read_bytes(bytes, content).unwrap_err().to_string();
        assert!(!text.contains('\n'), "one line: {text}");
        let (start, end) = (text.find('/').unwrap(), text.find("/file").unwrap());
        format!("{}{}", &text[..start], &text[end + 1..])
    }

    #[test]
    fn plain_and_packed_files_are_the_same() {
        let images = idx_images(3);
        for bytes in [images.clone(), gzip(&images)] {
            let file = read_bytes(&bytes, Content::Images).unwrap();
            assert_eq!((file.items, &file.data[..]), (3, &images[16..]));
            assert_eq!(file.sha256, sha256(&images));
        }
        let file = read_bytes(&idx_labels(&[0, 9, 4]), Content::Labels).unwrap();
        assert_eq!((file.items, file.data), (3, vec![0, 9, 4]));
    }

    #[test]
    fn a_gzip_file_may_have_members() {
        // As bgzip and `cat a.gz b.gz` make them; together they are one content (RFC 1952, 2.2).
        let images = idx_images(3);
        let packed = [gzip(&images[..1000]), gzip(&images[1000..])].concat();
        assert_eq!(read_bytes(&packed, Content::Images).unwrap().data, images[16..]);
        for zeros in [1, 511, READ_BYTES * 2] {
            let padded = [&packed[..], &vec![0; zeros]].concat();
            assert_eq!(read_bytes(&padded, Content::Images).unwrap().data, images[16..], "{zeros}");
            let more = [&padded[..], b"more"].concat();
            assert_eq!(
                message(&more, Content::Images),
                "file is damaged: something follows the compressed data; delete it and download it again"
            );
        }
        let twice = [gzip(&images), gzip(&images)].concat();
        assert_eq!(
            message(&twice, Content::Images),
            "file goes on after the 2368 bytes (unpacked) that its header announces; delete it and download it again"
        );
    }

    #[test]
    fn every_length_but_the_right_one_is_refused() {
        let labels = idx_labels(&[1, 2, 3]);
        for n in 0..labels.len() {
            let error = read_bytes(&labels[..n], Content::Labels).unwrap_err();
            assert!(matches!(error, Error::Truncated { actual, .. } if actual == n as u64), "{n}: {error}");
            let error = read_bytes(&gzip(&labels[..n]), Content::Labels).unwrap_err();
            assert!(matches!(error, Error::Truncated { actual, .. } if actual == n as u64), "{n}: {error}");
        }
        let long = [&labels[..], &[0]].concat();
        assert!(matches!(read_bytes(&long, Content::Labels), Err(Error::TrailingBytes { expected: 11, .. })));
        assert_eq!(
            message(&labels[..9], Content::Labels),
            "file is truncated: 9 of 11 bytes (unpacked); delete it and download it again"
        );
    }

    #[test]
    fn damage_to_a_gzip_stream_is_found() {
        let packed = gzip(&idx_images(2));
        for n in 3..packed.len() {
            let error = read_bytes(&packed[..n], Content::Images).unwrap_err();
            assert!(matches!(error, Error::Gzip { .. }), "cut to {n}: {error}");
        }
        // Past the header, whose modification time and system are free, any flipped bit must show.
        for at in 10..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x10;
            assert!(read_bytes(&damaged, Content::Images).is_err(), "byte {at}");
        }
        let garbage = [&packed[..], b"garbage"].concat();
        assert!(matches!(read_bytes(&garbage, Content::Images), Err(Error::Gzip { .. })));
        assert_eq!(
            message(&packed[..40], Content::Images),
            "file is damaged: the compressed data end early; delete it and download it again"
        );
    }

    #[test]
    fn the_wrong_file_is_named() {
        assert_eq!(
            message(&idx_labels(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), Content::Images),
            "file starts with 0x00000801, an IDX file of images starts with 0x00000803: wrong file, or not IDX"
        );
        assert_eq!(
            message(b"<html>404</html>", Content::Labels),
            "file starts with 0x3c68746d, an IDX file of labels starts with 0x00000801: wrong file, or not IDX"
        );
    }

    #[test]
    fn other_shapes_and_labels_are_refused() {
        let mut images = idx_images(1);
        images[11] = 32;
        assert_eq!(
            message(&images, Content::Images),
            "file holds images of 32x28 pixels, this model takes 28x28"
        );
        assert_eq!(
            message(&idx_labels(&[1, 10, 3]), Content::Labels),
            "file: label 10 of item 1 is not below 10, this model has ten classes"
        );
    }

    #[test]
    fn a_header_is_not_believed() {
        let mut images = idx_images(1);
        images[4..8].copy_from_slice(&MAX_ITEMS.to_be_bytes());
        let error = read_bytes(&images, Content::Images).unwrap_err();
        assert!(matches!(error, Error::Truncated { actual: 800, .. }), "{error}");
        images[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(
            message(&images, Content::Images),
            "file announces 4294967295 items, 1 to 1048576 are accepted"
        );
        assert!(matches!(read_bytes(&idx_labels(&[]), Content::Labels), Err(Error::Count { count: 0, .. })));
    }

    #[test]
    fn no_content_makes_it_panic() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for start in [&[][..], &[0, 0, 8, 1, 0, 0, 0], &[0, 0, 8, 3], &[0x1f, 0x8b, 8, 0]] {
            for length in 0..200 {
                let mut bytes = start.to_vec();
                bytes.resize(start.len() + length, 0);
                random.fill_bytes(&mut bytes[start.len()..]);
                for content in [Content::Images, Content::Labels] {
                    if let Ok(file) = read_bytes(&bytes, content) {
                        assert_eq!(file.data.len(), file.items * content.item_bytes(), "{bytes:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_bomb_is_left_unread() {
        // 64 MiB of zeros behind one honest image pack into 64 kB; reading stops after the image.
        let bomb = gzip(&[idx_images(1), vec![0; 64 << 20]].concat());
        assert!(bomb.len() < 100_000);
        let error = read_bytes(&bomb, Content::Images).unwrap_err();
        assert!(matches!(error, Error::TrailingBytes { expected: 800, .. }), "{error}");

        let refused = unpacked_sha256(&bomb, 1000, Path::new("bomb"));
        assert!(matches!(refused, Err(Error::TrailingBytes { expected: 1000, .. })));
    }
}
