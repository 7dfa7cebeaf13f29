//! `coordinator report`: writes `report.html` of a run from its files, finished or not.
//!
//! It reads like `coordinator show`, may run beside the coordinator that trains, and writes the one file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use lockstep_command_line::exit::{EXIT_DONE, sentence};
use lockstep_html_report as html_report;
use lockstep_run_directory::stored_run::StoredRun;
use lockstep_run_directory::user_file;
use lockstep_telemetry::Terminal;

use crate::commands::settings_of;
use crate::commands::show::data_of;

/// Which run to report on, and where to.
#[derive(Args)]
pub struct Arguments {
    /// Folder of the run
    #[arg(value_name = "RUN_DIR")]
    run_dir: PathBuf,
    /// File to write, - for standard output [default: report.html in the run's folder]
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
    let run = StoredRun::open(&arguments.run_dir)?;
    let mut settings = settings_of(&run)?;
    settings.offline = true;
    settings.data_dir = arguments.data_dir.clone().or(settings.data_dir);
    // Before the data, which take longer.
    let facts = html_report::read(&run)?;
    let digits = data_of(&settings, terminal).map(|dataset| dataset.test.sample());
    let digits = digits.map_err(|error| {
        tracing::warn!("the report has no test digits: {}", sentence(&error));
        "The data of the run were not there when this was written: `coordinator report` takes their folder with --data-dir."
            .to_string()
    });
    let path = arguments.out.clone().unwrap_or_else(|| run.directory.report());
    user_file::write(&path, facts.page(digits).as_bytes(), "--out")?;
    user_file::voice(Some(&path))(&format!("report {}\n", path.display()))?;
    Ok(EXIT_DONE)
}
