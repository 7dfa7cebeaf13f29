//! `coordinator evaluate`: a model on a test set, to the very bits that the run itself reports.
//!
//! The blocks, the tree and the kernels are those of a run's own evaluation; only the workers are threads here.

use std::fmt::Write;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, bail};
use lockstep_command_line::exit::EXIT_DONE;
use lockstep_command_line::output::print;
use lockstep_control::TaskKind;
use lockstep_dataset::{Dataset, Examples};
use lockstep_model::{CLASSES, Cpu, Digest, IMAGE_SIDE, Network, Workspace};
use lockstep_records::{confusion_table, percent};
use lockstep_run_directory::RunDirectory;
use lockstep_run_directory::model_file::one_line;
use lockstep_run_directory::user_file;
use lockstep_telemetry::Terminal;
use ndarray::ArrayView2;
use serde::Serialize;

use super::dataset_parser;
use super::model_source::{Model, ModelOfRun};
use crate::settings::{DatasetChoice, data_of_run};
use crate::single_process::SingleProcess;
use crate::start::dataset;
use crate::trainer::Confusion;

/// What to evaluate, and on what.
#[derive(clap::Args, Clone, Debug, PartialEq)]
pub struct Arguments {
    /// Folder of a run, finished or not, or a safetensors file
    #[arg(value_name = "RUN_DIR|FILE")]
    pub model: PathBuf,
    /// Which test set [default: that of the run; auto for a file]
    #[arg(long, env = "LOCKSTEP_DATASET", value_name = "NAME", value_parser = dataset_parser())]
    pub dataset: Option<DatasetChoice>,
    /// Folder of the four MNIST files, plain or .gz [default: that of the run, else the cache folder]
    #[arg(long, env = "LOCKSTEP_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Never try the network
    #[arg(long, env = "LOCKSTEP_OFFLINE")]
    pub offline: bool,
    /// Threads to compute with [default: processors]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Also write a line for each test image, - for standard output: label, prediction and the ten logits, with all
    /// their digits
    #[arg(long, value_name = "FILE.csv")]
    pub predictions: Option<PathBuf>,
    /// Print one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// What an evaluation found out; absent values are null.
#[derive(Debug, Serialize)]
struct Findings {
    model: String,
    step: Option<u64>,
    weights_digest: String,
    dataset: String,
    dataset_fallback: bool,
    dataset_sha256: String,
    test_examples: u32,
    test_loss: f32,
    test_accuracy: f32,
    classes: Vec<Class>,
    /// `[true digit][predicted digit]`.
    confusion_matrix: Vec<Vec<u32>>,
}

/// One digit. Precision: how many of the images taken for it are it. Recall: how many of its images were recognised.
#[derive(Debug, PartialEq, Serialize)]
struct Class {
    class: usize,
    precision: Option<f32>,
    recall: Option<f32>,
    examples: u32,
}

/// Evaluates and prints; returns the exit code.
///
/// # Errors
///
/// If model or data cannot be had, or the results not be written.
pub fn run(arguments: &Arguments, terminal: &Terminal) -> Result<u8> {
    let predictions_to = arguments.predictions.as_deref();
    user_file::refuse_two(predictions_to, "--predictions", arguments.json)?;
    let model = Model::find(&arguments.model)?;
    let dataset = test_data(arguments, model.run.as_ref(), terminal)?;
    if let Some(path) = predictions_to {
        user_file::write(path, predictions(&model.weights, &dataset.test).as_bytes(), "--predictions")?;
    }
    let (kind, fallback) = (dataset.kind.to_string(), dataset.fallback.is_some());
    let sha256 = Digest(dataset.digest).to_string();
    let threads = arguments
        .threads
        .or_else(|| thread::available_parallelism().ok()?.get().try_into().ok())
        .unwrap_or(1);
    let mut evaluator =
        SingleProcess::evaluator(&model.weights, dataset, threads).context("cannot start the threads")?;
    let (means, confusion) = evaluator.evaluate(TaskKind::Test);
    if !means.loss.is_finite() {
        tracing::warn!(
            "the loss is not finite: the weights of {} are so large that computing with them overflows; do not trust \
             the other figures either, and train it anew with a lower learning rate",
            one_line(model.path.display())
        );
    }
    let findings = Findings {
        model: model.path.display().to_string(),
        step: model.run.as_ref().and_then(|run| run.step),
        weights_digest: model.digest.to_string(),
        dataset: kind,
        dataset_fallback: fallback,
        dataset_sha256: sha256,
        test_examples: means.examples,
        test_loss: means.loss,
        test_accuracy: means.accuracy,
        classes: classes(&confusion),
        confusion_matrix: confusion.chunks_exact(CLASSES).map(<[u32]>::to_vec).collect(),
    };
    if arguments.json {
        print(&format!("{}\n", serde_json::to_string(&findings).context("the findings as JSON")?))?;
    } else {
        user_file::voice(predictions_to)(&findings.to_text(&model))?;
    }
    Ok(EXIT_DONE)
}

/// The data that flags ask for, else those that the run has.
fn test_data(arguments: &Arguments, run: Option<&ModelOfRun>, terminal: &Terminal) -> Result<Dataset> {
    let own = run.filter(|_| arguments.dataset.is_none() && arguments.data_dir.is_none());
    let (choice, data_dir) = match own {
        Some(run) => data_of_run(&RunDirectory::config_in(&run.directory), &run.stored)?,
        None => (arguments.dataset.unwrap_or(DatasetChoice::Auto), arguments.data_dir.clone()),
    };
    let examples = own.and_then(|run| usize::try_from(run.stored.identity.examples).ok());
    let source = dataset::source(choice, data_dir, arguments.offline, examples);
    let mut dataset = dataset::fetch(&source, "EVALUATING", terminal)?;
    if own.is_some_and(|run| run.stored.identity.dataset_sha256 != Digest(dataset.digest).to_string()) {
        tracing::warn!("these are not the data that the run was trained on: their digest is another one");
    }
    if let Some(run) = own {
        dataset.fallback = dataset.fallback.or_else(|| run.stored.fallback.clone());
    }
    if dataset.test.is_empty() {
        bail!("the test set is empty");
    }
    Ok(dataset)
}

fn classes(confusion: &Confusion) -> Vec<Class> {
    let share = |part: u32, whole: u32| (whole > 0).then(|| part as f32 / whole as f32);
    let class = |class: usize| {
        let right = confusion[class * CLASSES + class];
        let examples = (0..CLASSES).map(|predicted| confusion[class * CLASSES + predicted]).sum();
        let predicted = (0..CLASSES).map(|label| confusion[label * CLASSES + class]).sum();
        Class { class, precision: share(right, predicted), recall: share(right, examples), examples }
    };
    (0..CLASSES).map(class).collect()
}

/// A line of CSV for each image; each logit reads back as the same f32.
fn predictions(weights: &[f32], examples: &Examples) -> String {
    let mut network = Network::new(Cpu::detect());
    network.load(weights);
    let mut workspace = Workspace::new();
    let mut text = String::from("index,label,predicted");
    // Writing to a String cannot fail, here and below.
    for class in 0..CLASSES {
        let _ = write!(text, ",logit{class}");
    }
    text.push('\n');
    for (index, label) in examples.labels.iter().enumerate() {
        let image = ArrayView2::from_shape((IMAGE_SIDE, IMAGE_SIDE), examples.image(index))
            .expect("an image of 28x28 pixels");
        let prediction = network.predict(image, &mut workspace);
        let _ = write!(text, "{index},{label},{}", prediction.class);
        for logit in prediction.logits {
            let _ = write!(text, ",{logit:?}");
        }
        text.push('\n');
    }
    text
}

impl Findings {
    fn to_text(&self, model: &Model) -> String {
        let finite = self.test_loss.is_finite();
        let loss = if finite { format!("{:.4}", self.test_loss) } else { "not finite".to_owned() };
        let mut text = format!(
            "model    {}\ndata     {} test images of {}\nloss     {loss}\naccuracy {}\n\nclass  precision     recall   \
             images\n",
            one_line(model.describe()),
            self.test_examples,
            self.dataset,
            percent(self.test_accuracy, 1)
        );
        let share = |share: Option<f32>| share.map_or_else(|| "-".to_owned(), |share| percent(share, 1));
        for Class { class, precision, recall, examples } in &self.classes {
            let (precision, recall) = (share(*precision), share(*recall));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{class:>5} {precision:>10} {recall:>10} {examples:>8}");
        }
        text.push_str(&confusion_table(&self.confusion_matrix));
        let _ = writeln!(text, "weights  {}", self.weights_digest);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_and_recall_are_of_columns_and_rows() {
        let mut confusion = [0; CLASSES * CLASSES];
        // Threes: 6 recognised, 2 taken for eights. Eights: 3 recognised, 1 taken for a three.
        confusion[3 * CLASSES + 3] = 6;
        confusion[3 * CLASSES + 8] = 2;
        confusion[8 * CLASSES + 8] = 3;
        confusion[8 * CLASSES + 3] = 1;
        let classes = classes(&confusion);
        let three = Class { class: 3, precision: Some(6.0 / 7.0), recall: Some(0.75), examples: 8 };
        let eight = Class { class: 8, precision: Some(0.6), recall: Some(0.75), examples: 4 };
        let nothing = Class { class: 0, precision: None, recall: None, examples: 0 };
        assert_eq!([&classes[3], &classes[8], &classes[0]], [&three, &eight, &nothing]);
    }
}
