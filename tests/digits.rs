//! The generated digits look like handwriting: who has learned them alone can read real ones.

use std::path::PathBuf;

use lockstep_dataset::{Choice, Source};
use lockstep_model::{Cpu, Network, PARAMETERS, TENSORS, Workspace};
use ndarray::{ArrayView1, ArrayView3};

use crate::harness::{coordinator, killed, mnist, start};

/// What the README promises at least; it prints what was reached.
const PROMISED: f32 = 0.75;

/// Accuracy of a model file on the real test set.
fn test_accuracy(model: &std::path::Path, mnist: PathBuf) -> f32 {
    let model = lockstep_checkpoint::read_model(model).unwrap();
    let mut weights = vec![0.0; PARAMETERS];
    for tensor in &TENSORS {
        weights[tensor.range()].copy_from_slice(&model.tensor(tensor.name).unwrap().values);
    }
    let mut network = Network::new(Cpu::detect());
    network.load(&weights);
    let mut source = Source::new(Choice::Mnist);
    source.data_dir = Some(mnist);
    let test = lockstep_dataset::load(&source, &mut |_| {}).unwrap().test;
    let images = ArrayView3::from_shape((test.len(), 28, 28), &test.images).unwrap();
    let labels = ArrayView1::from(&test.labels);
    let result = network.evaluate(images, labels, &mut Workspace::new(), &mut [0; 100]);
    result.correct as f32 / test.len() as f32
}

#[test]
fn a_model_of_generated_digits_reads_real_ones() {
    let Some(mnist) = mnist("a_model_of_generated_digits_reads_real_ones") else { return };
    let folder = tempfile::tempdir().unwrap();
    start(coordinator(folder.path()).args(["--dataset", "digits", "--run-dir", "run"])).finish().done();
    let accuracy = test_accuracy(&folder.path().join("run/model.safetensors"), mnist);
    println!("trained on generated digits, {:.1} % of MNIST's test set are right", accuracy * 100.0);
    assert!(accuracy >= PROMISED, "{accuracy}");
}

#[test]
fn digits_that_stood_in_for_mnist_are_named_at_the_end_too_even_by_a_later_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    killed(command.args(["--run-dir", "run", "--examples", "200", "--batch-size", "32", "--epochs", "60"]));
    let resumed = start(coordinator(folder.path()).args(["--resume", "run"])).finish().done();
    assert!(resumed.stderr.contains("TRAINING ON GENERATED DIGITS, NOT ON MNIST"), "{resumed}");
    assert!(resumed.stdout.contains("GENERATED DIGITS, NOT MNIST"), "{resumed}");
    let page = std::fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(page.contains("trained on generated digits, not on MNIST"));
    let again = start(coordinator(folder.path()).args(["--resume", "run", "--json"])).finish().done();
    assert_eq!(again.summary()["dataset_fallback"], true, "{again}");
}
