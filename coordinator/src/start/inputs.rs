//! Everything about a run that a user's mistake can break, looked at before a file is created: addresses, the timeline's
//! path, initial weights, data.

use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lockstep_dataset::Dataset;
use lockstep_run_directory::identity::RunIdentity;
use lockstep_run_directory::path_error;
use lockstep_run_directory::user_file;
use lockstep_telemetry::Terminal;

use super::dataset;
use super::initial_weights::Initial;
use super::page::Page;
use crate::local_workers::socket::LocalSocket;
use crate::settings::Settings;

/// What a run takes from outside of its directory.
pub(crate) struct Inputs {
    /// The dashboard, on its address; absent if there is to be none.
    pub page: Option<Page>,
    /// Where external workers connect, if any can.
    pub listener: Option<TcpListener>,
    /// Where local workers connect; absent if all are external.
    pub socket: Option<LocalSocket>,
    /// The weights that the run began with, or begins with.
    pub initial: Initial,
    /// The data.
    pub dataset: Dataset,
    /// The run's identity, which follows from the others and the settings.
    pub identity: RunIdentity,
}

impl Inputs {
    /// Binds the addresses, and finds weights and data; creates no file of the run.
    ///
    /// # Errors
    ///
    /// If one of them cannot be had, or if a run to be resumed had other ones.
    pub async fn find(settings: &Settings, terminal: &Terminal) -> Result<Self> {
        let page = settings.dashboard.map(|address| Page::start(address, &settings.dashboard_hosts));
        let page = page.transpose()?;
        let listener = settings.listen.map(|address| {
            TcpListener::bind(address)
                .with_context(|| format!("cannot listen on {address}; choose another address with --listen"))
        });
        let listener = listener.transpose()?;
        settings.timeline.as_deref().map(refuse_timeline).transpose()?;
        let socket = (!settings.external).then(LocalSocket::bind).transpose();
        let socket = socket.context("cannot listen for local workers")?;
        let initial = Initial::find(settings)?;
        let dataset = dataset::load(settings, terminal)?;
        let identity = dataset::identity(settings, &dataset, &initial);
        if let Some(resume) = &settings.resume {
            if let Some(reason) = &dataset.fallback {
                tracing::warn!("TRAINING ON GENERATED DIGITS, NOT ON MNIST, as this run began: {reason}");
            }
            resume.stored.check(&identity)?;
        }
        Ok(Self { page, listener, socket, initial, dataset, identity })
    }
}

/// Refuses a path at which no timeline can be created.
fn refuse_timeline(path: &Path) -> Result<()> {
    if user_file::is_standard_output(path) {
        bail!(
            "a timeline grows while the run goes on, and takes a new file of its own; name one with --timeline"
        );
    }
    if path.exists() {
        bail!("the timeline {} exists already and is never overwritten; name another file", path.display());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(Err(error)) = folder.map(|folder| folder.join(".").metadata()) {
        bail!("cannot create the timeline {}: {}", path.display(), path_error::reason(path, &error));
    }
    Ok(())
}
