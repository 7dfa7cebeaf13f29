//! Training data: IDX files, the MNIST download, generated digits and the order of examples.
//!
//! Everything a run trains on comes from [`load`], as bytes in memory with the SHA-256 that becomes part of
//! the run's identity. The crate never converts a pixel to a float for training, never splits a batch and
//! never touches the network outside `download.rs`.
//!
//! | file | owns |
//! |---|---|
//! | `source.rs` | which data set a run gets: `auto`, `mnist`, `digits` |
//! | `folder.rs` | the four files of a folder: where they lie, whether they belong together |
//! | `idx.rs` | one IDX file, plain or gzip, checked strictly |
//! | `mnist.rs` | names and digests of MNIST's files |
//! | `download.rs` | MNIST from its mirrors, verified, atomically put in place |
//! | `digits.rs`, `strokes.rs`, `handwriting.rs`, `raster.rs` | the generated digits: their shapes, the hand, the ink |
//! | `order.rs` | the permutation of every epoch |
//! | `examples.rs` | images and labels in memory, their digest, the validation split |
//! | `sheet.rs` | a picture of many digits |
//! | `stream.rs`, `draw.rs` | random streams by (seed, stream, index), and the numbers drawn from them |
//! | `certificates.rs`, `look_up.rs` | whom the download trusts, and how it finds a host |
//! | `threads.rs` | the threads that read and draw |
//! | `error.rs` | every way this can fail |
//! | `missing.rs` | the sentence about a path that cannot be had |

mod certificates;
mod digits;
mod download;
mod draw;
mod error;
mod examples;
mod folder;
mod handwriting;
mod idx;
mod look_up;
mod missing;
mod mnist;
mod order;
mod raster;
mod sheet;
mod source;
mod stream;
mod strokes;
#[cfg(test)]
mod testing;
mod threads;

pub use digits::{DIGITS_TEST, DIGITS_TRAIN, digits_test, digits_train};
pub use download::{MIRRORS, Progress, download};
pub use error::Error;
pub use examples::{CLASSES, Dataset, Examples, IMAGE_PIXELS, IMAGE_SIDE, Kind, validation_examples};
pub use folder::{FileReport, verify};
pub use missing::why_not;
pub use order::{epoch_order, epoch_order_into};
pub use sheet::{Picture, SHEET_COLUMNS, contact_sheet, prediction_sheet};
pub use source::{Choice, Source, load};
