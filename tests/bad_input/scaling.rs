//! What `bench scaling` cannot measure.

use std::fs;

use super::{assert_parts, refused, refused_arguments};
use crate::harness::coordinator;

const FAILED: i32 = 1;
const USAGE: i32 = 2;

fn refused_flags(flags: &str) -> String {
    let arguments: Vec<&str> = ["bench", "scaling"].into_iter().chain(flags.split(' ')).collect();
    refused_arguments(&arguments, USAGE)
}

#[test]
fn what_cannot_be_measured_is_usage() {
    let cases: [(&str, &[&str]); 7] = [
        ("--workers 0", &["error: --workers has 0", "1 to 256", "a process of this machine"]),
        ("--workers 1,1000", &["--workers has 1000", "1 to 256"]),
        ("--workers 2,1,2", &["--workers has 2 twice", "--rounds"]),
        ("--workers 1,32", &["--workers has 32", "16 micro-shards", "set --micro-shards to 32"]),
        ("--steps 1", &["--steps has 1", "2 to 1000000"]),
        ("--batch-size 64 --examples 50", &["--batch-size has 64", "1 to 50"]),
        (
            "--workers 8 --batch-size 64 --weak --examples 500",
            &["512 examples (8 workers, --weak)", "the 500"],
        ),
    ];
    for (flags, parts) in cases {
        assert_parts(&refused_flags(flags), parts);
    }
    for (flags, parts) in [("--workers two", ["'two'", "--workers"]), ("--workers -1", ["'-1'", "--workers"])]
    {
        assert_parts(&refused_flags(flags), &parts);
    }
}

#[test]
fn results_overwrite_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("earlier")).unwrap();
    fs::write(folder.path().join("earlier/scaling.csv"), "workers\n").unwrap();
    let refused_out = |place: &str| {
        refused(coordinator(folder.path()).args(["bench", "scaling", "--out", place]), folder.path(), FAILED)
    };
    assert_parts(&refused_out("earlier"), &["error: the folder earlier has scaling.csv in it", "--out"]);
    let place = "earlier/scaling.csv/results";
    assert_parts(&refused_out(place), &["error: cannot write to", place, "Not a directory", "--out"]);
}
