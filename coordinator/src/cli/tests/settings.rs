//! Tests of the merged settings, through the real command line.

mod resuming;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, ffi::OsString, fs, process};

use clap::FromArgMatches;
use lockstep_run_directory::identity::{RunIdentity, StoredIdentity};

use crate::cli::{Cli, Command, Invocation, UsageError, command, parse};
use crate::settings::flags::Flags;
use crate::settings::{DatasetChoice, Settings};

fn settings(arguments: &[&str]) -> Result<Settings, UsageError> {
    let arguments = ["coordinator"].iter().chain(arguments).map(OsString::from);
    match parse(arguments)?.invocation {
        Invocation::Train(settings) => Ok(*settings),
        _ => panic!("these arguments are not those of a training run"),
    }
}

fn with_file(text: &str, arguments: &[&str]) -> Result<Settings, UsageError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.toml");
    fs::write(&path, text).unwrap();
    settings(&[&["--config", path.to_str().unwrap()], arguments].concat())
}

fn refusal(arguments: &[&str]) -> String {
    match settings(arguments) {
        Err(error @ UsageError::Settings { .. }) => {
            let message = error.to_string();
            assert!(!message.contains('\n'), "{message}");
            message
        }
        Err(other) => panic!("{arguments:?} was refused by the parser: {other}"),
        Ok(_) => panic!("{arguments:?} was accepted"),
    }
}

/// The environment belongs to the process, so the test named `test` runs itself again with other variables. Returns
/// whether this is the inner run.
fn inside(test: &str, variables: &[(&str, &str)]) -> bool {
    const MARK: &str = "TEST_RUNS_INSIDE";
    if env::var_os(MARK).is_some() {
        return true;
    }
    let output = process::Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("cli::tests::settings::{test}")])
        .env(MARK, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report.contains("1 passed"), "{report}");
    false
}

#[test]
fn defaults() {
    let settings = settings(&[]).unwrap();
    assert_eq!(settings.workers.get(), 4);
    assert_eq!(settings.listen, None);
    assert_eq!(settings.dataset, DatasetChoice::Auto);
    assert_eq!((settings.epochs.get(), settings.batch_size.get(), settings.micro_shards.get()), (10, 64, 16));
    assert_eq!(settings.learning_rate.get().to_bits(), 0.01_f32.to_bits());
    assert_eq!((settings.seed, settings.validation_split.get()), (42, 0.15));
    assert_eq!((settings.examples, settings.max_steps, settings.data_dir), (None, None, None));
    assert_eq!(settings.run_dir, None);
    assert!(!settings.external && !settings.insecure && !settings.offline && !settings.json);
    assert!(settings.metrics && settings.tensorboard && settings.progress && settings.token.is_none());
    assert_eq!((settings.deadline, settings.patience), (Duration::from_secs(1), Duration::from_secs(60)));
    assert_eq!((settings.checkpoint_every, settings.max_restarts), (Duration::from_secs(1), 10));
    assert!(settings.resume.is_none());
}

#[test]
fn threads_share_the_processors_among_the_workers() {
    let threads = |cores, workers| on_a_machine(cores, &["--workers", workers]).threads_per_worker.get();
    assert_eq!((threads(16, "4"), threads(7, "2"), threads(2, "4"), threads(1, "1")), (4, 3, 1, 1));
    assert_eq!(settings(&["--threads-per-worker", "3"]).unwrap().threads_per_worker.get(), 3);
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let file = "epochs = 3\nseed = 7\nexternal = true\nexamples = 500\ntoken = 'secret'\n";
    let merged = with_file(file, &["--epochs", "10", "--external=false", "--examples", "60"]).unwrap();
    assert_eq!(merged.epochs.get(), 10, "a flag that repeats the default is still a flag");
    assert!(!merged.external);
    assert_eq!(merged.examples.unwrap().get(), 60);
    assert_eq!(merged.seed, 7);
    assert_eq!(merged.token.unwrap().reveal(), "secret");
    assert_eq!(merged.batch_size.get(), 64);
    assert!(with_file(file, &[]).unwrap().external);
    assert!(with_file("external = false", &["--external"]).unwrap().external);
}

