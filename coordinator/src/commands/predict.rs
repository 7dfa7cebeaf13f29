//! `coordinator predict`: which digit somebody drew.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use lockstep_command_line::exit::EXIT_DONE;
use lockstep_command_line::output::print;
use lockstep_image_input::{PIXELS, Picture, digit};
use lockstep_model::{CLASSES, Cpu, IMAGE_SIDE, Network, Prediction, Workspace};
use lockstep_records::percent;
use lockstep_run_directory::model_file::one_line;
use lockstep_run_directory::path_error::reason;
use lockstep_telemetry::Terminal;
use ndarray::ArrayView2;
use serde::Serialize;

use super::model_source::Model;

/// An image of the greatest size that is read has less than this, unless it was never compressed.
const MAX_IMAGE_BYTES: u64 = 64 << 20;

/// Which images, and which model is asked.
#[derive(clap::Args, Clone, Debug, Eq, PartialEq)]
pub struct Arguments {
    /// PNG or PGM images of one digit each, of any size, dark on light or light on dark; - is standard input
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<PathBuf>,
    /// Folder of a run, finished or not, or a safetensors file [default: the newest finished run under runs/]
    #[arg(long, value_name = "RUN_DIR|FILE")]
    pub model: Option<PathBuf>,
    /// Print one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// The name that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// What is printed for machines.
#[derive(Serialize)]
struct Answer {
    model: String,
    weights_digest: String,
    predictions: Vec<Answered>,
}

/// One image.
#[derive(Serialize)]
struct Answered {
    image: String,
    class: usize,
    /// Of the classes from 0 to 9.
    probabilities: [f32; CLASSES],
}

/// Classifies the images and prints; returns the exit code.
///
/// # Errors
///
/// If an image or the model cannot be had, or the model overflows; nothing is printed then.
pub fn run(arguments: &Arguments, terminal: &Terminal) -> Result<u8> {
    let images: Vec<[u8; PIXELS]> = arguments.images.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let model = match &arguments.model {
        Some(path) => Model::find(path)?,
        None => {
            let model = Model::newest()?;
            terminal.print_line(&format!(
                "model: {}, the newest finished run under runs/",
                one_line(model.path.display())
            ));
            model
        }
    };
    let mut network = Network::new(Cpu::detect());
    network.load(&model.weights);
    let mut workspace = Workspace::new();
    let mut classify = |image: &[u8; PIXELS]| {
        let image = ArrayView2::from_shape((IMAGE_SIDE, IMAGE_SIDE), image).expect("28x28 pixels");
        network.predict(image, &mut workspace)
    };
    let predictions: Vec<(&PathBuf, Prediction)> =
        arguments.images.iter().zip(images.iter().map(&mut classify)).collect();
    let finite = |prediction: &Prediction| prediction.probabilities.iter().all(|share| share.is_finite());
    if let Some((path, _)) = predictions.iter().find(|(_, prediction)| !finite(prediction)) {
        bail!(
            "the model {} gives no finite probabilities for {}: its weights are so large that computing with them \
             overflows; name another with --model",
            one_line(model.path.display()),
            one_line(path.display())
        );
    }
    if arguments.json {
        let answered = |(path, prediction): (&PathBuf, Prediction)| Answered {
            image: path.display().to_string(),
            class: prediction.class,
            probabilities: prediction.probabilities,
        };
        let answer = Answer {
            model: model.path.display().to_string(),
            weights_digest: model.digest.to_string(),
            predictions: predictions.into_iter().map(answered).collect(),
        };
        print(&format!("{}\n", serde_json::to_string(&answer).context("the predictions as JSON")?))?;
    } else {
        print(&predictions.iter().map(|(path, prediction)| text(path, prediction)).collect::<String>())?;
    }
    Ok(EXIT_DONE)
}

/// The image in a file, as the network was trained on.
fn read(path: &Path) -> Result<[u8; PIXELS]> {
    let mut bytes = Vec::new();
    let mut read = |source: &mut dyn Read| source.take(MAX_IMAGE_BYTES + 1).read_to_end(&mut bytes);
    let result = match path.to_str() {
        Some(STANDARD_INPUT) => read(&mut std::io::stdin()),
        _ => File::open(path).and_then(|mut file| read(&mut file)),
    };
    result.map_err(|error| {
        anyhow!("cannot read {}: {}", one_line(path.display()), one_line(reason(path, &error)))
    })?;
    if bytes.len() as u64 > MAX_IMAGE_BYTES {
        bail!(
            "cannot take {}: it has more than {MAX_IMAGE_BYTES} bytes; make it smaller",
            one_line(path.display())
        );
    }
    Picture::decode(&bytes)
        .and_then(|picture| digit(&picture))
        .with_context(|| format!("cannot take {}", one_line(path.display())))
}

/// The class and how sure of it the network is, then all ten.
fn text(path: &Path, prediction: &Prediction) -> String {
    let sure = percent(prediction.probabilities[prediction.class], 1);
    let mut text = format!("{}: {} ({sure})\n ", one_line(path.display()), prediction.class);
    for (class, probability) in prediction.probabilities.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, " {class}: {}", percent(*probability, 1));
    }
    text.push('\n');
    text
}
