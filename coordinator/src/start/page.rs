//! The live page of a run: the dashboard, and what machines ask beside it (metrics, readiness).

use std::net::SocketAddr;

use lockstep_control::TaskOrder;
use lockstep_dashboard::metrics_routes::{self, MetricsState};
use lockstep_dashboard::{Dashboard, DashboardError, Digits, Facts, RunFiles};
use lockstep_model::NUMERICS_VERSION;
use lockstep_run_directory::identity::RunIdentity;
use lockstep_telemetry::{PrometheusSink, Readiness, Recorder, RunFacts};

use super::open_run::{OpenRun, ResumePoint};
use crate::batches::Batches;
use crate::settings::{HostName, Settings};

/// The page, served already, and its sinks, which get nothing before `follow`.
pub(crate) struct Page {
    dashboard: Dashboard,
    prometheus: PrometheusSink,
    readiness: Readiness,
}

/// What the page shows besides records.
pub(super) struct PageContents {
    pub facts: Facts,
    pub files: RunFiles,
    pub digits: Digits,
    /// The weights that the run began with.
    pub first_weights: Box<[f32]>,
}

impl Page {
    /// Serves the page of a run that is still to start.
    ///
    /// # Errors
    ///
    /// If the address cannot be had.
    pub(super) fn start(address: SocketAddr, vouched: &[HostName]) -> Result<Self, DashboardError> {
        let (prometheus, exposition) = PrometheusSink::new();
        let readiness = Readiness::default();
        let routes = metrics_routes::router(MetricsState { exposition, readiness: readiness.clone() });
        Ok(Self { dashboard: Dashboard::start(address, vouched.to_vec(), routes)?, prometheus, readiness })
    }

    /// Its address for people.
    pub(super) fn url(&self) -> String {
        self.dashboard.url()
    }

    /// Shows the contents, the records of the run's earlier processes, and from now on what `recorder` gets.
    pub(super) fn follow(
        self,
        settings: &Settings,
        open: &OpenRun,
        contents: PageContents,
        facts: &RunFacts,
        recorder: &mut Recorder,
    ) -> Dashboard {
        let PageContents { facts: shown, files, digits, first_weights } = contents;
        self.dashboard.prepare(shown, files, Some(digits), Some(first_weights));
        let history = self.dashboard.history();
        let files = [open.directory.metrics(), open.directory.events()];
        if settings.resume.is_some()
            && let Err(error) = history.restore(&files, &open.run_id.to_string())
        {
            tracing::warn!("the dashboard has no records of the steps before: {error}");
        }
        recorder.add(history);
        self.prometheus.describe(facts);
        recorder.add(self.prometheus);
        recorder.add(self.readiness);
        self.dashboard
    }
}

/// What the dashboard shows of a run: its settings and how its data are cut.
pub(super) fn facts(
    settings: &Settings,
    identity: &RunIdentity,
    open: &OpenRun,
    batches: &Batches,
    tasks: &TaskOrder,
    fallback: bool,
) -> Facts {
    let configuration = settings.to_toml(&open.stored(identity));
    let facts = Facts {
        run_id: open.run_id.to_string(),
        directory: open.directory.path().display().to_string(),
        dataset: identity.dataset.clone(),
        dataset_fallback: fallback,
        steps: tasks.steps,
        steps_per_epoch: tasks.steps_per_epoch,
        train_examples: batches.train_examples(),
        test_examples: batches.test_examples(),
        epochs: settings.epochs.get(),
        ..Facts::default()
    };
    Facts { dataset_fallback: fallback, ..facts.with_configuration(&configuration) }
}

/// What Prometheus gets of the run besides records.
pub(super) fn run_facts(open: &OpenRun, point: &ResumePoint, tasks: &TaskOrder) -> RunFacts {
    RunFacts {
        run_id: open.run_id.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        numerics_version: NUMERICS_VERSION,
        steps: tasks.steps,
        done: point.totals.steps,
    }
}