#[test]
fn the_environment_stands_between_flag_and_file() {
    let variables = [
        ("LOCKSTEP_EPOCHS", "5"),
        ("LOCKSTEP_SEED", "6"),
        ("LOCKSTEP_EXTERNAL", "1"),
        ("LOCKSTEP_NO_METRICS", "no"),
        ("LOCKSTEP_TOKEN", "from-the-environment"),
        ("LOCKSTEP_MAX_STEPS", "9"),
        ("LOCKSTEP_DEADLINE", "0.5"),
        ("LOCKSTEP_CHECKPOINT_EVERY", "0"),
        ("LOCKSTEP_MAX_RESTARTS", "2"),
    ];
    if !inside("the_environment_stands_between_flag_and_file", &variables) {
        return;
    }
    let file = "epochs = 3\nseed = 7\nbatch-size = 8\nexternal = false\nno-metrics = true\ntoken = 'file'\n\
                deadline = 3\ncheckpoint-every = '1m'\npatience = '2m'\n";
    let merged = with_file(file, &["--seed", "42"]).unwrap();
    assert_eq!(merged.epochs.get(), 5);
    assert_eq!(merged.seed, 42);
    assert_eq!(merged.batch_size.get(), 8);
    assert!(merged.external && merged.metrics);
    assert_eq!(merged.token.unwrap().reveal(), "from-the-environment");
    assert_eq!(merged.max_steps.unwrap().get(), 9);
    assert_eq!((merged.deadline, merged.patience), (Duration::from_millis(500), Duration::from_secs(120)));
    assert_eq!((merged.checkpoint_every, merged.max_restarts), (Duration::ZERO, 2));
}

#[test]
fn the_environment_can_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.toml");
    fs::write(&path, "epochs = 3\n").unwrap();
    if inside("the_environment_can_name_the_file", &[("LOCKSTEP_CONFIG", path.to_str().unwrap())]) {
        assert_eq!(settings(&[]).unwrap().epochs.get(), 3);
    }
}

#[test]
fn variables_of_a_training_run_do_not_disturb_subcommands() {
    if inside("variables_of_a_training_run_do_not_disturb_subcommands", &[("LOCKSTEP_WORKERS", "2")]) {
        let arguments = ["coordinator", "data", "verify"].map(OsString::from);
        assert!(matches!(parse(arguments).unwrap().invocation, Invocation::Command(Command::Data(_))));
    }
}

#[test]
fn counts_out_of_bounds_are_refused() {
    assert_eq!(refusal(&["--workers", "0"]), "--workers is 0; it must be from 1 to 1024");
    assert_eq!(refusal(&["--workers", "1025"]), "--workers is 1025; it must be from 1 to 1024");
    assert_eq!(
        refusal(&["--threads-per-worker", "0"]),
        "--threads-per-worker is 0; it must be from 1 to 1024"
    );
    for flag in ["--epochs", "--batch-size", "--examples", "--max-steps"] {
        assert_eq!(refusal(&[flag, "0"]), format!("{flag} is 0; it must be at least 1"));
    }
    assert!(settings(&["--workers", "1024"]).is_ok());
    assert!(matches!(settings(&["--epochs", "many"]), Err(UsageError::Arguments(_))));
}

#[test]
fn periods_out_of_bounds_are_refused() {
    for (given, shown) in [("49ms", "49ms"), ("0", "0s"), ("601", "601s"), ("1h", "3600s")] {
        assert_eq!(
            refusal(&["--deadline", given]),
            format!("--deadline is {shown}; it must be from 50ms to 600s")
        );
    }
    for (flag, given) in [("--patience", "8761h"), ("--checkpoint-every", "8761h")] {
        assert_eq!(refusal(&[flag, given]), format!("{flag} is 31539600s; it must be from 0s to 31536000s"));
    }
    for good in [["--deadline", "50ms"], ["--deadline", "10m"], ["--patience", "0"], ["--patience", "8760h"]]
    {
        assert!(settings(&good).is_ok(), "{good:?}");
    }
    for wrong in [
        ["--deadline", "soon"],
        ["--patience", "-1"],
        ["--checkpoint-every", "1 day"],
        ["--max-restarts", "-1"],
    ] {
        match settings(&wrong) {
            Err(UsageError::Arguments(error)) => {
                let message = error.to_string();
                assert!(message.contains(wrong[0]) && message.contains(wrong[1]), "{message}");
            }
            _ => panic!("{wrong:?}"),
        }
    }
}

#[test]
fn the_file_is_held_to_the_same_rules() {
    for (text, expected) in [
        ("deadline = '10ms'", "--deadline is 10ms; it must be from 50ms to 600s"),
        ("workers = 0", "--workers is 0; it must be from 1 to 1024"),
        (
            "learning-rate = nan",
            "--learning-rate is NaN; it must be a finite number above 0, for example 0.01",
        ),
        ("epoch = 3", "unknown key 'epoch'; did you mean 'epochs'?"),
    ] {
        let message = with_file(text, &[]).unwrap_err().to_string();
        assert!(message.ends_with(expected), "{message}");
    }
}

