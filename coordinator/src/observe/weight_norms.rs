//! Measures the weights on a thread of its own: their norms, the norms of the gradient, and predictions for the first
//! test images.
//!
//! The thread reads the bytes that travel. Training never waits for it: what comes while it is busy is left out.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use lockstep_control::TaskOrder;
use lockstep_dataset::{Examples, SHEET_COLUMNS, prediction_sheet};
use lockstep_model::{Cpu, Network, PARAMETERS, TENSORS, TensorSpec, Workspace, copy_from_le_bytes};
use lockstep_records::{NormsRecord, PictureRecord, TensorNorms};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// Steps of a run whose norms are taken: enough for a curve, and too few to cost a training anything.
const MAX_NORMS: u64 = 500;

/// The norms are not taken more often than that.
const LEAST_STRIDE: u64 = 10;

/// Pictures of a run: of 30 to 100 kB each.
const MAX_PICTURES: u32 = 50;

/// What waits to be measured; each holds a set of weights or two.
const MAX_WAITING: usize = 8;

/// A measurement.
#[derive(Debug)]
pub(crate) enum Measured {
    /// Norms at a step.
    Norms(NormsRecord),
    /// Predictions after an epoch.
    Picture(PictureRecord),
}

/// The handle of the measuring thread, or of none.
pub(crate) struct WeightProbe(Option<Running>);

struct Running {
    jobs: Option<SyncSender<Job>>,
    measured: UnboundedReceiver<Measured>,
    ended: oneshot::Receiver<()>,
    norms_every: u64,
    pictures_every: u32,
    last_step: u64,
}

enum Job {
    Norms { step: u64, before: Bytes, after: Bytes },
    Picture { step: u64, weights: Bytes },
}

impl WeightProbe {
    /// A probe that measures nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Starts the thread for a run with this plan; `sample` is what the pictures show.
    ///
    /// # Errors
    ///
    /// If the system has none.
    pub fn start(plan: &TaskOrder, learning_rate: f32, sample: Examples) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(MAX_WAITING);
        // Bounded by what goes in: a record a job.
        let (sender, measured) = unbounded_channel();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("weight-probe".to_string()).spawn(move || {
            measure(&waiting, &sender, learning_rate, &sample);
            // Nobody may wait for it any more.
            let _ = end.send(());
        })?;
        // At most the number of epochs, a u32.
        let epochs = plan.steps.div_ceil(plan.steps_per_epoch) as u32;
        Ok(Self(Some(Running {
            jobs: Some(jobs),
            measured,
            ended,
            norms_every: plan.steps.div_ceil(MAX_NORMS).max(LEAST_STRIDE),
            pictures_every: epochs.div_ceil(MAX_PICTURES).max(1),
            last_step: plan.steps,
        })))
    }

    /// Has the norms at a step taken, if it is one of those; `before` and `after` are the weights around it.
    pub fn stepped(&self, step: u64, before: &Bytes, after: &Bytes) {
        if let Self(Some(inner)) = self
            && (step.is_multiple_of(inner.norms_every) || step == inner.last_step)
        {
            inner.submit(Job::Norms { step, before: before.clone(), after: after.clone() });
        }
    }

    /// Has the picture after an epoch made, if it is one of those.
    pub fn epoch_ended(&self, epoch: u32, step: u64, weights: &Bytes) {
        if let Self(Some(inner)) = self
            && (epoch.is_multiple_of(inner.pictures_every) || step == inner.last_step)
        {
            inner.submit(Job::Picture { step, weights: weights.clone() });
        }
    }

    /// What was measured next; waits for ever if that is nothing.
    pub async fn measured(&mut self) -> Measured {
        if let Self(Some(inner)) = self
            && let Some(measured) = inner.measured.recv().await
        {
            return measured;
        }
        std::future::pending().await
    }

    /// Lets the thread finish what waits, for `limit` at most, and gives what it measured.
    pub async fn close(&mut self, limit: Duration) -> Vec<Measured> {
        let mut last = Vec::new();
        if let Self(Some(inner)) = self {
            inner.jobs = None;
            // A measurement that takes longer is done without.
            let _ = tokio::time::timeout(limit, &mut inner.ended).await;
            while let Ok(measured) = inner.measured.try_recv() {
                last.push(measured);
            }
        }
        last
    }
}

impl Running {
    fn submit(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // Full, or the thread is gone: this one is left out.
            let _ = jobs.try_send(job);
        }
    }
}

fn measure(
    jobs: &Receiver<Job>,
    measured: &UnboundedSender<Measured>,
    learning_rate: f32,
    sample: &Examples,
) {
    let mut weights = vec![0.0; PARAMETERS].into_boxed_slice();
    // The network of the pictures, from the first one on.
    let mut network = None;
    while let Ok(job) = jobs.recv() {
        let record = match job {
            Job::Norms { step, before, after } => {
                Measured::Norms(norms(step, &before, &after, learning_rate))
            }
            Job::Picture { step, weights: bytes } => {
                copy_from_le_bytes(&bytes, &mut weights);
                let (network, workspace) =
                    network.get_or_insert_with(|| (Network::new(Cpu::detect()), Workspace::new()));
                network.load(&weights);
                let predicted = network.classes(&sample.images, workspace);
                let picture = prediction_sheet(sample, &predicted, SHEET_COLUMNS);
                let (width, height, png) = (picture.width, picture.height, picture.png);
                Measured::Picture(PictureRecord { step, width, height, png })
            }
        };
        // The loop may be over.
        let _ = measured.send(record);
    }
}

