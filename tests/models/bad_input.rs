//! What is no model, no image or no place gets one clear line, and changes nothing.

use std::fs;
use std::path::Path;

use super::{run, trained};
use crate::harness::Finished;

const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// Asserts that `arguments`, run in `folder`, end with `code` and one line that has all `parts`.
fn refused(folder: &Path, arguments: &[&str], code: i32, parts: &[&str]) {
    let finished: Finished = run(folder, arguments);
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(code), ""), "{arguments:?}: {finished}");
    assert_eq!(finished.stderr.lines().count(), 1, "{arguments:?}: {finished}");
    for part in parts {
        assert!(finished.stderr.contains(part), "{part:?} is not in {finished}");
    }
}

/// A copy of the files of the trained run that these commands read.
fn copy_of_run(folder: &Path) {
    fs::create_dir(folder.join("run")).unwrap();
    for name in ["config.toml", "summary.json", "model.safetensors"] {
        fs::copy(trained().join("run").join(name), folder.join("run").join(name)).unwrap();
    }
}

#[test]
fn what_is_no_image_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("words.png", b"no image at all");
    write("photo.png", b"\xff\xd8\xff\xe0 a JPEG under a wrong name");
    write("empty.png", b"");
    write("blank.pgm", b"P2 3 2 255 7 7 7 7 7 7");
    write("short.pgm", b"P5 28 28 255\nnot so many");
    write("huge.pgm", b"P5 100000 100000 255\n");
    write("good.pgm", b"P2 3 3 9 0 9 0 0 9 0 0 9 0");
    fs::create_dir(folder.path().join("folder")).unwrap();
    let model = trained().join("run");
    let cases: [(&str, &[&str]); 8] = [
        ("words.png", &["cannot take words.png: it is no PNG or PGM image; if it is an image, convert"]),
        ("photo.png", &["it is a JPEG image; convert it to PNG or PGM"]),
        ("empty.png", &["cannot take empty.png: it is empty"]),
        ("blank.pgm", &["nothing is drawn in it", "one colour"]),
        ("short.pgm", &["damaged PGM", "cut short: 11 of 784 bytes"]),
        ("huge.pgm", &["100000 x 100000 pixels", "make it smaller"]),
        ("absent.png", &["cannot read absent.png: there is no absent.png"]),
        ("folder", &["cannot read folder: Is a directory"]),
    ];
    for (name, parts) in cases {
        refused(folder.path(), &["predict", name, "--model", model.to_str().unwrap()], FAILED, parts);
        // One bad image among good ones: nothing is half answered.
        refused(
            folder.path(),
            &["predict", "good.pgm", name, "--model", model.to_str().unwrap()],
            FAILED,
            parts,
        );
    }
    let endless = folder.path().join("endless.png");
    fs::File::create(endless).unwrap().set_len((64 << 20) + 1).unwrap();
    let arguments = ["predict", "endless.png", "--model", model.to_str().unwrap()];
    refused(folder.path(), &arguments, FAILED, &["more than 67108864 bytes"]);
    refused(folder.path(), &["predict"], USAGE, &["<IMAGE>"]);
    // A name with a line break would be two lines.
    write("two\n\u{1b}lines.png", b"no image at all");
    let arguments = ["predict", "two\n\u{1b}lines.png", "--model", model.to_str().unwrap()];
    refused(folder.path(), &arguments, FAILED, &["cannot take two\\n\\u{1b}lines.png: "]);
    write("two\nlines.pgm", b"P2 3 3 9 0 9 0 0 9 0 0 9 0");
    let arguments = ["predict", "two\nlines.pgm", "--model", model.to_str().unwrap()];
    let answer = run(folder.path(), &arguments).done();
    assert!(answer.stdout.starts_with("two\\nlines.pgm: ") && answer.stdout.lines().count() == 2, "{answer}");
}