#[test]
fn rates_that_are_not_finite_and_positive_are_refused() {
    for rate in ["0", "-0.1", "NaN", "inf", "-inf", "1e-50"] {
        let message = refusal(&[&format!("--learning-rate={rate}")]);
        assert!(message.ends_with("it must be a finite number above 0, for example 0.01"), "{message}");
    }
    assert_eq!(
        refusal(&["--learning-rate", "-1"]),
        "--learning-rate is -1; it must be a finite number above 0, for example 0.01"
    );
    assert!(settings(&["--learning-rate", "1e-45"]).is_ok());
}

#[test]
fn splits_out_of_bounds_are_refused() {
    for split in ["-0.1", "0.91", "1", "NaN"] {
        let message = refusal(&["--validation-split", split]);
        assert_eq!(
            message,
            format!("--validation-split is {split}; it must be from 0 to 0.9, for example 0.15")
        );
    }
    for (split, expected) in [("0", 0.0_f64), ("-0", 0.0), ("0.9", 0.9)] {
        let settings = settings(&["--validation-split", split]).unwrap();
        assert_eq!(settings.validation_split.get().to_bits(), expected.to_bits());
    }
}

#[test]
fn micro_shards_must_be_a_power_of_two() {
    for (given, example) in [("0", 1), ("3", 4), ("12", 16), ("65537", 65_536), ("4294967295", 65_536)] {
        assert_eq!(
            refusal(&["--micro-shards", given]),
            format!(
                "--micro-shards is {given}; it must be a power of two from 1 to 65536, for example {example}"
            )
        );
    }
    for good in ["1", "16", "65536"] {
        assert!(settings(&["--micro-shards", good]).is_ok());
    }
}

#[test]
fn an_address_off_loopback_needs_consent() {
    for address in ["0.0.0.0:29400", "192.168.1.2:0", "[::]:29400", "[::ffff:10.0.0.1]:1"] {
        assert_eq!(
            refusal(&["--listen", address]),
            format!(
                "--listen {address} can be reached from other machines and nothing on the wire is encrypted; \
                 add --insecure if you trust that network, or listen on 127.0.0.1"
            )
        );
        assert!(settings(&["--listen", address, "--insecure"]).is_ok());
    }
    for address in ["127.0.0.1:29400", "127.9.9.9:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        assert!(settings(&["--listen", address]).is_ok(), "{address}");
    }
}

#[test]
fn a_dashboard_is_served_on_loopback_unless_told_otherwise() {
    assert_eq!(settings(&[]).unwrap().dashboard, "127.0.0.1:0".parse().ok());
    assert_eq!(settings(&["--no-dashboard"]).unwrap().dashboard, None);
    assert_eq!(with_file("no-dashboard = true", &[]).unwrap().dashboard, None);
    let given = with_file("dashboard = '127.0.0.1:1'", &["--dashboard", "127.0.0.1:2"]).unwrap();
    assert_eq!(given.dashboard, "127.0.0.1:2".parse().ok());
    for address in ["0.0.0.0:8080", "[::]:0", "192.168.1.2:80"] {
        assert_eq!(
            refusal(&["--dashboard", address]),
            format!(
                "--dashboard {address} can be reached from other machines, and whoever reaches it sees the run; \
                 add --insecure if you trust that network, or serve on 127.0.0.1"
            )
        );
        assert!(settings(&["--dashboard", address, "--insecure"]).is_ok());
    }
    assert_eq!(
        refusal(&["--stay", "--no-dashboard"]),
        "--stay keeps the dashboard after the run and --no-dashboard serves none; leave one of them out"
    );
    assert!(settings(&["--stay"]).unwrap().stay);
}

#[test]
fn a_micro_shard_must_fit_one_message() {
    // 64,116 examples of 785 bytes are the most that fit 48 MiB.
    assert!(settings(&["--batch-size", "64116", "--micro-shards", "1"]).is_ok());
    assert_eq!(
        refusal(&["--batch-size", "64117", "--micro-shards", "1"]),
        "a micro-shard of 64117 examples (--batch-size 64117 over --micro-shards 1) has 50331845 bytes of pixels \
         and labels, more than the 50331648 of one message; raise --micro-shards to 2"
    );
    assert!(settings(&["--batch-size", "64117", "--micro-shards", "2"]).is_ok());
    let message = refusal(&["--batch-size", "4294967295", "--micro-shards", "65536"]);
    assert!(
        message.ends_with("set --micro-shards to 65536 and lower --batch-size to 4201906176"),
        "{message}"
    );
    assert!(settings(&["--batch-size", "4201906176", "--micro-shards", "65536"]).is_ok());
}

