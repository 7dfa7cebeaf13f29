//! Metrics for Prometheus: a registry that records keep up to date, and its text for scrapers.
//!
//! Owns the names: `lockstep_<what>_<unit>`, `_total` for what only grows. Counters are of this process, as Prometheus
//! expects it; gauges are of the run. Labels are bounded. It knows nothing of HTTP, and has no clock.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
};

use lockstep_records::{
    EpochRecord, EventRecord, NormsRecord, StepRecord, WorkerRecord, WorkerState, WorkersRecord,
};
use prometheus_client::{
    encoding,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::Sink;

/// The rate of examples is the mean over the newest steps that took this long together.
const RATE_SECONDS: f64 = 1.0;

/// The shortest step that is told from shorter ones, and how many buckets follow, each twice the one before: up to a
/// minute.
const SHORTEST_STEP_SECONDS: f64 = 0.000_5;
const STEP_BUCKETS: u16 = 18;

/// Kinds of events that are something gone wrong, whether or not it could be made good.
const FAULT_KINDS: [&str; 12] = [
    "contradicted",
    "copies_differ",
    "disk_behind",
    "disk_stalled",
    "log_failed",
    "node_rejected",
    "not_saved",
    "process_ended",
    "records_lost",
    "roll_back",
    "worker_dropped",
    "worker_refused",
];

/// Labels whose values are known when the program is built.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The label of an event's kind.
type KindLabel = [(&'static str, Cow<'static, str>); 1];
type Number = Gauge<f64, AtomicU64>;
type Seconds = Counter<f64, AtomicU64>;
/// Numbers of each worker that is a member, who are bounded.
type PerWorker = Family<[(&'static str, String); 1], Number>;
/// The same, divided.
type PerWorkerAndPart = Family<[(&'static str, String); 2], Number>;
/// A number that is absent until it is known.
type Later = Family<Labels<0>, Number>;

/// What is known of a run when its directory is made.
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
    run: Family<[(&'static str, String); 3], Number>,
    planned_steps: Later,
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
    decisions: Family<KindLabel, Counter>,
    faults: Family<KindLabel, Counter>,
    worker_share: PerWorker,
    worker_rate: PerWorker,
    worker_latency: PerWorker,
    worker_straggler: PerWorker,
    worker_time: PerWorkerAndPart,
    /// The labels of the workers that are shown.
    shown: Vec<String>,
    /// Examples and seconds since the rate was set.
    rate: (u64, f64),
}

/// What a worker's time divides into.
const PARTS: [&str; 3] = ["compute", "transfer", "wait"];

impl PrometheusSink {
    /// Metrics of a run that is not known yet, and what shows them.
    pub fn new() -> (Self, Exposition) {
        let mut registry = Registry::with_prefix("lockstep");
        let sink = Self {
            run: Family::default(),
            planned_steps: Later::default(),
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
            worker_share: PerWorker::default(),
            worker_rate: PerWorker::default(),
            worker_latency: PerWorker::default(),
            worker_straggler: PerWorker::default(),
            worker_time: PerWorkerAndPart::default(),
            shown: Vec::new(),
            rate: (0, 0.0),
        };
        sink.register(&mut registry);
        // What has not happened yet is zero, so that the first one is seen as an increase.
        for kind in FAULT_KINDS {
            drop(sink.faults.get_or_create(&[("kind", kind.into())]));
        }
        (sink, Exposition(Arc::new(registry)))
    }

    /// Says which run it is.
    pub fn describe(&self, facts: &RunFacts) {
        let labels = [
            ("run_id", facts.run_id.clone()),
            ("version", facts.version.to_owned()),
            ("numerics_version", facts.numerics_version.to_string()),
        ];
        self.run.get_or_create(&labels).set(1.0);
        set(&self.planned_steps, facts.steps as f64);
        self.step.set(facts.done as f64);
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("run_info", "Which run this is, and what trains it", self.run.clone());
        registry.register(
            "planned_steps",
            "Steps that the run is planned to have",
            self.planned_steps.clone(),
        );
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
            "What was decided or happened besides the steps, by kind, as in events.jsonl, at most 100,000 of a kind",
            self.decisions.clone(),
        );
        registry.register("faults", "What of that had gone wrong, by kind", self.faults.clone());
        registry.register(
            "worker_share_ratio",
            "Share of the examples that came from the worker lately",
            self.worker_share.clone(),
        );
        registry.register(
            "worker_examples_per_second",
            "Examples of the worker in a second, of training and evaluation, lately",
            self.worker_rate.clone(),
        );
        registry.register_with_unit(
            "worker_latency",
            "Mean time from work that could be begun to the worker's whole answer, lately",
            Unit::Seconds,
            self.worker_latency.clone(),
        );
        registry.register(
            "worker_straggler",
            "1 if the worker holds up the others: it is late, or needs twice the median time",
            self.worker_straggler.clone(),
        );
        registry.register(
            "worker_time_ratio",
            "What the worker's time divided into lately: computing, data on the way or in a queue, waiting",
            self.worker_time.clone(),
        );
    }

    fn show_worker(&self, label: &str, record: &WorkerRecord) {
        let labels = [("worker", label.to_owned())];
        self.worker_share.get_or_create(&labels).set(record.share);
        self.worker_rate.get_or_create(&labels).set(record.examples_per_second);
        self.worker_straggler.get_or_create(&labels).set(f64::from(u8::from(record.straggler)));
        if let Some(latency) = record.latency_seconds {
            self.worker_latency.get_or_create(&labels).set(latency);
        }
        let shares = [record.compute_share, record.transfer_share, record.wait_share];
        for (part, share) in PARTS.into_iter().zip(shares) {
            let labels = [("worker", label.to_owned()), ("part", part.to_owned())];
            self.worker_time.get_or_create(&labels).set(share);
        }
    }

    /// Takes a worker's series away that is no member any more.
    fn hide_worker(&self, label: String) {
        for part in PARTS {
            self.worker_time.remove(&[("worker", label.clone()), ("part", part.to_owned())]);
        }
        let labels = [("worker", label)];
        for family in [&self.worker_share, &self.worker_rate, &self.worker_straggler, &self.worker_latency] {
            family.remove(&labels);
        }
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
        let labels = [("kind", record.kind.clone())];
        self.decisions.get_or_create(&labels).inc();
        if FAULT_KINDS.contains(&&*record.kind) {
            self.faults.get_or_create(&labels).inc();
        }
    }

    fn workers(&mut self, record: &WorkersRecord) {
        let members: Vec<&WorkerRecord> =
            record.workers.iter().filter(|worker| worker.state != WorkerState::Gone).collect();
        let mut names: BTreeMap<&str, u32> = BTreeMap::new();
        members.iter().for_each(|worker| *names.entry(&worker.name).or_default() += 1);
        let mut shown = Vec::with_capacity(members.len());
        for worker in members {
            // Names of external workers may be the same.
            let unique = names.get(&*worker.name) == Some(&1);
            let label =
                if unique { worker.name.clone() } else { format!("{}#{}", worker.name, worker.worker) };
            self.show_worker(&label, worker);
            shown.push(label);
        }
        for gone in std::mem::replace(&mut self.shown, shown) {
            if !self.shown.contains(&gone) {
                self.hide_worker(gone);
            }
        }
    }

    fn norms(&mut self, record: &NormsRecord) {
        let (weights, gradient) = record.total();
        set(&self.weight_norm, weights);
        set(&self.gradient_norm, gradient);
    }
}

#[cfg(test)]
mod tests;
