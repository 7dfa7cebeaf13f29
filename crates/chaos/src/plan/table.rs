//! The plan's TOML: which tables and keys there are, which values they may have, and what to write instead.
//!
//! Every refusal has the place of the value at fault. Knows no file and starts nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_command_line::nearest;
use serde::Deserialize;
use toml::{Spanned, Value};

use super::values::{Refusal, between, digest, duration, duration_or, place, until};
use super::{Action, Fault, FaultPlan, Faults, Kind, MAX_FAULTS, MAX_WORKERS, Until, Way};
use crate::draw::{Drawn, End};

const DEFAULT_RESTART_AFTER: Duration = Duration::from_millis(500);
const DEFAULT_LIMIT: Duration = Duration::from_secs(3600);
const DEFAULT_SLOW_FACTOR: u32 = 10;
const DEFAULT_FLAP_EVERY: Duration = Duration::from_millis(200);
const DEFAULT_SHORTEST: Duration = Duration::from_millis(100);
const DEFAULT_LONGEST: Duration = Duration::from_secs(3);

/// Flags that the tool sets itself, and what to write in their place.
const OWN_FLAGS: [(&str, &str); 15] = [
    ("workers", "write `workers` at the top of the plan"),
    ("threads-per-worker", "write `threads` at the top of the plan"),
    ("external", "the workers are always external; leave it out"),
    ("listen", "the tool chooses the port; leave it out"),
    ("insecure", "the tool listens on the loopback only; leave it out"),
    ("token", "the tool draws the token; leave it out"),
    ("run-dir", "name the folder with `coordinator chaos --run-dir`"),
    ("resume", "the tool resumes what it killed; leave it out"),
    ("resume-or-start", "the tool resumes what it killed; leave it out"),
    ("json", "the tool reads summary.json; leave it out"),
    ("timeline", "a coordinator that is started again would meet its file; leave it out"),
    ("dashboard", "the tool serves none; leave it out"),
    ("no-dashboard", "the tool serves none; leave it out"),
    ("stay", "the tool serves no dashboard; leave it out"),
    ("no-metrics", "the figures come from metrics.jsonl; leave it out"),
];

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PlanTable {
    workers: Spanned<u32>,
    threads: Option<Spanned<u32>>,
    #[serde(default)]
    seed: u64,
    digest: Option<Spanned<String>>,
    restart_after: Option<Spanned<Value>>,
    limit: Option<Spanned<Value>>,
    until: Option<Spanned<String>>,
    #[serde(default)]
    training: BTreeMap<Spanned<String>, Spanned<Value>>,
    fault: Option<Vec<Spanned<FaultTable>>>,
    random: Option<Spanned<RandomTable>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FaultTable {
    at: Spanned<Value>,
    kind: Spanned<String>,
    worker: Option<Spanned<u32>>,
    r#for: Option<Spanned<Value>>,
    restart_after: Option<Spanned<Value>>,
    factor: Option<Spanned<u32>>,
    every: Option<Spanned<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RandomTable {
    every: Spanned<Value>,
    kinds: Spanned<Vec<Spanned<String>>>,
    r#for: Option<Spanned<Value>>,
    faults: Option<Spanned<u64>>,
    shortest: Option<Spanned<Value>>,
    longest: Option<Spanned<Value>>,
}

impl FaultPlan {
    /// Understands the text of a plan.
    pub(super) fn parse(text: &str, training_flags: &[String]) -> Result<Self, Refusal> {
        let table: PlanTable = toml::from_str(text).map_err(|error| {
            (error.span().map_or(0, |span| span.start), error.message().replace('\n', " "))
        })?;
        let workers = between(&table.workers, "workers", 1, MAX_WORKERS)?;
        let threads = table.threads.as_ref().map_or(Ok(1), |value| between(value, "threads", 1, 1024))?;
        let restart_after = duration_or(&table.restart_after, DEFAULT_RESTART_AFTER)?;
        let limit = duration_or(&table.limit, DEFAULT_LIMIT)?;
        let until = table.until.as_ref().map_or(Ok(Until::Faults), until)?;
        let faults = match (table.fault, table.random) {
            (Some(faults), None) => listed(faults, workers, restart_after)?,
            (None, Some(random)) => Faults::Drawn(drawn(random.get_ref(), place(&random), restart_after)?),
            (Some(_), Some(random)) => {
                return Err((
                    place(&random),
                    "a plan has either [[fault]] or [random]; take one out".to_string(),
                ));
            }
            (None, None) => return Err((0, "the plan has no faults; add [[fault]] or [random]".to_string())),
        };
        Ok(Self {
            workers,
            threads,
            seed: table.seed,
            digest: table.digest.as_ref().map(digest).transpose()?,
            limit,
            until,
            training: training(&table.training, training_flags)?,
            faults,
        })
    }
}

/// The flags as the command line wants them; each must be one, and none the tool's own.
fn training(
    table: &BTreeMap<Spanned<String>, Spanned<Value>>,
    known: &[String],
) -> Result<Vec<(String, String)>, Refusal> {
    let mut flags = Vec::new();
    for (key, value) in table {
        let flag = key.get_ref().as_str();
        if let Some((_, remedy)) = OWN_FLAGS.iter().find(|(own, _)| *own == flag) {
            return Err((place(key), format!("'{flag}' is not for a plan to set: {remedy}")));
        }
        if !known.iter().any(|known| known == flag) {
            let remedy = match nearest(flag, known.iter().map(String::as_str)) {
                Some(nearest) => format!("did you mean '{nearest}'?"),
                None => "keys are the flags of `coordinator --help` without their dashes".to_string(),
            };
            return Err((place(key), format!("unknown flag '{flag}'; {remedy}")));
        }
        let text = match value.get_ref() {
            Value::String(text) => text.clone(),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => value.get_ref().to_string(),
            _ => {
                return Err((
                    place(value),
                    format!("'{flag}' is no single value; write what follows the flag on the command line"),
                ));
            }
        };
        flags.push((flag.to_string(), text));
    }
    Ok(flags)
}

fn listed(
    tables: Vec<Spanned<FaultTable>>,
    workers: u32,
    restart_after: Duration,
) -> Result<Faults, Refusal> {
    let mut faults = tables
        .iter()
        .map(|table| fault(table.get_ref(), workers, restart_after))
        .collect::<Result<Vec<_>, _>>()?;
    // Stable: faults of the same instant come in the order of the plan.
    faults.sort_by_key(|fault| fault.at);
    Ok(Faults::Listed(faults))
}

fn kind(name: &Spanned<String>) -> Result<Kind, Refusal> {
    Kind::named(name.get_ref()).ok_or_else(|| {
        let names = Kind::ALL.map(Kind::name);
        let remedy = match nearest(name.get_ref(), names) {
            Some(nearest) => format!("did you mean '{nearest}'?"),
            None => format!("there are {}", names.join(", ")),
        };
        (place(name), format!("unknown kind of fault '{}'; {remedy}", name.get_ref()))
    })
}

fn fault(table: &FaultTable, workers: u32, restart_after: Duration) -> Result<Fault, Refusal> {
    let kind = kind(&table.kind)?;
    refuse_strangers(table, kind)?;
    let missing = |key: &str| (place(&table.kind), format!("a '{kind}' needs `{key}`; add it"));
    let worker = || {
        let worker = table.worker.as_ref().ok_or_else(|| missing("worker"))?;
        between(worker, "worker", 1, workers)
    };
    let hold = || duration(table.r#for.as_ref().ok_or_else(|| missing("for"))?);
    let restart = || duration_or(&table.restart_after, restart_after);
    let cut = |way| Ok::<_, Refusal>(Action::Cut { worker: worker()?, hold: hold()?, way });
    let action = match kind {
        Kind::Kill => Action::Kill { worker: worker()?, restart_after: restart()? },
        Kind::Stop => Action::Stop { worker: worker()?, hold: hold()? },
        Kind::Slow => {
            let factor = table.factor.as_ref();
            let factor = factor.map_or(Ok(DEFAULT_SLOW_FACTOR), |value| between(value, "factor", 2, 100))?;
            Action::Slow { worker: worker()?, hold: hold()?, factor }
        }
        Kind::Cut => cut(Way::Both)?,
        Kind::CutUp => cut(Way::Up)?,
        Kind::CutDown => cut(Way::Down)?,
        Kind::Flap => {
            let every = duration_or(&table.every, DEFAULT_FLAP_EVERY)?.max(Duration::from_millis(1));
            Action::Flap { worker: worker()?, hold: hold()?, every }
        }
        Kind::Reset => Action::Reset { worker: worker()? },
        Kind::Join => Action::Join { hold: table.r#for.as_ref().map(duration).transpose()? },
        Kind::Leave => Action::Leave {
            worker: worker()?,
            restart_after: table.restart_after.as_ref().map(duration).transpose()?,
        },
        Kind::KillCoordinator => Action::KillCoordinator { restart_after: restart()? },
        Kind::StopCoordinator => Action::StopCoordinator { hold: hold()? },
    };
    Ok(Fault { at: duration(&table.at)?, action })
}

/// A key that the kind has no use for is a misunderstanding.
fn refuse_strangers(table: &FaultTable, kind: Kind) -> Result<(), Refusal> {
    let lasts = !matches!(kind, Kind::Kill | Kind::Reset | Kind::Leave | Kind::KillCoordinator);
    let restarts = matches!(kind, Kind::Kill | Kind::Leave | Kind::KillCoordinator);
    let keys = [
        ("worker", table.worker.as_ref().map(place), kind.has_worker()),
        ("for", table.r#for.as_ref().map(place), lasts),
        ("restart-after", table.restart_after.as_ref().map(place), restarts),
        ("factor", table.factor.as_ref().map(place), kind == Kind::Slow),
        ("every", table.every.as_ref().map(place), kind == Kind::Flap),
    ];
    for (key, given, fits) in keys {
        if let Some(place) = given.filter(|_| !fits) {
            return Err((place, format!("a '{kind}' has no `{key}`; take it out")));
        }
    }
    Ok(())
}

fn drawn(table: &RandomTable, at: usize, restart_after: Duration) -> Result<Drawn, Refusal> {
    let every = duration(&table.every)?;
    if every < Duration::from_millis(1) {
        return Err((
            place(&table.every),
            "every is less than a millisecond; write \"1ms\" or more".to_string(),
        ));
    }
    let kinds = table.kinds.get_ref().iter().map(kind).collect::<Result<Vec<_>, _>>()?;
    if kinds.is_empty() {
        return Err((place(&table.kinds), "kinds is empty; name at least one, such as \"kill\"".to_string()));
    }
    let end = match (&table.r#for, &table.faults) {
        (Some(time), None) => End::Time(duration(time)?),
        (None, Some(faults)) if (1..=MAX_FAULTS).contains(faults.get_ref()) => End::Faults(*faults.get_ref()),
        (None, Some(faults)) => {
            return Err((
                place(faults),
                format!("faults is {}; write a number from 1 to {MAX_FAULTS}", faults.get_ref()),
            ));
        }
        _ => {
            return Err((
                at,
                "[random] has either `for` (a time) or `faults` (a number); write one".to_string(),
            ));
        }
    };
    let shortest = duration_or(&table.shortest, DEFAULT_SHORTEST)?;
    let longest = duration_or(&table.longest, DEFAULT_LONGEST.max(shortest))?;
    if shortest > longest {
        return Err((at, "shortest is more than longest; exchange them".to_string()));
    }
    Ok(Drawn { every, kinds, end, shortest, longest, restart_after })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With some of the flags that a training has.
    fn parse(text: &str) -> Result<FaultPlan, Refusal> {
        let flags = [
            "workers",
            "batch-size",
            "checkpoint-every",
            "dataset",
            "deadline",
            "epochs",
            "examples",
            "external",
            "init",
            "json",
            "learning-rate",
            "listen",
            "max-restarts",
            "micro-shards",
            "offline",
            "patience",
            "resume",
            "resume-or-start",
            "run-dir",
            "seed",
            "threads-per-worker",
            "timeline",
            "token",
            "validation-split",
        ];
        FaultPlan::parse(text, &flags.map(str::to_owned))
    }

    const HEAD: &str = "workers = 3\n";

    fn listed_faults(text: &str) -> Vec<Fault> {
        match parse(&format!("{HEAD}{text}")).unwrap().faults {
            Faults::Listed(faults) => faults,
            Faults::Drawn(_) => panic!("no list"),
        }
    }

    /// The line and the message of a refusal.
    fn refusal(text: &str) -> (usize, String) {
        let text = format!("{HEAD}{text}");
        let (offset, message) = parse(&text).unwrap_err();
        assert!(!message.contains('\n'), "{message}");
        (text[..offset].matches('\n').count() + 1, message)
    }

    #[test]
    fn the_example_is_a_plan() {
        let plan = parse(include_str!("../../../../docs/chaos-example.toml")).unwrap();
        assert_eq!(plan.workers, 4);
        let kinds: Vec<Kind> = plan.faults_in_order().map(|fault| fault.action.kind()).collect();
        assert!(Kind::ALL.iter().all(|kind| kinds.contains(kind)), "the example shows every kind: {kinds:?}");
        assert!(plan.training.contains(&("dataset".to_string(), "digits".to_string())));
    }

    #[test]
    fn every_kind_has_its_keys_and_defaults() {
        let faults = listed_faults(
            r#"
            restart-after = "250ms"
            fault = [
                { at = 1, kind = "kill", worker = 1 },
                { at = 2, kind = "kill", worker = 1, restart-after = 2 },
                { at = 3, kind = "stop", worker = 2, for = "1.5s" },
                { at = 4, kind = "slow", worker = 2, for = "1m" },
                { at = 5, kind = "slow", worker = 2, for = "1h", factor = 3 },
                { at = 6, kind = "cut", worker = 3, for = 1 },
                { at = 7, kind = "cut-up", worker = 3, for = 1 },
                { at = 8, kind = "cut-down", worker = 3, for = 1 },
                { at = 9, kind = "flap", worker = 3, for = 1, every = "50ms" },
                { at = 10, kind = "reset", worker = 3 },
                { at = 11, kind = "join" },
                { at = 12, kind = "leave", worker = 1 },
                { at = 13, kind = "kill-coordinator" },
                { at = 14, kind = "stop-coordinator", for = "0.5s" },
            ]"#,
        );
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let expected = [
            Action::Kill { worker: 1, restart_after: ms(250) },
            Action::Kill { worker: 1, restart_after: s(2) },
            Action::Stop { worker: 2, hold: ms(1500) },
            Action::Slow { worker: 2, hold: s(60), factor: 10 },
            Action::Slow { worker: 2, hold: s(3600), factor: 3 },
            Action::Cut { worker: 3, hold: s(1), way: Way::Both },
            Action::Cut { worker: 3, hold: s(1), way: Way::Up },
            Action::Cut { worker: 3, hold: s(1), way: Way::Down },
            Action::Flap { worker: 3, hold: s(1), every: ms(50) },
            Action::Reset { worker: 3 },
            Action::Join { hold: None },
            Action::Leave { worker: 1, restart_after: None },
            Action::KillCoordinator { restart_after: ms(250) },
            Action::StopCoordinator { hold: ms(500) },
        ];
        let expected: Vec<Fault> =
            (1..).zip(expected).map(|(at, action)| Fault { at: s(at), action }).collect();
        assert_eq!(faults, expected);
    }

    #[test]
    fn faults_come_in_the_order_of_their_times() {
        let faults = listed_faults(
            "fault = [{ at = 2, kind = 'reset', worker = 1 }, { at = 1, kind = 'reset', worker = 2 },\n\
             { at = 1, kind = 'reset', worker = 3 }]",
        );
        let workers: Vec<_> = faults.iter().map(|fault| fault.action.worker()).collect();
        assert_eq!(workers, [Some(2), Some(3), Some(1)]);
    }

    #[test]
    fn refusals_name_line_and_remedy() {
        for (text, line, part) in [
            ("", 1, "add [[fault]] or [random]"),
            ("\n[[fault]]\nat = 1\nkind = 'kil'\nworker = 1", 5, "did you mean 'kill'?"),
            ("\n[[fault]]\nat = 1\nkind = 'kill'\nworker = 4", 6, "worker is 4; write a number from 1 to 3"),
            ("\n[[fault]]\nat = 1\nkind = 'kill'", 5, "a 'kill' needs `worker`; add it"),
            ("\n[[fault]]\nat = 1\nkind = 'stop'\nworker = 1", 5, "a 'stop' needs `for`; add it"),
            ("\n[[fault]]\nat = 1\nkind = 'join'\nworker = 1", 6, "a 'join' has no `worker`; take it out"),
            (
                "\n[[fault]]\nat = 1\nkind = 'kill'\nworker = 1\nfor = 1",
                7,
                "a 'kill' has no `for`; take it out",
            ),
            ("\n[[fault]]\nat = 'soon'\nkind = 'join'", 4, "\"soon\" is no duration; write seconds (2.5)"),
            ("\n[[fault]]\nat = -1\nkind = 'join'", 4, "-1 is no duration"),
            ("\n[[fault]]\nat = nan\nkind = 'join'", 4, "no duration"),
            ("\n[[fault]]\nat = '2 weeks'\nkind = 'join'", 4, "no duration"),
            ("threads = 0\n", 2, "threads is 0; write a number from 1 to 1024"),
            ("until = 'never'\n[random]\nkinds = ['kill']", 3, "missing field `every`"),
            ("[random]\nevery = 1\nkinds = ['kill']", 2, "either `for` (a time) or `faults`"),
            ("[random]\nevery = 1\nkinds = ['kill']\nfor = 1\nfaults = 1", 2, "either `for`"),
            ("[random]\nevery = 1\nkinds = ['kill']\nfaults = 0", 5, "faults is 0; write a number from 1"),
            ("[random]\nevery = 0\nkinds = ['kill']\nfor = 1", 3, "write \"1ms\" or more"),
            ("[random]\nevery = 1\nkinds = []\nfor = 1", 4, "kinds is empty; name at least one"),
            ("[random]\nevery = 1\nkinds = ['kill',\n'xyzzyx']\nfor = 1", 5, "there are kill, stop, slow"),
            ("[random]\nevery = 1\nkinds = ['kill']\nfor = 1\nlongest = '1ms'", 2, "exchange them"),
            ("fault = []\n[random]\nevery = 1\nkinds = ['kill']\nfor = 1", 3, "take one out"),
            ("digest = 'abc'\nfault = []", 2, "write the 64 hex digits"),
            ("fault = []\n[training]\nepoch = 3", 4, "unknown flag 'epoch'; did you mean 'epochs'?"),
            ("fault = []\n[training]\nworkers = 3", 4, "write `workers` at the top of the plan"),
            ("fault = []\n[training]\nseed = [1]", 4, "'seed' is no single value"),
            ("fault = []\nwrokers = 1", 3, "unknown field `wrokers`"),
            ("fault = []\nseed = = 1", 3, ""),
        ] {
            let (found, message) = refusal(text);
            assert!(
                found == line && message.contains(part),
                "{text}\nline {found} instead of {line}: {message}"
            );
        }
    }

    #[test]
    fn flags_of_the_training_are_as_on_the_command_line() {
        let plan = parse(
            "workers = 1\nfault = []\n[training]\nlearning-rate = 0.1\nepochs = 3\noffline = true\ndataset = 'digits'",
        )
        .unwrap();
        let expected =
            [("dataset", "digits"), ("epochs", "3"), ("learning-rate", "0.1"), ("offline", "true")];
        assert_eq!(plan.training, expected.map(|(flag, value)| (flag.to_string(), value.to_string())));
    }

    #[test]
    fn a_random_plan_has_defaults() {
        let plan = parse(
            "workers = 2\nseed = 9\nuntil = 'done'\n[random]\nevery = '2s'\nkinds = ['kill', 'cut-up']\nfor = '2m'",
        )
        .unwrap();
        assert_eq!((plan.seed, plan.threads, plan.until), (9, 1, Until::Done));
        let expected = Drawn {
            every: Duration::from_secs(2),
            kinds: vec![Kind::Kill, Kind::CutUp],
            end: End::Time(Duration::from_secs(120)),
            shortest: Duration::from_millis(100),
            longest: Duration::from_secs(3),
            restart_after: Duration::from_millis(500),
        };
        assert_eq!(plan.faults, Faults::Drawn(expected));
    }
}
