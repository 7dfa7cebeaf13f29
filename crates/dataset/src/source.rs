//! Owns the choice of data set: the folder, the cache, the download or the generated digits.
//!
//! Never falls back in silence, and never at all for `mnist` or with a data folder.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use etcetera::BaseStrategy;

use crate::digits::{DIGITS_TEST, DIGITS_TRAIN, digits_test, digits_train};
use crate::download::{self, MIRRORS, Progress};
use crate::error::Error;
use crate::examples::{Dataset, Kind};
use crate::folder::{self, Folder, Held};
use crate::mnist::{self, Digests};

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Choice {
    /// With a data folder, the files there; else MNIST from cache or mirrors; else generated digits.
    #[default]
    Auto,
    /// IDX files from the data folder, or MNIST from cache or mirrors; nothing else.
    Mnist,
    /// Generated digits.
    Digits,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Mnist => "mnist",
            Self::Digits => "digits",
        })
    }
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "auto" => Ok(Self::Auto),
            "mnist" => Ok(Self::Mnist),
            "digits" => Ok(Self::Digits),
            _ => Err(Error::UnknownChoice { name: name.into() }),
        }
    }
}

/// Where the data come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which data set.
    pub choice: Choice,
    /// A folder with the four files; `None` means the cache.
    pub data_dir: Option<PathBuf>,
    /// Never use the network.
    pub offline: bool,
    /// Use the first this many training images only; `None` means all.
    pub examples: Option<usize>,
    /// Where downloads are kept.
    pub cache_dir: PathBuf,
    /// Addresses that the name of a file is appended to, tried in turn.
    pub mirrors: Vec<String>,
}

impl Source {
    /// `choice` with the user's cache folder and the public mirrors.
    pub fn new(choice: Choice) -> Self {
        // Without a home folder (a bare container), a folder that lives as long as the container.
        let cache = etcetera::choose_base_strategy()
            .map_or_else(|_| std::env::temp_dir(), |strategy| strategy.cache_dir());
        Self {
            choice,
            data_dir: None,
            offline: false,
            examples: None,
            cache_dir: cache.join("lockstep").join("mnist"),
            mirrors: MIRRORS.map(str::to_owned).into(),
        }
    }
}

