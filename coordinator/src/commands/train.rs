//! `coordinator`: trains as its settings say, from the first check to the exit code.
//!
//! Everything that a user's mistake can break (address, data, run directory) comes first and leaves nothing behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Result;
use lockstep_command_line::exit::EXIT_DONE;
use lockstep_command_line::runtime;
use lockstep_command_line::{Signals, exit_code};
use lockstep_control::Signal;
use lockstep_telemetry::Terminal;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::finish::Shutdown;
use crate::finish::outcome::{self, EndedRun};
use crate::settings::Settings;
use crate::start::open_run::OpenRun;
use crate::start::{Inputs, ReadyRun};

/// Trains as the settings say and reports on standard output; returns the exit code.
///
/// # Errors
///
/// Whatever keeps the run from starting or its results from being written.
pub fn train(settings: &Settings, terminal: &Terminal) -> Result<u8> {
    let start = Instant::now();
    raise_descriptor_limit();
    lockstep_failpoints::crash::arm("coordinator");
    let runtime = runtime::on_this_thread()?;
    let code = runtime.block_on(train_on(settings, terminal, start));
    runtime.shutdown_background();
    code
}

async fn train_on(settings: &Settings, terminal: &Terminal, start: Instant) -> Result<u8> {
    let resumed = settings.resume.as_ref().map(OpenRun::resume).transpose()?;
    if let Some(summary) = resumed.as_ref().map(|run| run.finished(settings)).transpose()?.flatten() {
        terminal.detach();
        return outcome::print(&outcome::summary_text(settings, &summary)).map(|()| EXIT_DONE);
    }
    let mut inputs = Inputs::find(settings, terminal).await?;
    let (identity, fallback) = (inputs.identity.clone(), inputs.dataset.fallback.clone());
    let socket = inputs.socket.take();
    // From here on there is something to leave in order; before, the system's default is the faster end.
    let mut signals = Signals::new()?;
    let open = match resumed {
        Some(open) => open,
        None => OpenRun::create(settings, &identity, fallback.clone(), &inputs.initial)?,
    };
    let ready = ReadyRun::assemble(settings, terminal, &open, inputs, start)?;
    let ReadyRun { mut run, mut incoming, service, dashboard, digits, term } = ready;
    if settings.resume.is_some() {
        open.write_config(settings, &identity)?;
    }
    // A process that is to end by now has not begun anything, and leaves nothing.
    if let Some(signal) = pending_signal(&mut signals).await {
        return Ok(exit_code(signal));
    }
    if settings.resume.is_some() {
        open.discard_report();
    }
    let begun = open.created.when_kept();
    let local =
        socket.map(|socket| service.start_local(settings, socket, open.directory.logs(), Arc::clone(&begun)));
    if local.is_none() {
        open.created.keep();
    }
    service.print_join_command(settings, terminal);
    let outcome = run.drive(&mut incoming, &mut signals).await;
    let ended = EndedRun {
        settings,
        identity: &identity,
        fallback: fallback.is_some(),
        run_id: open.run_id,
        term,
        directory: &open.directory,
        outcome,
        begun: begun.load(Ordering::Relaxed),
    };
    Shutdown { run, incoming, local, signals, ended, digits, dashboard, terminal }.finish().await
}

/// A worker takes up to three descriptors here, and the usual limit of 1,024 is far below the usual maximum.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("the limit of descriptors stays as it is: {error}");
    }
}

/// The operator's signal that has come already, if one has.
async fn pending_signal(signals: &mut Signals) -> Option<Signal> {
    tokio::select! {
        biased;
        signal = signals.next() => Some(signal),
        // The runtime looks at what the system has, once.
        () = tokio::task::yield_now() => None,
    }
}
