//! IDX files that are missing, damaged, of something else, or made to do harm.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::{assert_parts, refused};
use crate::harness::{coordinator, start};

const FAILED: i32 = 1;
const USAGE: i32 = 2;

const NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];
const TRAIN_IMAGES: usize = 0;
const TRAIN_LABELS: usize = 1;
const TEST_IMAGES: usize = 2;
const TEST_LABELS: usize = 3;

const TRAIN: u32 = 40;
const TEST: u32 = 10;

fn images(count: u32, rows: u32, columns: u32) -> Vec<u8> {
    let mut file = [0x0803, count, rows, columns].map(u32::to_be_bytes).concat();
    file.extend((0..count * rows * columns).map(|i| (i * i / 7) as u8));
    file
}

fn labels(count: u32) -> Vec<u8> {
    let mut file = [0x0801, count].map(u32::to_be_bytes).concat();
    file.extend((0..count).map(|i| (i % 10) as u8));
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The content of four files that belong together.
fn good() -> [Vec<u8>; 4] {
    [images(TRAIN, 28, 28), labels(TRAIN), images(TEST, 28, 28), labels(TEST)]
}

/// A folder with `data/`, and in it the four good files: 40 training and 10 test examples.
pub fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    for (name, content) in NAMES.into_iter().zip(good()) {
        fs::write(folder.path().join("data").join(name), content).unwrap();
    }
    folder
}

/// A run on `data/` that would end well with good files.
fn training(folder: &Path) -> Command {
    let mut command = coordinator(folder);
    command.args(["--data-dir", "data", "--batch-size", "8", "--epochs", "1", "--workers", "1"]);
    command
}

/// The line with which a run ends whose file at `place` has other content.
fn refusal(place: usize, content: &[u8]) -> String {
    let folder = folder();
    fs::write(folder.path().join("data").join(NAMES[place]), content).unwrap();
    let line = refused(&mut training(folder.path()), folder.path(), FAILED);
    assert_parts(&line, &["error: ", NAMES[place]]);
    line
}

/// The same for the file packed.
fn packed_refusal(place: usize, content: &[u8]) -> String {
    let folder = folder();
    let path = folder.path().join("data").join(NAMES[place]);
    fs::write(path.with_extension("gz"), content).unwrap();
    fs::remove_file(path).unwrap();
    let line = refused(&mut training(folder.path()), folder.path(), FAILED);
    assert_parts(&line, &["error: ", NAMES[place], ".gz"]);
    line
}

#[test]
fn the_good_files_are_good() {
    let folder = folder();
    let path = folder.path().join("data").join(NAMES[TRAIN_IMAGES]);
    fs::write(path.with_extension("gz"), gzip(&images(TRAIN, 28, 28))).unwrap();
    fs::remove_file(path).unwrap();
    start(&mut training(folder.path())).finish().done();
}

#[test]
fn a_missing_folder_or_file_is_named_with_the_remedy() {
    let folder = folder();
    let line = refused(coordinator(folder.path()).args(["--data-dir", "nowhere"]), folder.path(), FAILED);
    assert_parts(&line, &["there is no nowhere", "four MNIST files", "--data-dir"]);
    for name in NAMES {
        let path = folder.path().join("data").join(name);
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let line = refused(&mut training(folder.path()), folder.path(), FAILED);
        assert_parts(&line, &[&format!("{name} not found in data"), "but ", "data download --data-dir data"]);
        fs::write(path, content).unwrap();
    }
}

#[test]
fn every_wrong_length_is_named() {
    for (place, content) in good().into_iter().enumerate() {
        let (whole, short) = (content.len().to_string(), (content.len() - 1).to_string());
        assert_parts(
            &refusal(place, &content[..content.len() - 1]),
            &["truncated", &short, &whole, "delete it and"],
        );
        assert_parts(&refusal(place, &content[..5]), &["truncated", "5 of "]);
        assert_parts(&refusal(place, b""), &["truncated", "0 of "]);
        assert_parts(
            &refusal(place, &[&content[..], &[0]].concat()),
            &["goes on after", &whole, "delete it and"],
        );
    }
}

