//! `coordinator`: trains with local or external workers, and works on the training data.

use std::process::ExitCode;
use std::time::Duration;

use lockstep_chaos as chaos;
use lockstep_command_line::exit::{EXIT_DONE, EXIT_FAILED, EXIT_USAGE, sentence};
use lockstep_command_line::signals;
use lockstep_command_line::variables::Variables;
use lockstep_coordinator::bench;
use lockstep_coordinator::cli::{self, Command, Invocation, Parsed, UsageError};
use lockstep_coordinator::commands::{compare, data, evaluate, export, predict, report, show, train, verify};
use lockstep_coordinator::settings::SettingsError;
use lockstep_run_directory::identity::OtherIdentity;
use lockstep_run_directory::user_file::TwoResults;
use lockstep_scaling as scaling;
use lockstep_telemetry::Terminal;
use lockstep_worker::cli::log_filter;
use lockstep_worker::instruction_set;
use tracing::Level;
use tracing_subscriber::prelude::*;

/// How long the end waits for somebody who pages through the output.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    if let Err(error) = signals::take_over() {
        return lockstep_worker::cli::no_signals(&error);
    }
    let Parsed { invocation, variables } = match cli::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => return error.report().into(),
    };
    let invocation = match invocation {
        Invocation::Command(Command::Worker(arguments)) => {
            return lockstep_worker::cli::main(arguments, &variables);
        }
        invocation => invocation,
    };
    if let Err(error) = instruction_set::force_from_environment() {
        return UsageError::from(error).report().into();
    }
    let terminal = Terminal::stderr();
    let log = tracing_subscriber::fmt()
        // What is shown is for the filter to say.
        .with_max_level(Level::TRACE)
        .with_ansi(terminal.has_color())
        .with_target(false)
        .with_writer(terminal.log_writer());
    // A file needs the time of each line, a terminal does not.
    if terminal.is_interactive() {
        log.without_time().finish().with(log_filter()).init()
    } else {
        log.finish().with(log_filter()).init()
    }
    for warning in cli::unknown_variables(std::env::vars_os().map(|(name, _)| name)) {
        tracing::warn!("{warning}");
    }
    let code = run(invocation, &variables, &terminal);
    terminal.flush(FLUSH_LIMIT);
    code
}

fn run(invocation: Invocation, variables: &Variables, terminal: &Terminal) -> ExitCode {
    let result = match invocation {
        Invocation::Train(settings) => train::train(&settings, terminal),
        Invocation::Command(command) => match command {
            Command::Verify(arguments) => verify::run(&arguments, terminal),
            Command::Export(arguments) => export::run(&arguments, terminal),
            Command::Evaluate(arguments) => evaluate::run(&arguments, terminal),
            Command::Predict(arguments) => predict::run(&arguments, terminal),
            Command::Show(arguments) => show::run(&arguments, terminal),
            Command::Compare(arguments) => compare::run(&arguments),
            Command::Report(arguments) => report::run(&arguments, terminal),
            Command::Chaos(arguments) => chaos::run(arguments, &cli::training_flags()),
            Command::Bench(bench) => bench::run(bench),
            Command::Data(arguments) => data::run(&arguments, terminal).map(|()| EXIT_DONE),
            Command::Worker(_) => unreachable!("a worker has its own logs"),
        },
    };
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            terminal.print_line(&format!("error: {}", variables.name_in(&sentence(&error))));
            // The settings may turn out to be wrong only when the data are there.
            let usage = error.downcast_ref::<SettingsError>().is_some()
                || error.downcast_ref::<OtherIdentity>().is_some()
                || error.downcast_ref::<TwoResults>().is_some()
                || error.downcast_ref::<chaos::PlanError>().is_some()
                || error.downcast_ref::<compare::SameRun>().is_some()
                || error.downcast_ref::<scaling::PlanError>().is_some();
            (if usage { EXIT_USAGE } else { EXIT_FAILED }).into()
        }
    }
}
