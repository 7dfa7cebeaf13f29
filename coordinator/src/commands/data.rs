//! `coordinator data`: download and verify MNIST, draw a sheet of digits.

use std::path::Path;

use anyhow::Result;
use lockstep_dataset::{Choice, Source, contact_sheet};
use lockstep_model::Digest;
use lockstep_telemetry::Terminal;

use crate::cli::{DataCommand, PictureDataset};
use crate::commands::say;
use crate::run_directory::user_file;
use crate::start::DownloadDisplay;

/// Digits in a row and in a column of the picture.
const PICTURE_SIDE: usize = 10;

/// Does what the subcommand says; results go to standard output.
///
/// # Errors
///
/// Whatever is wrong with the data, the network or the file to write.
pub fn run(command: &DataCommand, terminal: &Terminal) -> Result<()> {
    match command {
        DataCommand::Download { data_dir } => {
            let mut source = Source::new(Choice::Mnist);
            source.data_dir.clone_from(data_dir);
            let mut display = DownloadDisplay::new(terminal);
            let folder = lockstep_dataset::download(&source, &mut |progress| display.show(progress))?;
            display.finish();
            verify(&folder)
        }
        DataCommand::Verify { data_dir } => {
            verify(&data_dir.clone().unwrap_or_else(|| Source::new(Choice::Mnist).cache_dir))
        }
        DataCommand::Picture { out, dataset, data_dir } => {
            let count = PICTURE_SIDE * PICTURE_SIDE;
            let examples = match dataset {
                PictureDataset::Digits => lockstep_dataset::digits_train(count),
                PictureDataset::Mnist => {
                    let mut source = Source::new(Choice::Mnist);
                    source.data_dir.clone_from(data_dir);
                    source.offline = true;
                    source.examples = Some(count);
                    lockstep_dataset::load(&source, &mut |_| {})?.train
                }
            };
            let picture = contact_sheet(&examples, PICTURE_SIDE, PICTURE_SIDE);
            user_file::write(out, &picture, "--out")?;
            user_file::voice(Some(out))(&format!("{}\n", out.display()))
        }
    }
}

fn verify(folder: &Path) -> Result<()> {
    let reports = lockstep_dataset::verify(folder)?;
    let mut text = String::new();
    for report in reports {
        let verdict = if report.known {
            "MNIST"
        } else {
            "not MNIST's content; any IDX data of this shape may be used"
        };
        text.push_str(&format!("{}  {}  {verdict}\n", Digest(report.sha256), report.path.display()));
    }
    say(&text)
}
