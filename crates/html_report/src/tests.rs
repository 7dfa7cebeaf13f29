//! Reports of small folders of files, as hostile as their writers can make them.

use std::fs;

use tempfile::TempDir;

use super::*;

const CONFIG: &str = "workers = 2\ndataset = \"digits\"\nepochs = 2\n\n[run]\nid = \"575071619d9c0adaf833dffdc4d90c5c\"\n\n\
    [identity]\nseed = 42\ndataset = \"digits\"\ndataset-sha256 = \"ab\"\nexamples = 100\nvalidation-split = 0.15\n\
    batch-size = 32\nmicro-shards = 16\nlearning-rate = 0.01\nnumerics-version = 2\n";

fn run() -> (TempDir, RunDirectory) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run <one>");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("config.toml"), CONFIG).unwrap();
    let directory = RunDirectory::open(&path).unwrap();
    (folder, directory)
}

#[test]
fn text_is_escaped_for_elements_and_attributes() {
    assert_eq!(escape("<b a='\"'>&amp;"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;amp;");
    assert_eq!(escape("a\u{1b}[31m\u{202e}b\nc\0"), "a\u{fffd}[31m\u{fffd}b c\u{fffd}");
}

#[test]
fn names_and_events_are_words_and_never_markup() {
    let (_folder, directory) = run();
    let mut events = String::new();
    for (kind, worker) in [
        ("worker_joined", "<img src=x onerror=alert(1)>"),
        ("worker_dropped", "<img src=x onerror=alert(1)>"),
    ] {
        let event = serde_json::json!({
            "seconds": 1.0, "step": 3, "kind": kind, "worker": worker, "reason": "</li><script>alert(2)</script>\" onload='x'",
        });
        events.push_str(&format!("{event}\n"));
    }
    fs::write(directory.events(), events).unwrap();
    let page =
        read(&StoredRun::open(directory.path()).unwrap()).unwrap().page(Err("<i>none</i>".to_string()));
    for markup in ["<img", "<script", "<i>none", "run <one>", "' onload", "\" onload"] {
        assert!(!page.contains(markup), "{markup}");
    }
    assert!(page.contains(
        "&lt;img src=x onerror=alert(1)&gt;</bdi></td><td>after step 3</td><td>after step 3: &lt;/li&gt;"
    ));
    assert!(page.contains("<title>Run run &lt;one&gt; · Lockstep</title>"));
    assert!(page.contains("&lt;i&gt;none"));
}

#[test]
fn digits_that_stood_in_for_mnist_are_said_to_be_none() {
    let (_folder, directory) = run();
    let page = || read(&StoredRun::open(directory.path()).unwrap()).unwrap().page(Err("none".to_string()));
    let sentence = "trained on generated digits, not on MNIST, which could not be had";
    assert!(!page().contains(sentence), "they were chosen");
    let fell_back = CONFIG.replace("\n\n[identity]", "\ndataset-fallback = \"no mirror\"\n\n[identity]");
    fs::write(directory.config(), fell_back).unwrap();
    assert!(page().contains(sentence));
}

#[test]
fn what_a_run_without_records_lacks_is_said() {
    let (_folder, directory) = run();
    let page = read(&StoredRun::open(directory.path()).unwrap())
        .unwrap()
        .page(Ok(lockstep_dataset::digits_test(100)));
    for sentence in [
        "There are no curves: metrics.jsonl has no steps",
        "The run has no weights yet to predict digits with.",
        "There is none: the run has not come to its evaluation",
        "This is not known: metrics.jsonl has no steps.",
        "Who they were is not known",
        "There are none: events.jsonl",
        "There are no weights of this run yet",
        "not finished",
    ] {
        assert!(page.contains(sentence), "{sentence}");
    }
    assert!(page.contains("<span>--dataset digits</span> <span>--epochs 2</span> <span>--workers 2</span>"));
    assert!(!page.contains("<svg") && !page.contains("<img"));
}

#[test]
fn all_steps_and_workers_are_counted_and_what_is_not_finite_is_drawn_as_nothing() {
    let (_folder, directory) = run();
    let mut metrics = String::new();
    for step in 1..=3001 {
        let loss = (step != 2999).then(|| 1.0 / f64::from(step));
        let line = serde_json::json!({
            "kind": "step", "step": step, "epoch": 1, "loss": loss, "accuracy": 0.5, "examples": 10, "seconds": 0.01,
            "send_seconds": 0.001, "wait_seconds": 0.005, "reduce_seconds": 0.002, "update_seconds": 0.001,
            "bytes_sent": 1000, "bytes_received": 2000, "workers": 1 + step / 1500,
        });
        metrics.push_str(&format!("{line}\n"));
    }
    fs::write(directory.metrics(), metrics).unwrap();
    let events: String = (0..100)
        .map(|number| {
            let event = serde_json::json!({
                "seconds": 1.0, "step": number, "kind": "worker_joined", "worker": format!("w{number:02}"), "reason": "came",
            });
            format!("{event}\n")
        })
        .collect();
    fs::write(directory.events(), events).unwrap();
    let records =
        Records::read(&directory, RunId(0x5750_7161_9d9c_0ada_f833_dffd_c4d9_0c5c_u128.to_be_bytes()))
            .unwrap();
    assert_eq!((records.totals.steps, records.totals.workers), (3001, Some((1, 3))));
    assert_eq!((records.members.len(), records.joined_besides, records.history.event_count()), (64, 36, 100));
    assert_eq!(records.history.curve().last().unwrap().step(), 3001, "the last step is in the curve");
    let page = read(&StoredRun::open(directory.path()).unwrap()).unwrap().page(Err(String::new()));
    assert!(page.contains("<title>training, step 3001: 50.00 %, smoothed 50.00 %</title>"));
    assert!(page.contains("<td>5.00 ms</td><td>50.0 %</td>"), "waiting");
    assert!(page.contains("From 1 to 3 workers") && page.contains("Others joined 36 times"));
    assert!(!page.contains("NaN"));
}