/// Loads what a run trains on; `progress` hears of downloads only.
///
/// # Errors
/// If the files of a data folder, or of a complete cache, are wrong; if MNIST was asked for and cannot be
/// had; if there are fewer examples than asked for.
pub fn load(source: &Source, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Dataset, Error> {
    load_known(source, &mnist::DIGESTS, progress)
}

fn load_known(
    source: &Source,
    known: &Digests,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Dataset, Error> {
    match (source.choice, &source.data_dir) {
        (Choice::Digits, _) => generated(source),
        (Choice::Auto | Choice::Mnist, Some(dir)) => {
            of_files(source, folder::load(dir, Held::default(), known)?)
        }
        (choice, None) => match ready_cache(source, known, progress) {
            Ok((held, note)) => {
                let mut dataset = of_files(source, folder::load(&source.cache_dir, held, known)?)?;
                dataset.notes.extend(note);
                Ok(dataset)
            }
            Err(reason) if choice == Choice::Auto => {
                Ok(Dataset { fallback: Some(reason.to_string()), ..generated(source)? })
            }
            Err(error) => Err(error),
        },
    }
}

/// Makes sure that there are four files: in the cache, or those that it cannot keep in memory, with a sentence that says
/// why.
fn ready_cache(
    source: &Source,
    known: &Digests,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Held, Option<String>), Error> {
    if folder::is_complete(&source.cache_dir) {
        return Ok((Held::default(), None));
    }
    download::into_cache(source, known, progress)
}

fn of_files(source: &Source, folder: Folder) -> Result<Dataset, Error> {
    let Folder { mut train, test, notes, train_images } = folder;
    let n = cut(source, train.len(), || train_images.display().to_string())?;
    train.truncate(n);
    Ok(Dataset { notes, ..Dataset::new(Kind::Mnist, train, test) })
}

fn generated(source: &Source) -> Result<Dataset, Error> {
    let n = cut(source, DIGITS_TRAIN, || "the generator of digits".into())?;
    let mut dataset = Dataset::new(Kind::Digits, digits_train(n), digits_test(DIGITS_TEST));
    if let Some(dir) = &source.data_dir {
        dataset.notes.push(format!("the data folder {} is not used: digits are generated", dir.display()));
    }
    Ok(dataset)
}

/// How many of the `available` training images the run uses.
fn cut(source: &Source, available: usize, origin: impl FnOnce() -> String) -> Result<usize, Error> {
    let requested = source.examples.unwrap_or(available);
    if requested == 0 || requested > available {
        return Err(Error::Examples { requested, available, origin: origin() });
    }
    Ok(requested)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Mirror, good, idx_images, quadruple_digests, unreachable_url, write_packed};
    use std::fs;
    use std::path::Path;

    fn source(choice: Choice, dir: &Path, mirror: String) -> Source {
        Source {
            choice,
            examples: Some(5),
            cache_dir: dir.join("cache"),
            mirrors: vec![mirror],
            ..Source::new(choice)
        }
    }

    fn run(source: &Source) -> Result<Dataset, Error> {
        load_known(source, &quadruple_digests(), &mut |_| {})
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for choice in [Choice::Auto, Choice::Mnist, Choice::Digits] {
            assert_eq!(choice.to_string().parse::<Choice>().unwrap(), choice);
        }
        assert_eq!(
            "MNIST".parse::<Choice>().unwrap_err().to_string(),
            "unknown data set \"MNIST\": use auto, mnist or digits"
        );
    }

    #[test]
    fn auto_downloads_once_and_then_reads_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = Mirror::start(good);
        let first = run(&source(Choice::Auto, dir.path(), mirror.url())).unwrap();
        assert_eq!((first.kind, mirror.requests()), (Kind::Mnist, 4));
        assert_eq!((first.fallback, first.notes), (None, vec![]));
        assert_eq!(first.train.labels, [5, 0, 4, 1, 9]);
        assert_eq!(first.train.images, idx_images(6)[16..][..5 * 784]);
        let offline = Source { offline: true, ..source(Choice::Mnist, dir.path(), unreachable_url()) };
        let second = run(&offline).unwrap();
        assert_eq!((second.digest, second.test.len()), (first.digest, 4));
        let all = run(&Source { examples: None, ..offline }).unwrap();
        assert_eq!(all.train.len(), 6);
        assert_ne!(all.digest, first.digest);
    }

    #[test]
    fn auto_falls_back_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = unreachable_url();
        let dataset = run(&source(Choice::Auto, dir.path(), nobody.clone())).unwrap();
        assert_eq!((dataset.kind, dataset.train.len(), dataset.test.len()), (Kind::Digits, 5, 10_000));
        let reason = dataset.fallback.unwrap();
        assert!(reason.contains(&nobody) && reason.contains("train-images"), "{reason}");
        let asked = run(&source(Choice::Digits, dir.path(), nobody)).unwrap();
        assert_eq!((asked.digest, asked.fallback), (dataset.digest, None));
    }

    #[test]
    fn a_cache_that_cannot_be_written_prevents_no_download() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = Mirror::start(good);
        // As a folder of somebody else's, whoever runs this test.
        fs::write(dir.path().join("cache"), "a file").unwrap();
        for choice in [Choice::Auto, Choice::Mnist] {
            let dataset = run(&source(choice, dir.path(), mirror.url())).unwrap();
            assert_eq!((dataset.kind, dataset.fallback), (Kind::Mnist, None));
            assert_eq!(dataset.train.labels, [5, 0, 4, 1, 9]);
            let [note] = &*dataset.notes else { panic!("{:?}", dataset.notes) };
            assert!(note.starts_with("cannot keep ") && note.contains("cache/train-images-idx3"), "{note}");
            assert!(note.ends_with("until then each start downloads MNIST again"), "{note}");
        }
        assert_eq!(mirror.requests(), 8);
        // And a fallback is not blamed on it.
        let reason = run(&source(Choice::Auto, dir.path(), unreachable_url())).unwrap().fallback.unwrap();
        assert!(reason.starts_with("cannot download train-images-idx3-ubyte: "), "{reason}");
        let offline = Source { offline: true, ..source(Choice::Auto, dir.path(), mirror.url()) };
        let reason = run(&offline).unwrap().fallback.unwrap();
        let cache = dir.path().join("cache");
        assert!(reason.contains(&format!("{} is a file and no folder", cache.display())), "{reason}");
    }

    #[test]
    fn what_the_cache_has_already_is_not_downloaded_again_for_what_it_cannot_keep() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = Mirror::start(good);
        let cache = dir.path().join("cache");
        write_packed(&cache);
        // A folder in the place of a file cannot be replaced by it, and is none.
        fs::remove_file(cache.join("t10k-labels-idx1-ubyte.gz")).unwrap();
        fs::create_dir(cache.join("t10k-labels-idx1-ubyte.gz")).unwrap();
        let dataset = run(&source(Choice::Mnist, dir.path(), mirror.url())).unwrap();
        assert_eq!((dataset.test.labels, mirror.requests()), (vec![7, 2, 1, 0], 1));
        assert_eq!(dataset.notes.len(), 1);
    }

    #[test]
    fn offline_leaves_the_network_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = Mirror::start(good);
        let offline = |choice| Source { offline: true, ..source(choice, dir.path(), mirror.url()) };
        let fallback = run(&offline(Choice::Auto)).unwrap().fallback.unwrap();
        assert!(fallback.contains("--offline"), "{fallback}");
        assert!(matches!(run(&offline(Choice::Mnist)), Err(Error::Offline { .. })));
        assert_eq!(mirror.requests(), 0);
        assert!(!dir.path().join("cache").exists());
    }

    #[test]
    fn mnist_never_falls_back() {
        let dir = tempfile::tempdir().unwrap();
        let result = run(&source(Choice::Mnist, dir.path(), unreachable_url()));
        assert!(matches!(result, Err(Error::Download { .. })));
    }

    #[test]
    fn a_data_folder_is_the_only_place_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = Mirror::start(good);
        write_packed(&dir.path().join("cache"));
        for choice in [Choice::Auto, Choice::Mnist] {
            let data_dir = Some(dir.path().to_owned());
            let source = Source { data_dir, ..source(choice, dir.path(), mirror.url()) };
            assert!(matches!(run(&source), Err(Error::Elsewhere { .. })), "not even below it");
        }
        assert_eq!(mirror.requests(), 0);
        let data_dir = Some(dir.path().join("cache"));
        let found = run(&Source { data_dir, ..source(Choice::Auto, dir.path(), mirror.url()) }).unwrap();
        assert_eq!(found.kind, Kind::Mnist);
    }

    #[test]
    fn a_damaged_cache_is_an_error_and_not_a_fallback() {
        let dir = tempfile::tempdir().unwrap();
        write_packed(&dir.path().join("cache"));
        fs::write(dir.path().join("cache/train-labels-idx1-ubyte.gz"), b"\x1f\x8b damaged").unwrap();
        let error = run(&source(Choice::Auto, dir.path(), unreachable_url())).unwrap_err();
        assert!(matches!(error, Error::Gzip { .. }), "{error}");
    }

    #[test]
    fn more_examples_than_there_are_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        write_packed(&dir.path().join("cache"));
        let source = |choice, examples| Source {
            examples: Some(examples),
            ..source(choice, dir.path(), unreachable_url())
        };
        let error = run(&source(Choice::Mnist, 7)).unwrap_err().to_string();
        assert!(error.starts_with("cannot use the first 7 training images: "), "{error}");
        assert!(error.ends_with("train-images-idx3-ubyte.gz has 6; ask for 1 to 6"), "{error}");
        assert!(matches!(run(&source(Choice::Mnist, 0)), Err(Error::Examples { requested: 0, .. })));
        assert_eq!(
            run(&source(Choice::Digits, 60_001)).unwrap_err().to_string(),
            "cannot use the first 60001 training images: the generator of digits has 60000; ask for 1 to 60000"
        );
    }
}