#[test]
fn tokens_have_a_length_and_are_never_shown() {
    assert_eq!(refusal(&["--token="]), "--token: a join token has 1 to 128 characters, this one has 0");
    let long = "s3cret".repeat(50);
    let message = refusal(&["--token", &long]);
    assert!(message.contains("this one has 300") && !message.contains("s3cret"), "{message}");

    let settings = settings(&["--token", "s3cret"]).unwrap();
    assert!(!format!("{settings:?}").contains("s3cret"));
    assert!(!settings.to_toml(&stored(identity())).contains("s3cret"));
}

#[test]
fn settings_are_checked_against_the_data() {
    let check = |arguments: &[&str], train_examples| {
        let refused = settings(arguments).unwrap().check_against(train_examples).err();
        refused.map(|error| error.to_string())
    };
    assert_eq!(check(&[], 51_000), None);
    assert_eq!(
        check(&["--validation-split", "0.9"], 0).unwrap(),
        "--validation-split 0.9 leaves no example to train on; lower it, or take more examples (--examples)"
    );
    assert_eq!(check(&["--batch-size", "85"], 85), None);
    assert_eq!(
        check(&["--batch-size", "86"], 85).unwrap(),
        "--batch-size is 86 but there are only 85 training examples; lower it to 85 or less, or take more examples \
         (--examples)"
    );
}

const RUN_ID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255];

fn identity() -> RunIdentity {
    RunIdentity {
        seed: u64::MAX,
        dataset: "digits".to_owned(),
        dataset_sha256: "cd".repeat(32),
        examples: 60_000,
        validation_split: 0.15,
        batch_size: 64,
        micro_shards: 16,
        learning_rate: 0.01,
        numerics_version: 1,
        initial_weights: None,
    }
}

fn stored(identity: RunIdentity) -> StoredIdentity {
    StoredIdentity { run_id: RUN_ID, identity, fallback: None }
}

/// The settings of `arguments` on a machine with `cores` processors.
fn on_a_machine(cores: u32, arguments: &[&str]) -> Settings {
    let matches = command().get_matches_from([&["coordinator"], arguments].concat());
    let train = Cli::from_arg_matches(&matches).unwrap().train;
    Settings::resolve(train.asked(&matches), cores.try_into().unwrap()).unwrap()
}