#[test]
fn what_is_no_model_is_refused_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("digit.pgm"), b"P2 3 3 9 0 9 0 0 9 0 0 9 0").unwrap();
    fs::create_dir(path("empty")).unwrap();
    fs::write(path("words.safetensors"), b"no tensors").unwrap();
    let whole = fs::read(trained().join("run/model.safetensors")).unwrap();
    fs::write(path("short.safetensors"), &whole[..whole.len() / 2]).unwrap();
    let other: (&str, &[usize], &[f32]) = ("conv1.kernel", &[3], &[0.0; 3]);
    lockstep_checkpoint::write_model(&path("other.safetensors"), &[other], "{}").unwrap();
    lockstep_checkpoint::write_model(&path("foreign.safetensors"), &[("fc.weight", other.1, other.2)], "{}")
        .unwrap();
    let cases: [(&str, &[&str]); 6] = [
        ("absent", &["there is no run directory or model file absent"]),
        ("empty", &["empty is no run directory, it has no config.toml"]),
        ("words.safetensors", &["words.safetensors"]),
        ("short.safetensors", &["short.safetensors"]),
        ("other.safetensors", &["conv1.kernel has the shape [3] instead of [3, 3, 1, 16]"]),
        ("foreign.safetensors", &["none of this network's tensors", "but fc.weight"]),
    ];
    for (name, parts) in cases {
        refused(folder.path(), &["export", name, "--format", "onnx"], FAILED, parts);
        refused(folder.path(), &["evaluate", name, "--dataset", "digits"], FAILED, parts);
        refused(folder.path(), &["predict", "digit.pgm", "--model", name], FAILED, parts);
    }
    for (name, parts) in &cases[2..] {
        let arguments = ["--dataset", "digits", "--run-dir", "new", "--init", name];
        refused(folder.path(), &arguments, FAILED, &[&["--init"], *parts].concat());
        assert!(!path("new").exists(), "a refused start left a folder");
    }
    let absent = ["--dataset", "digits", "--run-dir", "new", "--init", "absent.safetensors"];
    refused(folder.path(), &absent, FAILED, &["--init", "there is no absent.safetensors"]);
}

/// A safetensors file of one tensor of one value, and of an empty one for each name in `empty`.
fn hostile(name: &str, dtype: &str, empty: impl Iterator<Item = String>) -> Vec<u8> {
    let entry = |name: &str, dtype: &str, shape: &[u64], end: u64| {
        let tensor = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [0, end]});
        format!("{}:{tensor}", serde_json::json!(name))
    };
    let width = if dtype == "F16" { 2 } else { 4 };
    let mut entries = vec![entry(name, dtype, &[1], width)];
    entries.extend(empty.map(|name| entry(&name, "F32", &[0], 0)));
    let header = format!("{{{}}}", entries.join(","));
    let length = header.len() as u64;
    [&length.to_le_bytes(), header.as_bytes(), &[0; 4][..width as usize]].concat()
}

#[test]
fn a_hostile_model_is_refused_in_few_words() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let escape = "\n\u{1b}[31mred".repeat(5_000);
    write("name", &hostile(&escape, "F32", std::iter::empty()));
    write("half", &hostile(&escape, "F16", std::iter::empty()));
    write("type", &hostile("w", &escape, std::iter::empty()));
    write("many", &hostile("w", "F32", (0..100_000).map(|index| index.to_string())));
    let cases: [(&str, &[&str]); 4] = [
        ("name", &["none of this network's tensors", "but \\n\\u{1b}[31mred"]),
        ("half", &["holds F16, only F32 is read; save it as float32", "net.float()"]),
        ("type", &["type is no complete safetensors file", "unknown variant `\\n\\u{1b}[31mred"]),
        ("many", &["many is too large", "at most 4194304 bytes"]),
    ];
    for (name, parts) in cases {
        for arguments in [
            ["export", name, "--format", "onnx"].as_slice(),
            &["evaluate", name, "--dataset", "digits"],
            &["--dataset", "digits", "--run-dir", "new", "--init", name],
        ] {
            refused(folder.path(), arguments, FAILED, parts);
            let message = run(folder.path(), arguments).stderr;
            assert!(!message.trim_end().contains(char::is_control), "{message:?}");
            assert!(message.chars().count() < 500, "{message}");
        }
    }
}

