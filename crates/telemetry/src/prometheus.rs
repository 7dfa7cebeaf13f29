//! Metrics for Prometheus: a registry that records keep up to date, and its text for whoever asks.
//!
//! Owns the names: `lockstep_<what>_<unit>`, `_total` for what only grows. Counters are of this process, as Prometheus
//! expects it; gauges are of the run. Labels are bounded. It knows nothing of HTTP, and has no clock.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use crate::{EpochRecord, EventRecord, NormsRecord, Sink, StepRecord};

/// The rate of examples is the mean over the newest steps that took this long together.
const RATE_SECONDS: f64 = 1.0;

/// The shortest step that is told from shorter ones, and how many buckets follow, each twice the one before: up to a
/// minute.
const SHORTEST_STEP_SECONDS: f64 = 0.000_5;
const STEP_BUCKETS: u16 = 18;

/// Kinds of events that are something gone wrong, whether or not it could be made good.
const FAULT_KINDS: [&str; 9] = [
    "contradicted",
    "copies_differ",
    "log_failed",
    "node_rejected",
    "not_saved",
    "process_ended",
    "roll_back",
    "worker_dropped",
    "worker_refused",
];

/// Labels whose values are known when the program is built.
type Labels<const N: usize> = [(&'static str, &'static str); N];
type Number = Gauge<f64, AtomicU64>;
type Seconds = Counter<f64, AtomicU64>;
/// A number that is absent until it is known.
type Later = Family<Labels<0>, Number>;

/// What is known of a run before its first record.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// Its id.
    pub run_id: String,
    /// The program's version.
    pub version: &'static str,
    /// The version of its arithmetic.
    pub numerics_version: u32,
    /// Steps that the run is planned to have.
    pub steps: u64,
    /// Steps that earlier processes of it have done.
    pub done: u64,
}

/// The metrics as text; clones show the same ones.
#[derive(Clone)]
pub struct Exposition(Arc<Registry>);

impl Exposition {
    /// What [`Exposition::open_metrics`] is.
    pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// What [`Exposition::plain_text`] is.
    pub const PLAIN_TEXT: &str = encoding::prometheus_text::CONTENT_TYPE;

    /// In the format of OpenMetrics 1.0.
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        encoding::text::encode(&mut text, &self.0).expect("a string takes everything");
        text
    }

    /// In Prometheus' older format.
    pub fn plain_text(&self) -> String {
        let mut text = String::new();
        encoding::prometheus_text::encode(&mut text, &self.0).expect("a string takes everything");
        text
    }
}

/// Keeps the metrics up to date.
pub struct PrometheusSink {
    step: Number,
    epoch: Number,
    workers: Number,
    loss: Later,
    accuracy: Later,
    validation_loss: Later,
    validation_accuracy: Later,
    examples_per_second: Later,
    weight_norm: Later,
    gradient_norm: Later,
    steps: Counter,
    epochs: Counter,
    examples: Counter,
    sent: Counter,
    received: Counter,
    step_seconds: Histogram,
    part_seconds: Family<Labels<1>, Seconds>,
    compute_seconds: Family<Labels<1>, Number>,
    decisions: Family<Labels<1>, Counter>,
    faults: Family<Labels<1>, Counter>,
    /// Examples and seconds since the rate was set.
    rate: (u64, f64),
}

impl PrometheusSink {
    /// Metrics of a run, and what shows them.
    pub fn new(facts: &RunFacts) -> (Self, Exposition) {
        let mut registry = Registry::with_prefix("lockstep");
        let sink = Self {
            step: Number::default(),
            epoch: Number::default(),
            workers: Number::default(),
            loss: Later::default(),
            accuracy: Later::default(),
            validation_loss: Later::default(),
            validation_accuracy: Later::default(),
            examples_per_second: Later::default(),
            weight_norm: Later::default(),
            gradient_norm: Later::default(),
            steps: Counter::default(),
            epochs: Counter::default(),
            examples: Counter::default(),
            sent: Counter::default(),
            received: Counter::default(),
            step_seconds: Histogram::new(exponential_buckets(SHORTEST_STEP_SECONDS, 2.0, STEP_BUCKETS)),
            part_seconds: Family::default(),
            compute_seconds: Family::default(),
            decisions: Family::default(),
            faults: Family::default(),
            rate: (0, 0.0),
        };
        sink.register(&mut registry, facts);
        sink.step.set(facts.done as f64);
        // What has not happened yet is zero, so that the first one is seen as an increase.
        for kind in FAULT_KINDS {
            drop(sink.faults.get_or_create(&[("kind", kind)]));
        }
        (sink, Exposition(Arc::new(registry)))
    }