#[test]
fn what_a_run_keeps_means_the_same_from_another_folder_and_on_another_machine() {
    // Every key as somebody may ask for it, paths relative to where they are; and how it is kept.
    const ASKED: [(&str, &str, Option<&str>); 33] = [
        ("workers", "3", Some("3")),
        ("external", "", Some("true")),
        ("listen", "127.0.0.2:29400", Some("\"127.0.0.2:29400\"")),
        ("insecure", "", Some("true")),
        ("deadline", "2s", Some("\"2s\"")),
        ("patience", "3s", Some("\"3s\"")),
        ("max-restarts", "4", Some("4")),
        ("dataset", "digits", Some("\"digits\"")),
        ("data-dir", "some/data", Some("\"HERE/some/data\"")),
        ("epochs", "5", Some("5")),
        ("batch-size", "32", Some("32")),
        ("learning-rate", "0.5", Some("0.5")),
        ("seed", "7", Some("7")),
        ("validation-split", "0.25", Some("0.25")),
        ("micro-shards", "8", Some("8")),
        ("examples", "1000", Some("1000")),
        ("max-steps", "9", Some("9")),
        // The run's own copy, which lies beside the file: `Place::write_config` names it.
        ("init", "initial.safetensors", Some("\"initial.safetensors\"")),
        ("offline", "", Some("true")),
        ("checkpoint-every", "6s", Some("\"6s\"")),
        ("threads-per-worker", "11", Some("11")),
        ("run-dir", "some/run", None),
        ("json", "", Some("true")),
        ("token", "s3cret", None),
        ("no-metrics", "", Some("true")),
        ("no-tensorboard", "", Some("true")),
        ("timeline", "some/trace.json", None),
        ("timeline-every", "12", Some("12")),
        ("no-progress", "", Some("true")),
        ("dashboard", "127.0.0.3:8080", Some("\"127.0.0.3:8080\"")),
        ("dashboard-host", "box.example", Some("[\"box.example\"]")),
        ("no-dashboard", "", Some("false")),
        ("stay", "", Some("true")),
    ];
    assert_eq!(ASKED.map(|(key, ..)| key.to_owned()).to_vec(), Flags::names());
    let flag = |(key, value, _): &(&str, &str, Option<&str>)| match *value {
        "" => format!("--{key}"),
        value => format!("--{key}={value}"),
    };
    // It contradicts two others.
    let flags: Vec<String> = ASKED.iter().filter(|(key, ..)| *key != "no-dashboard").map(flag).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let here = env::current_dir().unwrap();
    let text = on_a_machine(32, &flags).to_toml(&stored(identity()));
    let settings = text.split("# Which run").next().unwrap();
    for (key, _, kept) in ASKED {
        let line = settings.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        let kept = kept.map(|kept| kept.replace("HERE", here.to_str().unwrap()));
        assert_eq!(line, kept.as_deref(), "{key}");
    }

    // What nobody asked for is that of the machine where the run goes on.
    let text = on_a_machine(32, &["--dataset=digits"]).to_toml(&stored(identity()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, &text).unwrap();
    let elsewhere = on_a_machine(2, &["--config", path.to_str().unwrap()]);
    assert_eq!(format!("{elsewhere:?}"), format!("{:?}", on_a_machine(2, &["--dataset=digits"])), "{text}");
    let again = elsewhere.to_toml(&stored(identity()));
    assert_eq!(again, text, "and so is what is kept then");
}

#[test]
fn what_is_written_reads_back_as_the_same_settings() {
    let arguments = [
        "--workers=3",
        "--external",
        "--listen=[::]:29400",
        "--insecure",
        "--deadline=1.05s",
        "--patience=0",
        "--max-restarts=0",
        "--checkpoint-every=2m",
        "--dataset=digits",
        "--data-dir=/a folder/\"quoted\"",
        "--epochs=2",
        "--batch-size=32",
        "--learning-rate=0.123456789",
        "--seed=18446744073709551615",
        "--validation-split=0.1",
        "--micro-shards=8",
        "--examples=1000",
        "--max-steps=7",
        "--init=/a folder/start.safetensors",
        "--offline",
        "--threads-per-worker=2",
        "--json",
        "--no-metrics",
        "--no-tensorboard",
        "--no-progress",
        "--dashboard=[::]:8080",
        "--stay",
    ];
    for arguments in [&arguments[..], &["--dataset=digits", "--seed=9223372036854775808", "--no-dashboard"]] {
        let original = settings(arguments).unwrap();
        let text = original.to_toml(&stored(identity()));
        let read = with_file(&text, &[]).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(format!("{read:?}"), format!("{original:?}"), "{text}");
    }
}

#[test]
fn the_written_file_is_plain_and_has_the_identity() {
    let directory = tempfile::tempdir().unwrap();
    let run = directory.path().join("run");
    let written = settings(&["--run-dir", run.to_str().unwrap(), "--threads-per-worker", "1"]).unwrap();
    let text = written.to_toml(&stored(RunIdentity { seed: 42, ..identity() }));
    let expected = format!(
        "# The settings of this run. `coordinator --config THIS_FILE` trains the same again, in a new run directory.\n\
         workers = 4\nexternal = false\ninsecure = false\n\
         deadline = \"1s\"\npatience = \"60s\"\nmax-restarts = 10\ndataset = \"digits\"\nepochs = 10\n\
         batch-size = 64\nlearning-rate = 0.01\nseed = 42\nvalidation-split = 0.15\nmicro-shards = 16\n\
         offline = false\ncheckpoint-every = \"1s\"\nthreads-per-worker = 1\njson = false\nno-metrics = false\nno-tensorboard = false\n\
         timeline-every = 100\nno-progress = false\n\
         dashboard = \"127.0.0.1:0\"\nno-dashboard = false\nstay = false\n\n\
         # Which run this is, for --resume.\n[run]\nid = \"000102030405060708090a0b0c0d0eff\"\n\n\
         # What decides the bits of this run. --config ignores it, --resume holds on to it.\n\
         [identity]\nseed = 42\ndataset = \"digits\"\ndataset-sha256 = \"{}\"\nexamples = 60000\n\
         validation-split = 0.15\nbatch-size = 64\nmicro-shards = 16\nlearning-rate = 0.01\nnumerics-version = 1\n",
        "cd".repeat(32)
    );
    assert_eq!(text, expected);
    assert_eq!(written.run_dir.as_deref(), Some(Path::new(&run)));
}
