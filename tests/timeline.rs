//! `--timeline`: one trace of all processes, on one clock, in the format of Chrome's trace events.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::harness::{PATIENT, SMALL, coordinator, run_small, start};

/// An event that took time, on its track, in microseconds.
struct Taken {
    name: String,
    track: (u64, u64),
    start: f64,
    end: f64,
    args: Value,
}

fn taken(event: &Value) -> Taken {
    let number = |field: &str| event[field].as_f64().unwrap_or_else(|| panic!("{field} of {event}"));
    let whole = |field: &str| event[field].as_u64().unwrap();
    Taken {
        name: event["name"].as_str().unwrap().to_string(),
        track: (whole("pid"), whole("tid")),
        start: number("ts"),
        end: number("ts") + number("dur"),
        args: event["args"].clone(),
    }
}

/// Times are written in microseconds with three digits behind the point, and added up here.
const ROUNDING: f64 = 0.002;

/// What a shard of the default batch is made of.
const PARTS: [&str; 12] = [
    "pixels",
    "conv1 forward",
    "conv2 forward",
    "conv3 forward",
    "dense1 forward",
    "dense2 forward",
    "loss",
    "dense2 backward",
    "dense1 backward",
    "conv3 backward",
    "conv2 backward",
    "conv1 backward",
];

#[test]
fn the_timeline_is_a_trace_of_all_processes_on_one_clock() {
    let arguments =
        ["--workers", "2", "--timeline", "trace.json", "--timeline-every", "10", PATIENT[0], PATIENT[1]];
    let (finished, folder) = run_small(&arguments);
    let finished = finished.done();
    let text = fs::read_to_string(folder.path().join("trace.json")).unwrap();
    let events: Vec<Value> = serde_json::from_str(&text).unwrap();
    for event in &events {
        assert!(event["name"].is_string() && event["ph"].is_string(), "{event}");
        assert!(event["ts"].is_number() && event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
    }
    let names: BTreeMap<u64, &str> = events
        .iter()
        .filter(|event| event["ph"] == "M" && event["name"] == "process_name")
        .map(|event| (event["pid"].as_u64().unwrap(), event["args"]["name"].as_str().unwrap()))
        .collect();
    assert_eq!(names[&0], "coordinator");
    assert!(names[&1].starts_with("local-") && names[&2].starts_with("local-"), "{names:?}");

    let spans: Vec<Taken> = events.iter().filter(|event| event["ph"] == "X").map(taken).collect();
    // What lies on one track nests: of two, one holds the other or they are apart.
    let mut tracks: BTreeMap<(u64, u64), Vec<&Taken>> = BTreeMap::new();
    spans.iter().for_each(|span| tracks.entry(span.track).or_default().push(span));
    for track in tracks.values() {
        for (index, one) in track.iter().enumerate() {
            for other in &track[index + 1..] {
                let apart = one.end <= other.start + ROUNDING || other.end <= one.start + ROUNDING;
                let holds = |outer: &Taken, inner: &Taken| {
                    outer.start <= inner.start + ROUNDING && inner.end <= outer.end + ROUNDING
                };
                assert!(apart || holds(one, other) || holds(other, one), "{} and {}", one.name, other.name);
            }
        }
    }

    let steps: Vec<&Taken> = spans.iter().filter(|span| span.name.starts_with("step ")).collect();
    let numbers: Vec<u64> = steps.iter().map(|step| step.args["step"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 11, 21]);
    for step in &steps {
        let trace = step.args["trace_id"].as_str().unwrap();
        assert!(trace.len() == 32 && trace.bytes().all(|digit| digit.is_ascii_hexdigit()), "{trace}");
        let inside = |name: &str| {
            let parts = spans.iter().filter(|span| span.track == (0, 0) && span.name == name);
            parts.filter(|part| part.start >= step.start && part.end <= step.end + ROUNDING).count()
        };
        assert!(inside("wait") > 0 && inside("reduce") > 0 && inside("send") > 0, "{}", step.name);
        assert_eq!(inside("update"), 1);

        let of_workers: Vec<&Taken> = spans
            .iter()
            .filter(|span| span.track.0 > 0 && span.args["trace_id"].as_str() == Some(trace))
            .collect();
        let mut shards: Vec<u32> =
            of_workers.iter().filter_map(|span| span.name.strip_prefix("shard ")?.parse().ok()).collect();
        shards.sort_unstable();
        // On a busy machine a late shard is computed twice.
        shards.dedup();
        assert_eq!(shards, (0..16).collect::<Vec<u32>>(), "of {}", step.name);
        for worker in [1, 2] {
            assert!(of_workers.iter().any(|span| span.track.0 == worker), "worker {worker} in {}", step.name);
        }
        let error = |span: &Taken| span.args["clock_error_us"].as_f64().unwrap() + ROUNDING;
        for span in &of_workers {
            let Taken { name, start, end, .. } = span;
            assert!(
                *start >= step.start - error(span),
                "{name}, {start} to {end}, and {}, from {}",
                step.name,
                step.start
            );
        }
        for shard in of_workers.iter().filter(|span| span.name.starts_with("shard ")) {
            let layers: Vec<&str> = spans
                .iter()
                .filter(|span| span.track == shard.track && span.args.is_null())
                .filter(|span| shard.start <= span.start + ROUNDING && span.end <= shard.end + ROUNDING)
                .map(|span| &*span.name)
                .collect();
            assert_eq!(layers, PARTS, "of {} in {}", shard.name, step.name);
        }
        // A second copy, or the thread that has sent the last node, may end later.
        for shard in 0..16 {
            let name = format!("shard {shard}");
            let mut times = of_workers.iter().filter(|span| span.name == name);
            assert!(
                times.any(|span| span.end <= step.end + error(span)),
                "{name} ends after {}, {}",
                step.name,
                step.end
            );
        }
    }

    // No bit depends on it; and a run that is not asked for one writes none.
    let (without, folder) = run_small(&["--workers", "1"]);
    assert_eq!(without.done().digest(), finished.digest());
    assert!(!folder.path().join("trace.json").exists());
}

#[test]
fn a_timeline_is_never_written_over_anything() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("trace.json"), "mine").unwrap();
    let mut command = coordinator(folder.path());
    let refused = start(command.args(["--run-dir", "run", "--timeline", "trace.json"]).args(SMALL)).finish();
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains("trace.json exists already and is never overwritten"), "{refused}");
    assert!(!folder.path().join("run").exists());
    assert_eq!(fs::read_to_string(folder.path().join("trace.json")).unwrap(), "mine");
}