    fn register(&self, registry: &mut Registry, facts: &RunFacts) {
        let info = Info::new([
            ("run_id", facts.run_id.clone()),
            ("version", facts.version.to_owned()),
            ("numerics_version", facts.numerics_version.to_string()),
        ]);
        registry.register("run", "Which run this is, and what trains it", info);
        let planned = Number::default();
        planned.set(facts.steps as f64);
        registry.register("planned_steps", "Steps that the run is planned to have", planned);
        registry.register("step", "The last step of the run that is done", self.step.clone());
        registry.register("epoch", "The epoch of the last step", self.epoch.clone());
        registry.register("workers", "Workers that are members of the run", self.workers.clone());
        registry.register("loss", "Mean loss over the last batch", self.loss.clone());
        registry.register(
            "accuracy_ratio",
            "Share of the last batch that was classified correctly",
            self.accuracy.clone(),
        );
        registry.register(
            "validation_loss",
            "Mean loss over the validation set after the last epoch",
            self.validation_loss.clone(),
        );
        registry.register(
            "validation_accuracy_ratio",
            "Share of the validation set that was classified correctly after the last epoch",
            self.validation_accuracy.clone(),
        );
        registry.register(
            "examples_per_second",
            "Examples trained on in a second, over the last second of steps",
            self.examples_per_second.clone(),
        );
        registry.register(
            "weight_norm",
            "Euclidean norm of all weights, now and then",
            self.weight_norm.clone(),
        );
        registry.register(
            "gradient_norm",
            "Euclidean norm of a batch's mean gradient, now and then",
            self.gradient_norm.clone(),
        );
        registry.register("steps", "Steps done by this process", self.steps.clone());
        registry.register("epochs", "Epochs that ended in this process", self.epochs.clone());
        registry.register("examples", "Examples trained on by this process", self.examples.clone());
        registry.register_with_unit(
            "sent",
            "Payload sent to workers for steps",
            Unit::Bytes,
            self.sent.clone(),
        );
        registry.register_with_unit(
            "received",
            "Payload received from workers for steps",
            Unit::Bytes,
            self.received.clone(),
        );
        registry.register_with_unit(
            "step_duration",
            "Time from a step's first assignment to its updated weights",
            Unit::Seconds,
            self.step_seconds.clone(),
        );
        registry.register_with_unit(
            "step_part",
            "Where the coordinator's time of steps went: sending, waiting for nodes, reducing, updating",
            Unit::Seconds,
            self.part_seconds.clone(),
        );
        registry.register_with_unit(
            "node_compute",
            "Time that workers computed for a node of the last step: the median and the longest",
            Unit::Seconds,
            self.compute_seconds.clone(),
        );
        registry.register(
            "decisions",
            "What was decided or happened besides the steps, by kind, as in events.jsonl",
            self.decisions.clone(),
        );
        registry.register("faults", "What of that had gone wrong, by kind", self.faults.clone());
    }

    /// Counts a step into the rate of examples, which is set once a second of steps, and at the first one.
    fn count_rate(&mut self, record: &StepRecord) {
        let first = self.rate == (0, 0.0) && self.steps.get() == 1;
        self.rate.0 += u64::from(record.examples);
        self.rate.1 += record.seconds;
        let (examples, seconds) = self.rate;
        if (first || seconds >= RATE_SECONDS) && seconds > 0.0 {
            set(&self.examples_per_second, examples as f64 / seconds);
            self.rate = (0, 0.0);
        }
    }
}

fn set(later: &Later, value: f64) {
    later.get_or_create(&[]).set(value);
}

impl Sink for PrometheusSink {
    fn step(&mut self, record: &StepRecord) {
        self.step.set(record.step as f64);
        self.epoch.set(f64::from(record.epoch));
        self.workers.set(f64::from(record.workers));
        set(&self.loss, record.loss.into());
        set(&self.accuracy, record.accuracy.into());
        self.steps.inc();
        self.examples.inc_by(record.examples.into());
        self.sent.inc_by(record.bytes_sent);
        self.received.inc_by(record.bytes_received);
        self.step_seconds.observe(record.seconds);
        for (part, seconds) in [
            ("send", record.send_seconds),
            ("wait", record.wait_seconds),
            ("reduce", record.reduce_seconds),
            ("update", record.update_seconds),
        ] {
            self.part_seconds.get_or_create(&[("part", part)]).inc_by(seconds);
        }
        for (of, seconds) in [("median", record.compute_seconds_median), ("max", record.compute_seconds_max)]
        {
            self.compute_seconds.get_or_create(&[("of", of)]).set(seconds);
        }
        self.count_rate(record);
    }

    fn epoch(&mut self, record: &EpochRecord) {
        self.epochs.inc();
        if let Some(loss) = record.val_loss {
            set(&self.validation_loss, loss.into());
        }
        if let Some(accuracy) = record.val_accuracy {
            set(&self.validation_accuracy, accuracy.into());
        }
    }

    fn event(&mut self, record: &EventRecord) {
        let labels = [("kind", record.kind)];
        self.decisions.get_or_create(&labels).inc();
        if FAULT_KINDS.contains(&record.kind) {
            self.faults.get_or_create(&labels).inc();
        }
    }

