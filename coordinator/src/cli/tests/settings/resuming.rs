//! Tests of `--resume` and `--resume-or-start`, through the real command line and real run directories.

use tempfile::TempDir;

use super::*;

/// A run in the folder `run` of a scratch directory, begun with `arguments`.
struct Begun {
    scratch: TempDir,
}

impl Begun {
    fn with(arguments: &[&str]) -> Self {
        let begun = Self { scratch: tempfile::tempdir().unwrap() };
        fs::create_dir(begun.run()).unwrap();
        let settings = settings(arguments).unwrap();
        let identity = RunIdentity {
            seed: settings.seed,
            dataset: "digits".to_owned(),
            dataset_sha256: "cd".repeat(32),
            examples: settings.examples.map_or(60_000, |examples| examples.get().into()),
            validation_split: settings.validation_split.get(),
            batch_size: settings.batch_size.get(),
            micro_shards: settings.micro_shards.get(),
            learning_rate: settings.learning_rate.get(),
            numerics_version: 1,
            initial_weights: None,
        };
        fs::write(begun.config(), settings.to_toml(&stored(identity))).unwrap();
        begun
    }

    fn run(&self) -> PathBuf {
        self.scratch.path().join("run")
    }

    fn config(&self) -> PathBuf {
        self.run().join("config.toml")
    }

    fn resumed(&self, arguments: &[&str]) -> Settings {
        settings(&[&["--resume", self.run().to_str().unwrap()], arguments].concat()).unwrap()
    }

    /// Why it cannot be resumed so, with the run's folder as RUN.
    fn refusal(&self, arguments: &[&str]) -> String {
        let run = self.run();
        let run = run.to_str().unwrap();
        refusal(&[&["--resume", run], arguments].concat()).replace(run, "RUN")
    }
}

#[test]
fn the_file_of_the_run_takes_the_place_of_the_configuration_file() {
    let arguments = [
        "--seed=18446744073709551615",
        "--learning-rate=0.123456789",
        "--validation-split=0.1",
        "--batch-size=32",
        "--micro-shards=8",
        "--examples=1000",
        "--epochs=3",
        "--workers=2",
        "--deadline=1.5s",
        "--no-metrics",
    ];
    let begun = Begun::with(&arguments);
    let original = settings(&arguments).unwrap();
    let resumed = begun.resumed(&[]);
    let resume = resumed.resume.clone().unwrap();
    assert_eq!(resume.directory, begun.run());
    assert_eq!(resume.stored.run_id, RUN_ID);
    assert_eq!(resume.stored.identity.seed, u64::MAX);
    let expected = Settings {
        resume: Some(resume),
        run_dir: Some(begun.run()),
        dataset: DatasetChoice::Digits,
        flags: resumed.flags.clone(),
        ..original
    };
    assert_eq!(format!("{resumed:?}"), format!("{expected:?}"));
}

#[test]
fn what_does_not_decide_the_bits_may_change() {
    let begun = Begun::with(&["--workers=2", "--epochs=3", "--max-steps=5"]);
    let resumed = begun.resumed(&[
        "--workers=7",
        "--threads-per-worker=2",
        "--external",
        "--listen=127.0.0.1:29400",
        "--token=secret",
        "--data-dir=elsewhere",
        "--epochs=4",
        "--max-steps=99",
        "--no-metrics",
        "--no-progress",
        "--json",
        "--offline",
        "--deadline=2s",
        "--patience=0",
        "--checkpoint-every=5s",
        "--max-restarts=1",
    ]);
    assert_eq!((resumed.workers.get(), resumed.epochs.get(), resumed.external), (7, 4, true));
    assert_eq!(resumed.max_steps.unwrap().get(), 99);
    assert_eq!(resumed.checkpoint_every, Duration::from_secs(5));
    assert!(!resumed.metrics && resumed.json);
    assert_eq!(begun.resumed(&["--max-steps=1"]).max_steps.unwrap().get(), 1);
}

#[test]
fn what_decides_the_bits_may_be_repeated_and_not_changed() {
    let begun = Begun::with(&["--seed=7", "--learning-rate=0.1", "--examples=1000"]);
    begun.resumed(&[
        "--seed=7",
        "--learning-rate=1e-1",
        "--examples=1000",
        "--dataset=digits",
        "--validation-split=0.15",
        "--batch-size=64",
        "--micro-shards=16",
    ]);
    for (flag, given, stored) in [
        ("--seed", "42", "7"),
        ("--dataset", "mnist", "digits"),
        ("--examples", "999", "1000"),
        ("--validation-split", "0.0", "0.15"),
        ("--batch-size", "32", "64"),
        ("--micro-shards", "32", "16"),
        ("--learning-rate", "0.10000001", "0.1"),
    ] {
        assert_eq!(
            begun.refusal(&[flag, given]),
            format!(
                "{flag} is {given} but the run in RUN was begun with {stored}, which decides its bits; leave {flag} \
                 out, or start another run with --run-dir instead"
            )
        );
    }
}

#[test]
fn all_examples_may_be_named_by_their_number() {
    let begun = Begun::with(&[]);
    assert_eq!(begun.resumed(&["--examples=60000"]).examples.unwrap().get(), 60_000);
    assert!(begun.refusal(&["--examples=59999"]).starts_with("--examples is 59999 but"));
}

