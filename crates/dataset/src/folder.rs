//! Owns a folder of IDX files: where the four lie, whether they belong together, whether they are known.
//!
//! Never writes, and never uses the network.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::Error;
use crate::examples::{Examples, hex};
use crate::idx::{self, Content, IdxFile};
use crate::mnist::{self, Digests, Role};
use crate::threads::on_all_cores;

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
    let files = read_all(dir)?;
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

/// Reads the four files of `dir`.
pub(crate) fn load(dir: &Path, known: &Digests) -> Result<Folder, Error> {
    let files = read_all(dir)?;
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
    Role::ALL.iter().all(|&role| find(&place, role).is_some())
}

/// The folder that holds the files: `dir`, or `dir/MNIST/raw` if only that has any.
pub(crate) fn place(dir: &Path) -> PathBuf {
    let nested = dir.join("MNIST").join("raw");
    let has_any = |dir: &Path| Role::ALL.iter().any(|&role| find(dir, role).is_some());
    if !has_any(dir) && has_any(&nested) { nested } else { dir.to_owned() }
}

/// The file with this role, by any of its spellings.
pub(crate) fn find(place: &Path, role: Role) -> Option<PathBuf> {
    role.spellings().into_iter().map(|name| place.join(name)).find(|path| path.is_file())
}

/// What the file with this role must hold.
pub(crate) fn content(role: Role) -> Content {
    match role {
        Role::TrainImages | Role::TestImages => Content::Images,
        Role::TrainLabels | Role::TestLabels => Content::Labels,
    }
}

/// Reads the four files in parallel; of several errors, the first in the order of [`Role::ALL`] is reported.
fn read_all(dir: &Path) -> Result<[(PathBuf, IdxFile); 4], Error> {
    if !dir.is_dir() {
        return Err(Error::NotAFolder { dir: dir.into() });
    }
    let place = place(dir);
    let mut paths = Vec::with_capacity(4);
    for role in Role::ALL {
        paths.push((role, find(&place, role).ok_or_else(|| missing(&place, dir, role))?));
    }
    // One task per file: rayon must not put the largest file and another into the same one.
    let mut results: Vec<_> = on_all_cores(|| {
        let read =
            |(role, path): &(Role, PathBuf)| idx::read(path, content(*role)).map(|file| (path.clone(), file));
        paths.par_iter().with_max_len(1).map(read).collect()
    });
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
    let (file, looked_for) = (role.file_name(), role.dotted_name());
    Error::MissingFile { file, looked_for, place: place.into(), dir: dir.into() }
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
            let loaded = load(folder, &known).unwrap();
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
        let loaded = load(dir.path(), &mnist::DIGESTS).unwrap();
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
                "t10k-images-idx3-ubyte not found in {here} (nor t10k-images.idx3-ubyte, nor either with .gz): \
                 put the four MNIST files there, or run `coordinator data download --data-dir {here}`"
            )
        );
        let nowhere = dir.path().join("nowhere");
        assert!(matches!(verify(&nowhere), Err(Error::NotAFolder { .. })));
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
