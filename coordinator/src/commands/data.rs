//! `coordinator data`: download and verify MNIST, draw a sheet of digits.

use std::path::Path;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use lockstep_dataset::{Choice, Progress, Source, contact_sheet};
use lockstep_model::Digest;
use lockstep_telemetry::Terminal;

use crate::cli::{DataCommand, PictureDataset};
use crate::output::print;
use crate::run_directory::user_file;

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
    print(&text)
}

/// A progress bar for each file of a download; where standard error is no terminal, a line.
pub struct DownloadDisplay<'a> {
    terminal: &'a Terminal,
    file: String,
    bar: Option<ProgressBar>,
}

impl<'a> DownloadDisplay<'a> {
    /// Shows nothing yet.
    pub fn new(terminal: &'a Terminal) -> Self {
        Self { terminal, file: String::new(), bar: None }
    }

    /// Shows how far a file is.
    pub fn show(&mut self, progress: Progress<'_>) {
        if self.file != progress.file {
            self.finish();
            self.file = progress.file.to_string();
            if self.terminal.is_interactive() {
                let bar = ProgressBar::new(progress.total.unwrap_or(0));
                let style = ProgressStyle::with_template(
                    "downloading {msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                );
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.set_message(self.file.clone());
                self.terminal.attach(&bar);
                self.bar = Some(bar);
            } else {
                self.terminal.print_line(&format!("downloading {}", self.file));
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total.unwrap_or(progress.bytes));
            bar.set_position(progress.bytes);
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.terminal.detach();
        }
    }
}