#[test]
fn auto_is_the_data_set_that_the_run_has() {
    let begun = Begun::with(&["--dataset=digits"]);
    assert_eq!(begun.resumed(&["--dataset=auto"]).dataset, DatasetChoice::Digits);
}

#[test]
fn a_run_gets_no_shorter() {
    let begun = Begun::with(&["--epochs=3"]);
    assert_eq!(
        begun.refusal(&["--epochs=2"]),
        "--epochs is 2 but the run in RUN has 3 epochs, and may only get more; leave --epochs out, or end it earlier \
         with --max-steps"
    );
    assert_eq!(begun.resumed(&["--epochs=3"]).epochs.get(), 3);
}

#[test]
fn the_environment_is_held_to_the_same_and_is_named() {
    let begun = Begun::with(&["--seed=7"]);
    let run = begun.run();
    let variables = [("LOCKSTEP_SEED", "42"), ("LOCKSTEP_RESUME", run.to_str().unwrap())];
    if !inside("resuming::the_environment_is_held_to_the_same_and_is_named", &variables) {
        return;
    }
    let message = refusal(&[]);
    assert!(message.starts_with("LOCKSTEP_SEED is 42 but the run in "), "{message}");
    assert!(
        message.contains("was begun with 7,") && message.contains("; unset LOCKSTEP_SEED, or "),
        "{message}"
    );
    assert!(settings(&["--seed", "7"]).unwrap().resume.is_some(), "the flag beats the variable");
    let message = refusal(&["--config", "c.toml"]);
    assert!(message.starts_with("LOCKSTEP_RESUME and --config cannot be given together"), "{message}");
}

#[test]
fn a_file_edited_by_hand_is_to_blame_itself() {
    let begun = Begun::with(&["--seed=7"]);
    let text = fs::read_to_string(begun.config()).unwrap();
    fs::write(begun.config(), text.replacen("seed = 7", "seed = 8", 1)).unwrap();
    let message = begun.refusal(&[]);
    assert!(
        message.starts_with("the key seed of RUN/config.toml is 8 but the run in RUN was begun with 7,"),
        "{message}"
    );
    assert!(message.contains("; set the key seed of RUN/config.toml back, or"), "{message}");
    assert!(begun.resumed(&["--seed=7"]).resume.is_some());

    let edited = format!("run-dir = \"elsewhere\"\n{text}");
    fs::write(begun.config(), edited).unwrap();
    assert_eq!(begun.resumed(&[]).run_dir, Some(begun.run()), "the run is where it is");
}

#[test]
fn flags_that_contradict_resuming_are_refused_by_name() {
    let begun = Begun::with(&[]);
    let run = begun.run();
    let run = run.to_str().unwrap();
    assert_eq!(
        refusal(&["--resume", run, "--run-dir", "r"]),
        "--resume and --run-dir cannot be given together: a run goes on in the directory that it has; leave \
         --run-dir out"
    );
    assert!(
        refusal(&["--resume-or-start", run, "--run-dir", "r"]).starts_with("--resume-or-start and --run-dir")
    );
    assert!(refusal(&["--resume-or-start", run, "--config", "c"]).contains("leave --config out"));
    let both = refusal(&["--resume-or-start", run, "--resume", run]);
    assert!(both.starts_with("--resume and --resume-or-start cannot be given together"), "{both}");
}

#[test]
fn without_a_run_there_is_nothing_to_resume() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().to_str().unwrap();
    let absent = format!("{path}/absent");
    assert!(refusal(&["--resume", &absent]).starts_with(&format!("there is no run directory {absent}")));
    assert!(refusal(&["--resume", path]).starts_with(&format!("{path} is no run directory")));
}

#[test]
fn a_run_that_does_not_say_which_it_is_cannot_be_resumed() {
    let begun = Begun::with(&[]);
    let text = fs::read_to_string(begun.config()).unwrap();
    fs::write(begun.config(), text.split("# Which run").next().unwrap()).unwrap();
    let expected = "the run of RUN/config.toml cannot be resumed: missing field `run`; start it anew with --config \
                    RUN/config.toml";
    assert_eq!(begun.refusal(&[]), expected);
    let run = begun.run();
    let or_start = refusal(&["--resume-or-start", run.to_str().unwrap()]);
    assert!(or_start.contains("missing field `run`"), "a run is never started over another one: {or_start}");
}

#[test]
fn resume_or_start_resumes_a_run_and_starts_where_there_is_none() {
    let begun = Begun::with(&["--seed=7"]);
    let run = begun.run();
    let found = settings(&["--resume-or-start", run.to_str().unwrap()]).unwrap();
    assert_eq!((found.seed, found.run_dir), (7, Some(run.clone())));
    assert_eq!(found.resume.unwrap().stored.run_id, RUN_ID);

    let empty = begun.scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for place in [begun.scratch.path().join("absent"), empty] {
        let start = settings(&["--resume-or-start", place.to_str().unwrap(), "--seed=9"]).unwrap();
        assert!(start.resume.is_none());
        assert_eq!((start.seed, start.run_dir), (9, Some(place)));
    }
    let file = refusal(&["--resume-or-start", begun.config().to_str().unwrap()]);
    assert!(file.starts_with("cannot open the run directory"), "{file}");
}
