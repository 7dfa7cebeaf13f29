//! The progress of a download on the terminal.

use indicatif::{ProgressBar, ProgressStyle};
use lockstep_dataset::Progress;
use lockstep_telemetry::Terminal;

/// A progress bar for each file of a download; where standard error is no terminal, a line.
pub(crate) struct DownloadDisplay<'a> {
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
