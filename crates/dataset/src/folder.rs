//! Owns a folder of IDX files: where the four lie, whether they belong together, whether they are known.
//!
//! Never writes, and never uses the network.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::Error;
use crate::examples::{Examples, hex};
use crate::idx::{self, Content, IdxFile};
use crate::missing::why_not;
use crate::mnist::{self, Digests, Role};

/// Names of a folder that a message lists.
const LISTED: usize = 8;
/// Names of a folder that are looked at for a message.
const LOOKED_AT: usize = 256;
/// How far below a folder the four files are looked for, for a message: `FashionMNIST/raw`.
const DEPTH: usize = 2;

/// Files that are in memory only, packed or not, in the order of [`Role::ALL`].
pub(crate) type Held = [Option<Vec<u8>>; 4];

/// One file of a verified folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Where it lies.
    pub path: PathBuf,
    /// Number of images or labels.
    pub items: usize,
    /// SHA-256 of the unpacked content.
    pub sha256: [u8; 32],
    /// Whether that is the SHA-256 of MNIST's file.
    pub known: bool,
}

/// Reads and checks the four files of `dir` as a run would: training images, training labels, test images,
/// test labels.
///
/// # Errors
/// If a file is missing or wrong, or if images and labels do not belong together.
pub fn verify(dir: &Path) -> Result<Vec<FileReport>, Error> {
    let files = read_all(dir, Held::default())?;
    let report = |(role, (path, file)): (Role, (PathBuf, IdxFile))| FileReport {
        path,
        items: file.items,
        sha256: file.sha256,
        known: file.sha256 == *role.digest(&mnist::DIGESTS),
    };
    Ok(Role::ALL.into_iter().zip(files).map(report).collect())
}

/// What a folder holds.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) train: Examples,
    pub(crate) test: Examples,
    /// A line for each file whose digest is not among the known ones.
    pub(crate) notes: Vec<String>,
    /// Where the training images come from, for messages.
    pub(crate) train_images: PathBuf,
}

/// Reads the four files of `dir`, or in the place of one what is `held` of it.
pub(crate) fn load(dir: &Path, held: Held, known: &Digests) -> Result<Folder, Error> {
    let files = read_all(dir, held)?;
    let mut notes = Vec::new();
    for (role, (path, file)) in Role::ALL.into_iter().zip(&files) {
        if file.sha256 != *role.digest(known) {
            notes.push(format!(
                "{} is not MNIST's file: its SHA-256 {} is unknown (other data, or a damaged copy)",
                path.display(),
                hex(&file.sha256)
            ));
        }
    }
    let [(train_images, a), (_, b), (_, c), (_, d)] = files;
    Ok(Folder {
        train: Examples { images: a.data, labels: b.data },
        test: Examples { images: c.data, labels: d.data },
        notes,
        train_images,
    })
}

/// Whether all four files are there; says nothing about their content.
pub(crate) fn is_complete(dir: &Path) -> bool {
    let place = place(dir);
    Role::ALL.iter().all(|&role| has(&place, role))
}

/// The folder that holds the files: `dir`, or `dir/MNIST/raw` if only that has any.
pub(crate) fn place(dir: &Path) -> PathBuf {
    let nested = dir.join("MNIST").join("raw");
    let has_any = |dir: &Path| Role::ALL.iter().any(|&role| has(dir, role));
    if !has_any(dir) && has_any(&nested) { nested } else { dir.to_owned() }
}

fn has(place: &Path, role: Role) -> bool {
    find(place, role).is_ok_and(|found| found.is_some())
}

/// The file with this role, by any of its spellings; `None` if there is none.
///
/// # Errors
/// If the system does not let us see, or there is nothing but a link to nothing.
pub(crate) fn find(place: &Path, role: Role) -> Result<Option<PathBuf>, Error> {
    let mut reason = None;
    for path in role.spellings().map(|name| place.join(name)) {
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => return Ok(Some(path)),
            // Some archives have a folder of that name, and the file in it.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => {}
            Err(error) => reason = reason.or_else(|| Some(why_not(&path, &error))),
        }
    }
    reason.map_or(Ok(None), |reason| Err(Error::Unreachable { reason }))
}

/// What the file with this role must hold.
pub(crate) fn content(role: Role) -> Content {
    match role {
        Role::TrainImages | Role::TestImages => Content::Images,
        Role::TrainLabels | Role::TestLabels => Content::Labels,
    }
}

/// Refuses what is no folder.
pub(crate) fn check(dir: &Path) -> Result<(), Error> {
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Error::Unreachable { reason: format!("{} is a file and no folder", dir.display()) }),
        Err(error) => Err(Error::Unreachable { reason: why_not(dir, &error) }),
    }
}