#[test]
fn a_model_that_computes_no_finite_number_is_refused_or_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let stored = lockstep_checkpoint::read_model(&trained().join("run/model.safetensors")).unwrap();
    let huge: Vec<Vec<f32>> = stored
        .tensors
        .iter()
        .map(|tensor| tensor.values.iter().map(|value| value * 1e30).collect())
        .collect();
    let tensors: Vec<_> = stored
        .tensors
        .iter()
        .zip(&huge)
        .map(|(tensor, values)| (&*tensor.name, &*tensor.shape, values.as_slice()))
        .collect();
    lockstep_checkpoint::write_model(&folder.path().join("huge.safetensors"), &tensors, "{}").unwrap();
    fs::write(folder.path().join("digit.pgm"), b"P2 3 3 9 0 9 0 0 9 0 0 9 0").unwrap();
    let parts = ["the model huge.safetensors gives no finite probabilities for digit.pgm", "--model"];
    for arguments in [
        ["predict", "digit.pgm", "--model", "huge.safetensors"].as_slice(),
        &["predict", "digit.pgm", "--model", "huge.safetensors", "--json"],
    ] {
        refused(folder.path(), arguments, FAILED, &parts);
    }
    let evaluated =
        run(folder.path(), &["evaluate", "huge.safetensors", "--dataset", "digits", "--json"]).done();
    assert!(evaluated.stderr.contains("the loss is not finite"), "{evaluated}");
    assert!(evaluated.summary()["test_loss"].is_null(), "{evaluated}");
    let sound = run(trained(), &["evaluate", "run", "--json"]).done();
    assert!(!sound.stderr.contains("finite"), "{sound}");
}

#[test]
fn a_run_of_another_version_or_cut_short_is_refused() {
    let change = |name: &str, from: &str, to: &str| {
        let folder = tempfile::tempdir().unwrap();
        copy_of_run(folder.path());
        let path = folder.path().join("run").join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
        folder
    };
    let export = ["export", "run", "--format", "onnx"];
    let version = lockstep_model::NUMERICS_VERSION;
    let newer = change("config.toml", &format!("numerics-version = {version}"), "numerics-version = 77");
    let both = format!(
        "the run in run has the numerics version 77, and this program has {version}; use the version"
    );
    refused(newer.path(), &export, FAILED, &[&both]);
    let newer = change("summary.json", "\"schema_version\":1", "\"schema_version\":9");
    refused(
        newer.path(),
        &export,
        FAILED,
        &["has schema version 9 and this program reads 1", "use the version"],
    );
    let cut = change("config.toml", "[identity]", "[identity_of_nobody]\n[more");
    refused(cut.path(), &export, FAILED, &["run/config.toml"]);
    let cut = change("config.toml", "learning-rate", "");
    refused(cut.path(), &export, FAILED, &["run/config.toml"]);

    let folder = tempfile::tempdir().unwrap();
    copy_of_run(folder.path());
    let model = folder.path().join("run/model.safetensors");
    let whole = fs::read(&model).unwrap();
    fs::write(&model, &whole[..whole.len() - 9]).unwrap();
    refused(folder.path(), &export, FAILED, &["run/model.safetensors"]);
    // Whole, but another's.
    let mut changed = whole;
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&model, changed).unwrap();
    refused(folder.path(), &export, FAILED, &["does not belong to its run", "summary says"]);
    fs::remove_file(&model).unwrap();
    let parts = ["run/model.safetensors is not there", "coordinator --resume run"];
    refused(folder.path(), &export, FAILED, &parts);
}

#[test]
fn a_format_or_a_place_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    copy_of_run(folder.path());
    fs::write(folder.path().join("file"), "kept").unwrap();
    let export = |format: &str, out: &str, code: i32, parts: &[&str]| {
        refused(folder.path(), &["export", "run", "--format", format, "--out", out], code, parts);
    };
    refused(folder.path(), &["export", "run"], USAGE, &["--format"]);
    export("keras", "net", USAGE, &["'keras'", "safetensors, onnx, tfjs"]);
    export("onnx", "absent/net.onnx", FAILED, &["cannot write absent/net.onnx", "No such file"]);
    export("onnx", "file/net.onnx", FAILED, &["cannot write file/net.onnx", "Not a directory"]);
    export("safetensors", "run", FAILED, &["run is a folder; name a file with --out"]);
    export("safetensors", "run/model.safetensors", FAILED, &["is the model itself, and is not overwritten"]);
    export("tfjs", "file", FAILED, &["file is a file", "a folder of two files"]);
    export("tfjs", "absent/net", FAILED, &["cannot make the folder absent/net: No such file"]);
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"kept");
    // A file that the run has not written yet, by a name from within.
    let inside = folder.path().join("run");
    let arguments = ["export", ".", "--format", "onnx", "--out", "metrics.jsonl"];
    refused(&inside, &arguments, FAILED, &["metrics.jsonl belongs to the run in "]);
    assert!(!inside.join("metrics.jsonl").exists());
    let arguments = ["evaluate", "run", "--predictions", "absent/all.csv"];
    refused(folder.path(), &arguments, FAILED, &["cannot write absent/all.csv"]);
    refused(folder.path(), &["evaluate", "run", "--threads", "0"], USAGE, &["--threads"]);
}