#[test]
fn a_damaged_packed_file_is_named() {
    let packed = gzip(&images(TRAIN, 28, 28));
    let mut flipped = packed.clone();
    flipped[packed.len() / 2] ^= 0x10;
    assert_parts(&packed_refusal(TRAIN_IMAGES, &flipped), &["damaged", "download it again"]);
    assert_parts(
        &packed_refusal(TRAIN_IMAGES, &packed[..packed.len() / 2]),
        &["damaged", "download it again"],
    );
    // The checksum at the end, and nothing else.
    assert_parts(
        &packed_refusal(TRAIN_IMAGES, &packed[..packed.len() - 4]),
        &["damaged", "download it again"],
    );
    let more = gzip(&[images(TRAIN, 28, 28), vec![0]].concat());
    assert_parts(&packed_refusal(TRAIN_IMAGES, &more), &["goes on after"]);
    let less = gzip(&labels(TRAIN)[..20]);
    assert_parts(&packed_refusal(TRAIN_LABELS, &less), &["truncated", "20 of 48"]);
}

#[test]
fn files_of_something_else_are_named() {
    let page = b"<!DOCTYPE html><html><body>404</body></html>";
    assert_parts(&refusal(TEST_IMAGES, page), &["0x3c21444f", "0x00000803", "wrong file"]);
    assert_parts(&refusal(TRAIN_IMAGES, &labels(TRAIN)), &["0x00000801", "0x00000803", "wrong file"]);
    assert_parts(&refusal(TRAIN_LABELS, &images(TRAIN, 28, 28)), &["0x00000803", "0x00000801", "wrong file"]);
    assert_parts(&refusal(TRAIN_IMAGES, &images(TRAIN, 32, 32)), &["32x32", "28x28"]);
    assert_parts(&refusal(TEST_IMAGES, &images(TEST, 28, 27)), &["28x27", "28x28"]);
}

#[test]
fn contents_that_do_not_fit_are_named() {
    let line = refusal(TRAIN_IMAGES, &images(TRAIN + 1, 28, 28));
    assert_parts(&line, &["has 41 images", NAMES[TRAIN_LABELS], "has 40 labels", "do not belong together"]);
    let line = refusal(TEST_LABELS, &labels(TEST - 1));
    assert_parts(&line, &[NAMES[TEST_IMAGES], "has 10 images", "has 9 labels"]);
    let mut ten = labels(TRAIN);
    ten[8 + 3] = 10;
    assert_parts(&refusal(TRAIN_LABELS, &ten), &["label 10 of item 3", "below 10"]);
    assert_parts(&refusal(TEST_IMAGES, &images(0, 28, 28)), &["0 items", "1 to "]);
    let mut many = labels(TRAIN);
    many[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_parts(&refusal(TRAIN_LABELS, &many), &["4294967295 items"]);
}

#[test]
fn more_examples_than_the_file_has_are_refused() {
    let folder = folder();
    let line = refused(training(folder.path()).args(["--examples", "41"]), folder.path(), USAGE);
    assert_parts(&line, &["--examples is 41", NAMES[TRAIN_IMAGES], "40"]);
}

/// The four good files, one of them with 16 GiB of zeros behind its content, in about 16 MB.
#[test]
fn a_gzip_bomb_takes_neither_time_nor_memory() {
    let zeros = gzip(&vec![0; 16 << 20]);
    for place in [TRAIN_IMAGES, TEST_LABELS] {
        let folder = folder();
        let path = folder.path().join("data").join(NAMES[place]);
        let mut bomb = File::create(path.with_extension("gz")).unwrap();
        bomb.write_all(&gzip(&good()[place])).unwrap();
        for _ in 0..1024 {
            bomb.write_all(&zeros).unwrap();
        }
        drop(bomb);
        fs::remove_file(path).unwrap();
        let begin = Instant::now();
        // 2 GiB of address space are a multiple of what a run takes, and an eighth of the bomb.
        let mut limited = Command::new("sh");
        let program = training(folder.path());
        limited.args(["-c", "ulimit -v 2097152 && exec \"$@\"", "sh"]).arg(program.get_program());
        limited.args(program.get_args()).current_dir(folder.path());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        let line = refused(&mut limited, folder.path(), FAILED);
        assert_parts(&line, &[NAMES[place], ".gz goes on after"]);
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}: it was unpacked to its end");
    }
}
