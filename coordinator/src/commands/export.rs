//! `coordinator export`: a model as a file of another program.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use lockstep_command_line::exit::EXIT_DONE;
use lockstep_export::{onnx, pytorch, tfjs};
use lockstep_run_directory::model_file::one_line;
use lockstep_run_directory::user_file;
use lockstep_telemetry::Terminal;

use super::model_source::Model;

/// What to export, and where to.
#[derive(clap::Args, Clone, Debug, Eq, PartialEq)]
pub struct Arguments {
    /// Folder of a run, finished or not, or a safetensors file
    #[arg(value_name = "RUN_DIR|FILE")]
    pub model: PathBuf,
    /// For which program
    #[arg(long, value_name = "NAME")]
    pub format: Format,
    /// File to write, - for standard output, for tfjs a folder; what is there is replaced [default: beside the model]
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
}

/// A format that others read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// PyTorch's names and layouts, for load_state_dict
    Safetensors,
    /// ONNX, for onnxruntime and many others
    Onnx,
    /// A TensorFlow.js layers model: model.json and a file of weights
    Tfjs,
}

/// Exports and prints the path of what is to be loaded; returns the exit code.
///
/// # Errors
///
/// If there is no such model, or the place cannot be written.
pub fn run(arguments: &Arguments, terminal: &Terminal) -> Result<u8> {
    let model = Model::find(&arguments.model)?;
    let out =
        arguments.out.clone().unwrap_or_else(|| default_place(&arguments.model, &model, arguments.format));
    if is_same_file(&out, &model.path) {
        bail!(
            "{} is the model itself, and is not overwritten; name another file with --out",
            one_line(out.display())
        );
    }
    let (weights, metadata) = (&model.weights, model.metadata());
    let written = match arguments.format {
        Format::Safetensors => {
            let tensors = pytorch::tensors(weights);
            let tensors: Vec<_> =
                tensors.iter().map(|tensor| (&*tensor.name, &*tensor.shape, &*tensor.values)).collect();
            let bytes = lockstep_checkpoint::encode_for_pytorch(&out, &tensors, &metadata)?;
            user_file::write(&out, &bytes, "--out")?;
            out
        }
        Format::Onnx => {
            user_file::write(&out, &onnx::encode(weights, &metadata), "--out")?;
            out
        }
        Format::Tfjs => {
            if user_file::is_standard_output(&out) {
                bail!("a TensorFlow.js model is a folder of two files; name a folder with --out");
            }
            let metadata = serde_json::from_str(&metadata).context("the metadata as JSON")?;
            let files = tfjs::encode(weights, &metadata);
            let made = make_folder(&out)?;
            // The index last: a program that finds it finds the weights too.
            let (weights, index) = (out.join(tfjs::WEIGHTS_FILE), out.join(tfjs::MODEL_FILE));
            let write = |path: &Path, bytes: &[u8]| {
                user_file::write(path, bytes, "--out").inspect_err(|_| {
                    if made {
                        // Only an empty one goes.
                        let _ = fs::remove_dir(&out);
                    }
                })
            };
            write(&weights, &files.weights)?;
            write(&index, files.model.as_bytes())?;
            index
        }
    };
    if !user_file::is_standard_error(&written) {
        terminal.print_line(&format!("exported {}, weights {}", one_line(model.describe()), model.digest));
    }
    user_file::voice(Some(&written))(&format!("{}\n", written.display()))?;
    Ok(EXIT_DONE)
}

/// Beside the file that was named, under its name; `model` in the directory of a run.
fn default_place(named: &Path, model: &Model, format: Format) -> PathBuf {
    let stem = match &model.run {
        Some(run) => run.directory.join("model"),
        // What follows another dot is part of the name: net.v1 and net.v2 are two models.
        None if named.extension().is_some_and(|extension| extension == "safetensors") => {
            named.with_extension("")
        }
        None => named.to_path_buf(),
    };
    let suffix = match format {
        Format::Safetensors => ".pytorch.safetensors",
        Format::Onnx => ".onnx",
        Format::Tfjs => "-tfjs",
    };
    let mut place = stem.into_os_string();
    place.push(suffix);
    place.into()
}

fn is_same_file(left: &Path, right: &Path) -> bool {
    matches!((fs::canonicalize(left), fs::canonicalize(right)), (Ok(left), Ok(right)) if left == right)
}

/// Makes the folder if it is not there; returns whether it was not.
fn make_folder(path: &Path) -> Result<bool> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is a file; a TensorFlow.js model is a folder of two files", one_line(path.display()))
        }
        result => result
            .map(|()| true)
            .with_context(|| format!("cannot make the folder {}", one_line(path.display()))),
    }
}