/// Reads the four files in parallel; of several errors, the first in the order of [`Role::ALL`] is reported.
fn read_all(dir: &Path, held: Held) -> Result<[(PathBuf, IdxFile); 4], Error> {
    if held.iter().any(Option::is_none) {
        check(dir)?;
    }
    let place = place(dir);
    let mut paths = Vec::with_capacity(4);
    for (role, held) in Role::ALL.into_iter().zip(held) {
        let path = match held {
            Some(_) => place.join(role.file_name()),
            None => find(&place, role)?.ok_or_else(|| missing(&place, dir, role))?,
        };
        paths.push((role, path, held));
    }
    // One task per file: rayon must not put the largest file and another into the same one.
    let mut results: Vec<_> = paths
        .par_iter()
        .with_max_len(1)
        .map(|(role, path, held)| {
            let file = match held {
                Some(bytes) => idx::read_bytes(bytes, content(*role), path),
                None => idx::read(path, content(*role)),
            };
            file.map(|file| (path.clone(), file))
        })
        .collect();
    let mut next = || results.remove(0);
    let files = [next()?, next()?, next()?, next()?];
    for pair in [&files[..2], &files[2..]] {
        let [(images_path, images), (labels_path, labels)] = pair else { unreachable!() };
        if images.items != labels.items {
            return Err(Error::CountsDiffer {
                images_path: images_path.clone(),
                images: images.items,
                labels_path: labels_path.clone(),
                labels: labels.items,
            });
        }
    }
    Ok(files)
}

fn missing(place: &Path, dir: &Path, role: Role) -> Error {
    if let Some(found) = complete_below(dir, DEPTH) {
        return Error::Elsewhere { dir: dir.into(), found };
    }
    let (file, looked_for) = (role.file_name(), role.dotted_name());
    Error::MissingFile { file, looked_for, place: place.into(), dir: dir.into(), seen: seen(place) }
}

/// A folder below `dir` that has all four.
fn complete_below(dir: &Path, depth: usize) -> Option<PathBuf> {
    let mut below: Vec<PathBuf> = names(dir).into_iter().map(|name| dir.join(name)).collect();
    below.retain(|path| path.is_dir());
    let complete = below.iter().find(|path| Role::ALL.iter().all(|&role| has(path, role)));
    let deeper = || below.iter().filter(|_| depth > 1).find_map(|path| complete_below(path, depth - 1));
    complete.cloned().or_else(deeper)
}