    fn norms(&mut self, record: &NormsRecord) {
        let (weights, gradient) = record.total();
        set(&self.weight_norm, weights);
        set(&self.gradient_norm, gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{measures::TensorNorms, record::examples};

    fn facts() -> RunFacts {
        RunFacts { run_id: "0011".to_owned(), version: "1.2.3", numerics_version: 4, steps: 100, done: 7 }
    }

    /// The value of a sample, if there is one.
    fn sample(exposition: &Exposition, name: &str) -> Option<f64> {
        let text = exposition.open_metrics();
        let line =
            text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        Some(line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    #[test]
    fn before_the_first_step_nothing_is_made_up() {
        let (_sink, exposition) = PrometheusSink::new(&facts());
        let text = exposition.open_metrics();
        for line in [
            "lockstep_run_info{run_id=\"0011\",version=\"1.2.3\",numerics_version=\"4\"} 1",
            "lockstep_step 7.0",
            "lockstep_planned_steps 100.0",
            "lockstep_steps_total 0",
            "lockstep_faults_total{kind=\"worker_dropped\"} 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        for name in ["lockstep_loss", "lockstep_validation_loss", "lockstep_examples_per_second"] {
            assert_eq!(sample(&exposition, name), None);
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn records_move_the_metrics() {
        let (mut sink, exposition) = PrometheusSink::new(&facts());
        let step = examples::step();
        sink.step(&StepRecord { step: 8, ..step.clone() });
        sink.step(&StepRecord { step: 9, loss: 1.5, workers: 3, ..step });
        sink.epoch(&examples::epoch());
        for kind in ["copied", "worker_dropped", "copied"] {
            sink.event(&EventRecord { kind, ..examples::event() });
        }
        let tensors = vec![TensorNorms { name: "conv1.kernel", weights: 3.0, gradient: 0.5 }];
        sink.norms(&NormsRecord { step: 8, tensors });
        for (name, value) in [
            ("lockstep_step", 9.0),
            ("lockstep_epoch", 1.0),
            ("lockstep_workers", 3.0),
            ("lockstep_loss", 1.5),
            ("lockstep_accuracy_ratio", 0.125),
            ("lockstep_validation_loss", f64::from(0.1123_f32)),
            ("lockstep_validation_accuracy_ratio", f64::from(0.967_f32)),
            ("lockstep_examples_per_second", 16_000.0),
            ("lockstep_weight_norm", 3.0),
            ("lockstep_gradient_norm", 0.5),
            ("lockstep_steps_total", 2.0),
            ("lockstep_epochs_total", 1.0),
            ("lockstep_examples_total", 128.0),
            ("lockstep_sent_bytes_total", 1_062_208.0),
            ("lockstep_received_bytes_total", 265_552.0),
            ("lockstep_step_duration_seconds_sum", 0.008),
            ("lockstep_step_duration_seconds_count", 2.0),
            ("lockstep_step_duration_seconds_bucket{le=\"0.002\"}", 0.0),
            ("lockstep_step_duration_seconds_bucket{le=\"0.004\"}", 2.0),
            ("lockstep_step_part_seconds_total{part=\"send\"}", 0.001),
            ("lockstep_step_part_seconds_total{part=\"wait\"}", 0.004),
            ("lockstep_step_part_seconds_total{part=\"reduce\"}", 0.0005),
            ("lockstep_step_part_seconds_total{part=\"update\"}", 0.00002),
            ("lockstep_node_compute_seconds{of=\"median\"}", 0.001),
            ("lockstep_node_compute_seconds{of=\"max\"}", 0.0015),
            ("lockstep_decisions_total{kind=\"copied\"}", 2.0),
            ("lockstep_decisions_total{kind=\"worker_dropped\"}", 1.0),
            ("lockstep_faults_total{kind=\"worker_dropped\"}", 1.0),
        ] {
            assert_eq!(sample(&exposition, name), Some(value), "{name} in\n{}", exposition.open_metrics());
        }
        assert_eq!(sample(&exposition, "lockstep_faults_total{kind=\"copied\"}"), None);
    }

    #[test]
    fn the_rate_is_that_of_the_newest_second() {
        let (mut sink, exposition) = PrometheusSink::new(&facts());
        let mut rate = |seconds: f64| {
            sink.step(&StepRecord { seconds, examples: 60, ..examples::step() });
            sample(&exposition, "lockstep_examples_per_second")
        };
        assert_eq!(rate(0.25), Some(240.0), "the first step, which is all there is");
        assert_eq!(rate(0.5), Some(240.0));
        assert_eq!(rate(0.5), Some(120.0), "120 examples in a second");
        assert_eq!(rate(2.0), Some(30.0));
    }

    #[test]
    fn both_formats_have_the_same_samples() {
        let (mut sink, exposition) = PrometheusSink::new(&facts());
        sink.step(&examples::step());
        let samples = |text: String| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(samples(exposition.open_metrics()), samples(exposition.plain_text()));
        let plain = exposition.plain_text();
        assert!(
            plain.contains("# TYPE lockstep_steps_total counter\n") && !plain.contains("# EOF"),
            "{plain}"
        );
    }
}
