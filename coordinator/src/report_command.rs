//! `coordinator report`: writes `report.html` of a run from its files, finished or not.
//!
//! It reads like `coordinator show`, may run beside the coordinator that trains, and writes the one file.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use lockstep_telemetry::Terminal;

use crate::cli::EXIT_DONE;
use crate::gauge;
use crate::html_report;
use crate::run_directory::RunDirectory;
use crate::show_command::data_of;
use crate::verify_command::settings_of;

/// Which run to report on, and where to.
#[derive(Args)]
pub struct Arguments {
    /// Folder of the run
    #[arg(value_name = "RUN_DIR")]
    run_dir: PathBuf,
    /// File to write [default: report.html in the run's folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Folder of the data, for the test digits [default: where the run had them]
    #[arg(long, env = "LOCKSTEP_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Writes the report; returns the exit code.
///
/// # Errors
///
/// If the run cannot be read or the file not be written.
pub fn run(arguments: &Arguments, terminal: &Terminal) -> Result<u8> {
    let mut settings = settings_of(&arguments.run_dir)?;
    settings.offline = true;
    settings.data_dir = arguments.data_dir.clone().or(settings.data_dir);
    let directory = RunDirectory::open(&arguments.run_dir)?;
    // Before the data, which take longer.
    let facts = html_report::read(&directory)?;
    let digits = data_of(&settings, terminal).map(|dataset| gauge::sample(&dataset.test));
    let digits = digits.map_err(|error| {
        tracing::warn!("the report has no test digits: {error:#}; name the folder of the data with --data-dir");
        "The data of the run were not there when this was written: `coordinator report` takes their folder with --data-dir."
            .to_string()
    });
    let path = arguments.out.clone().unwrap_or_else(|| directory.report());
    lockstep_checkpoint::write_atomically(&path, facts.page(digits).as_bytes())?;
    let said = writeln!(std::io::stdout(), "report {}", path.display());
    match said {
        // Who closed the pipe wants no more.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(EXIT_DONE),
    }
}