/// What is in a folder, in words.
fn seen(place: &Path) -> String {
    let names = names(place);
    if names.is_empty() {
        return "and nothing else is there".to_owned();
    }
    let listed = names[..names.len().min(LISTED)].join(", ");
    let more = match names.len() - names.len().min(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let emnist = match names.iter().any(|name| name.starts_with("emnist-")) {
        true => "; for EMNIST, give the files of one of its sets those names",
        false => "",
    };
    format!("but {listed}{more}{emnist}")
}

/// The names in a folder, in order, as one line each; none if the system does not let us see.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().take(LOOKED_AT);
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().replace(char::is_control, "?")).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{idx_images, idx_labels, quadruple, quadruple_digests, write_packed};
    use std::fs;

    #[test]
    fn every_layout_holds_the_same_examples() {
        let dir = tempfile::tempdir().unwrap();
        let (packed, plain, dotted) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        let nested = dir.path().join("d");
        write_packed(&packed);
        write_packed(&nested.join("MNIST").join("raw"));
        for (folder, name) in [(&plain, Role::file_name as fn(Role) -> _), (&dotted, Role::dotted_name)] {
            fs::create_dir_all(folder).unwrap();
            for (role, content) in Role::ALL.into_iter().zip(quadruple()) {
                fs::write(folder.join(name(role)), content).unwrap();
            }
        }
        let known = quadruple_digests();
        for folder in [&packed, &plain, &dotted, &nested] {
            assert!(is_complete(folder));
            let loaded = load(folder, Held::default(), &known).unwrap();
            assert_eq!(loaded.train.labels, [5, 0, 4, 1, 9, 2]);
            assert_eq!(loaded.train.images, idx_images(6)[16..]);
            assert_eq!(loaded.test.labels, [7, 2, 1, 0]);
            assert_eq!(loaded.test.image(3), &idx_images(4)[16 + 3 * 784..]);
            assert!(loaded.notes.is_empty());
        }
    }

    #[test]
    fn unknown_data_are_accepted_with_a_note_for_each_file() {
        let dir = tempfile::tempdir().unwrap();
        write_packed(dir.path());
        let loaded = load(dir.path(), Held::default(), &mnist::DIGESTS).unwrap();
        assert_eq!(loaded.notes.len(), 4);
        assert!(loaded.notes[1].contains("train-labels-idx1-ubyte.gz"), "{}", loaded.notes[1]);
        let reports = verify(dir.path()).unwrap();
        assert_eq!(reports.iter().map(|report| report.items).collect::<Vec<_>>(), [6, 6, 4, 4]);
        assert_eq!(reports[2].sha256, quadruple_digests()[2]);
        assert!(reports.iter().all(|report| !report.known));
    }

    #[test]
    fn a_missing_file_is_named_with_folder_and_remedy() {
        let dir = tempfile::tempdir().unwrap();
        write_packed(dir.path());
        fs::remove_file(dir.path().join("t10k-images-idx3-ubyte.gz")).unwrap();
        assert!(!is_complete(dir.path()));
        let here = dir.path().display().to_string();
        assert_eq!(
            verify(dir.path()).unwrap_err().to_string(),
            format!(
                "t10k-images-idx3-ubyte not found in {here} (nor t10k-images.idx3-ubyte, nor either with .gz), but \
                 t10k-labels-idx1-ubyte.gz, train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz: put the four MNIST \
                 files there, or run `coordinator data download --data-dir {here}`"
            )
        );
    }

    #[test]
    fn what_a_folder_has_instead_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("data");
        let refused = || verify(&dir).unwrap_err().to_string().replace(dir.to_str().unwrap(), "DATA");
        const REMEDY: &str = "; name the folder that holds the four MNIST files with --data-dir";
        assert_eq!(refused(), format!("there is no DATA{REMEDY}"));
        std::os::unix::fs::symlink("gone", &dir).unwrap();
        assert_eq!(refused(), format!("DATA is a link to gone, and nothing is there{REMEDY}"));
        fs::remove_file(&dir).unwrap();
        fs::write(&dir, "").unwrap();
        assert_eq!(refused(), format!("DATA is a file and no folder{REMEDY}"));
        fs::remove_file(&dir).unwrap();

        fs::create_dir(&dir).unwrap();
        assert!(refused().contains("with .gz), and nothing else is there: put"), "{}", refused());
        for set in ["digits", "letters"] {
            for part in ["train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1"] {
                fs::write(dir.join(format!("emnist-{set}-{part}-ubyte.gz")), "").unwrap();
            }
        }
        fs::write(dir.join("notes\n.txt"), "").unwrap();
        let message = refused();
        let expected =
            "but emnist-digits-test-images-idx3-ubyte.gz, emnist-digits-test-labels-idx1-ubyte.gz, ";
        assert!(message.contains(expected) && message.contains(" and 1 more; for EMNIST, give"), "{message}");
        assert!(!message.contains('\n'), "{message}");

        // As torchvision and Kaggle have them; folders of the files' names are none of them.
        write_packed(&dir.join("FashionMNIST/raw"));
        fs::create_dir(dir.join("train-images-idx3-ubyte")).unwrap();
        assert_eq!(
            refused(),
            "the four MNIST files are not in DATA but in DATA/FashionMNIST/raw: name that folder with --data-dir"
        );
        write_packed(&dir.join("MNIST/raw"));
        assert_eq!(verify(&dir).unwrap()[0].items, 6, "MNIST's own place does");

        let link = dir.join("MNIST/raw/t10k-labels-idx1-ubyte.gz");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let message = refused();
        assert!(message.contains("t10k-labels-idx1-ubyte.gz is a link to nowhere, and nothing"), "{message}");
    }

    #[test]
    fn files_that_do_not_belong_together_are_named() {
        let dir = tempfile::tempdir().unwrap();
        write_packed(dir.path());
        fs::write(dir.path().join("t10k-labels-idx1-ubyte"), idx_labels(&[1, 2, 3])).unwrap();
        let error = verify(dir.path()).unwrap_err().to_string();
        assert!(error.contains("t10k-images-idx3-ubyte.gz has 4 images but"), "{error}");
        assert!(error.contains("t10k-labels-idx1-ubyte has 3 labels: "), "{error}");
    }

    #[test]
    fn real_mnist_is_recognised() {
        let Some(dir) = std::env::var_os("LOCKSTEP_DATA") else {
            eprintln!("skipped: set LOCKSTEP_DATA to a folder with the four MNIST files");
            return;
        };
        let reports = verify(Path::new(&dir)).unwrap();
        assert!(reports.iter().all(|report| report.known), "{reports:?}");
        assert_eq!(
            reports.iter().map(|report| report.items).collect::<Vec<_>>(),
            [60_000, 60_000, 10_000, 10_000]
        );
    }
}