/// The norms of the weights `after` a step, and of the gradient that led there from `before`.
fn norms(step: u64, before: &[u8], after: &[u8], learning_rate: f32) -> NormsRecord {
    let tensors = TENSORS.each_ref().map(|tensor| {
        let (before, after) = (values(before, tensor), values(after, tensor));
        TensorNorms {
            name: tensor.name,
            weights: norm(after.clone()),
            gradient: norm(before.zip(after).map(|(before, after)| before - after))
                / f64::from(learning_rate),
        }
    });
    NormsRecord { step, tensors: tensors.to_vec() }
}

fn values<'a>(bytes: &'a [u8], tensor: &TensorSpec) -> impl Iterator<Item = f64> + Clone + use<'a> {
    let range = tensor.range();
    let (values, _) = bytes[4 * range.start..4 * range.end].as_chunks::<4>();
    values.iter().map(|value| f64::from(f32::from_le_bytes(*value)))
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use lockstep_control::Leaves;
    use lockstep_model::{CLASSES, IMAGE_SIDE, copy_to_le_bytes, initial_weights};
    use ndarray::{ArrayView1, ArrayView3};

    use super::*;

    fn plan(steps: u64) -> TaskOrder {
        let leaves = Leaves { count: 1, per_assignment: 1 };
        TaskOrder { steps_per_epoch: 50, steps, train: leaves, validate: None, test: leaves }
    }

    fn bytes(weights: &[f32]) -> Bytes {
        let mut bytes = vec![0; 4 * weights.len()];
        copy_to_le_bytes(weights, &mut bytes);
        bytes.into()
    }

    fn all_measured(mut probe: WeightProbe) -> Vec<Measured> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(probe.close(Duration::from_secs(60)))
    }

    #[test]
    fn norms_are_those_of_the_weights_and_of_what_changed_them() {
        let before = vec![0.5; PARAMETERS];
        let mut after = before.clone();
        // 16 biases of conv1, moved by 0.25 each: a norm of 1, which is 4 times the rate.
        after[TENSORS[1].range()].fill(0.25);
        let NormsRecord { step, tensors } = norms(7, &bytes(&before), &bytes(&after), 0.25);
        assert_eq!((step, tensors.len()), (7, TENSORS.len()));
        for (index, (norms, tensor)) in tensors.iter().zip(&TENSORS).enumerate() {
            let (value, moved) = if index == 1 { (0.25, 4.0) } else { (0.5, 0.0) };
            let expected = value * (tensor.len() as f64).sqrt();
            assert_eq!((norms.name, norms.gradient), (tensor.name, moved));
            assert!((norms.weights - expected).abs() < 1e-9, "{norms:?}");
        }
    }

    #[test]
    fn steps_are_measured_evenly_and_the_last_one_too() {
        let probe = WeightProbe::start(&plan(20_003), 0.01, Examples::default()).unwrap();
        let weights = bytes(&vec![1.0; PARAMETERS]);
        let mut steps = Vec::new();
        for step in 1..=20_003 {
            probe.stepped(step, &weights, &weights);
            let WeightProbe(Some(inner)) = &probe else { panic!("it was started") };
            if step.is_multiple_of(inner.norms_every) || step == 20_003 {
                steps.push(step);
            }
        }
        assert_eq!((steps.len(), &steps[..2], steps.last()), (487 + 1, &[41, 82][..], Some(&20_003)));
        let measured = all_measured(probe).into_iter();
        let measured: Vec<u64> = measured
            .map(|measured| match measured {
                Measured::Norms(NormsRecord { step, .. }) => step,
                other => panic!("{other:?}"),
            })
            .collect();
        // Here the loop is faster than the thread, which leaves out what it has no time for.
        assert!(!measured.is_empty() && measured.iter().all(|step| steps.contains(step)), "{measured:?}");
    }

    #[test]
    fn the_picture_shows_what_an_evaluation_counts() {
        let weights = initial_weights(42);
        let test = lockstep_dataset::digits_test(200);
        let sample = test.sample();
        assert_eq!((sample.len(), sample.image(99)), (100, test.image(99)));
        let mut network = Network::new(Cpu::detect());
        network.load(&weights);
        let predicted = network.classes(&sample.images, &mut Workspace::new());
        let mut confusion = [0; CLASSES * CLASSES];
        let images = ArrayView3::from_shape((100, IMAGE_SIDE, IMAGE_SIDE), &sample.images).unwrap();
        let labels = ArrayView1::from(&sample.labels);
        network.evaluate(images, labels, &mut Workspace::new(), &mut confusion);
        for (label, predicted) in sample.labels.iter().zip(&predicted) {
            confusion[usize::from(*label) * CLASSES + usize::from(*predicted)] -= 1;
        }
        assert_eq!(confusion, [0; CLASSES * CLASSES]);

        let probe = WeightProbe::start(&plan(100), 0.01, sample.clone()).unwrap();
        probe.epoch_ended(1, 50, &bytes(&weights));
        let expected = prediction_sheet(&sample, &predicted, SHEET_COLUMNS).png;
        match &all_measured(probe)[..] {
            [Measured::Picture(PictureRecord { step: 50, width: 604, height: 604, png })] => {
                assert_eq!(*png, expected);
            }
            other => panic!("{} records", other.len()),
        }
    }

    #[test]
    fn nothing_is_measured_where_there_is_no_gauge() {
        let probe = WeightProbe::none();
        probe.stepped(10, &Bytes::new(), &Bytes::new());
        probe.epoch_ended(1, 10, &Bytes::new());
        assert!(all_measured(probe).is_empty());
    }
}
