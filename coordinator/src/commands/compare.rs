//! `coordinator compare`: runs side by side, and the first step at which the bits of two of them differ.
//!
//! It only reads, and may run beside coordinators that train. The only file that it writes is the picture asked for.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use lockstep_command_line::exit::{EXIT_DONE, EXIT_FAILED};
use lockstep_command_line::output::print;
use lockstep_comparison::result::Comparison;
use lockstep_comparison::run::Run;
use lockstep_comparison::{curves, plot, table};
use lockstep_run_directory::user_file;

/// Which runs, and how to show them.
#[derive(clap::Args, Clone, Debug, PartialEq)]
pub struct Arguments {
    /// Folders of two to sixteen runs, finished or not
    #[arg(value_name = "RUN_DIR", required = true, num_args = 2..=16)]
    pub run_dirs: Vec<PathBuf>,
    /// Also draw loss and accuracy of all runs; - for standard output
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,
    /// Print one JSON object on standard output, and nothing else
    #[arg(long)]
    pub json: bool,
}

/// A run is named twice: most likely a slip, as every run is like itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} and {} are the same run directory; name each once",
    first.display(),
    second.display()
)]
pub struct SameRun {
    first: PathBuf,
    second: PathBuf,
}

/// Compares the runs; returns the exit code, which is that of a failure if two had to have the same bits and have not.
///
/// # Errors
///
/// If one is named twice or cannot be read, or the picture cannot be written.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let svg = arguments.svg.as_deref();
    user_file::refuse_two(svg, "--svg", arguments.json)?;
    refuse_repetition(&arguments.run_dirs)?;
    let runs = arguments.run_dirs.iter().map(|path| Run::read(path)).collect::<Result<Vec<_>>>()?;
    for damage in runs.iter().flat_map(|run| run.history.damages()) {
        tracing::warn!("{damage}; what is whole is compared");
    }
    let comparison = Comparison::new(&runs);
    if let Some(path) = svg {
        user_file::write(path, plot::svg(&comparison).as_bytes(), "--svg")?;
    }
    if arguments.json {
        print(&comparison.to_json().context("the comparison as JSON")?)?;
    } else {
        let names: Vec<String> = comparison.runs.iter().map(|run| run.name.clone()).collect();
        let curves = curves::text(&names, &runs);
        let text = format!("{}\n{curves}{}", table::table(&comparison), table::digests(&comparison));
        user_file::voice(svg)(&text)?;
    }
    Ok(if comparison.has_broken_promise() { EXIT_FAILED } else { EXIT_DONE })
}

fn refuse_repetition(paths: &[PathBuf]) -> Result<(), SameRun> {
    // Whatever cannot be found is for the reader to name.
    let real: Vec<_> = paths.iter().map(fs::canonicalize).collect();
    for (second, path) in real.iter().enumerate() {
        let Ok(path) = path else { continue };
        if let Some(first) =
            real[..second].iter().position(|earlier| earlier.as_ref().is_ok_and(|e| e == path))
        {
            return Err(SameRun { first: paths[first].clone(), second: paths[second].clone() });
        }
    }
    Ok(())
}
