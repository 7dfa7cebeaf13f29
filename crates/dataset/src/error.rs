//! Owns every way in which data can be missing or wrong; never decides what to do about it.
//!
//! Each message is one line that names the culprit and the numbers, and what to do next where that is not plain.

use std::path::PathBuf;

/// Why a data set could not be loaded, downloaded or verified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder, or a file in it, is not there, is denied, or is something else.
    #[error("{reason}; name the folder that holds the four MNIST files with --data-dir")]
    Unreachable {
        /// What is so, as a sentence that names the path.
        reason: String,
    },
    /// The four files are in a folder below the one named.
    #[error(
        "the four MNIST files are not in {} but in {}: name that folder with --data-dir",
        dir.display(), found.display()
    )]
    Elsewhere {
        /// The folder named by the user.
        dir: PathBuf,
        /// Where they are.
        found: PathBuf,
    },
    /// One of the four files is not there.
    #[error(
        "{file} not found in {} (nor {looked_for}, nor either with .gz), {seen}: put the four MNIST files there, or \
         run `coordinator data download --data-dir {}`",
        place.display(), dir.display()
    )]
    MissingFile {
        /// Its canonical name.
        file: &'static str,
        /// The other spelling.
        looked_for: &'static str,
        /// The folder searched: `dir` or its `MNIST/raw`.
        place: PathBuf,
        /// The folder named by the user.
        dir: PathBuf,
        /// What is there instead.
        seen: String,
    },
    /// A downloaded file cannot be kept.
    #[error("cannot keep {}: {source}; name a folder that you may write to with --data-dir", path.display())]
    Unwritable {
        /// Where it was to be.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The gzip stream is damaged.
    #[error("{} is damaged: {reason}; delete it and download it again", path.display())]
    Gzip {
        /// The file.
        path: PathBuf,
        /// The decompressor's reason.
        reason: String,
    },
    /// The first four bytes are not those of the IDX file expected here.
    #[error(
        "{} starts with {found:#010x}, an IDX file of {what} starts with {expected:#010x}: wrong file, or not IDX",
        path.display()
    )]
    Magic {
        /// The file.
        path: PathBuf,
        /// Images or labels.
        what: &'static str,
        /// The number found.
        found: u32,
        /// The number expected.
        expected: u32,
    },
    /// The images are not 28x28.
    #[error("{} holds images of {rows}x{columns} pixels, this model takes 28x28", path.display())]
    Dimensions {
        /// The file.
        path: PathBuf,
        /// Rows by its header.
        rows: u32,
        /// Columns by its header.
        columns: u32,
    },
    /// The header promises no items, or more than is plausible.
    #[error("{} announces {count} items, 1 to {limit} are accepted", path.display())]
    Count {
        /// The file.
        path: PathBuf,
        /// Items by its header.
        count: u32,
        /// The most that is accepted.
        limit: u32,
    },
    /// The content ends early.
    #[error(
        "{} is truncated: {actual} of {expected} bytes (unpacked); delete it and download it again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes by its header.
        expected: u64,
        /// Bytes there.
        actual: u64,
    },
    /// The content goes on after the last item.
    #[error(
        "{} goes on after the {expected} bytes (unpacked) that its header announces; delete it and download it again",
        path.display()
    )]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// Bytes by its header.
        expected: u64,
    },
    /// A label is not a class.
    #[error("{}: label {label} of item {index} is not below 10, this model has ten classes", path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// The item, counted from 0.
        index: usize,
        /// Its label.
        label: u8,
    },
    /// Images and labels are not of the same set.
    #[error(
        "{} has {images} images but {} has {labels} labels: the files do not belong together",
        images_path.display(), labels_path.display()
    )]
    CountsDiffer {
        /// The file of images.
        images_path: PathBuf,
        /// Its items.
        images: usize,
        /// The file of labels.
        labels_path: PathBuf,
        /// Its items.
        labels: usize,
    },
    /// More examples were asked for than there are, or none.
    #[error(
        "cannot use the first {requested} training images: {origin} has {available}; ask for 1 to {available}"
    )]
    Examples {
        /// How many were asked for.
        requested: usize,
        /// How many there are.
        available: usize,
        /// The file, or the generator.
        origin: String,
    },
    /// Files are missing and the network must not be used.
    #[error(
        "{reason}, and --offline forbids the download: put the four MNIST files into that folder, use --data-dir, or \
         --dataset digits"
    )]
    Offline {
        /// Why the folder that was searched does not do.
        reason: String,
    },
    /// No mirror delivered a file.
    #[error("cannot download {file}: {attempts}; check the network, or use --data-dir or --dataset digits")]
    Download {
        /// Its canonical name.
        file: &'static str,
        /// Every mirror tried with its failure.
        attempts: String,
    },
    /// A file of other content is in the way of a download.
    #[error("{} is not the file of MNIST ({reason}): move it away, then download again", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The name of a data set is unknown.
    #[error("unknown data set {name:?}: use auto, mnist or digits")]
    UnknownChoice {
        /// The name given.
        name: String,
    },
}

impl Error {
    /// For `map_err` after an operation on `path`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
