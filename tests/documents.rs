//! What the documents say of the code: the loop at the head of ARCHITECTURE.md, the map, the paths, and that modules of
//! different folders form no cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines between two lines, without them.
fn between<'a>(text: &'a str, first: &str, last: &str) -> Vec<&'a str> {
    let mut lines = text.lines().skip_while(|line| *line != first);
    assert!(lines.next().is_some(), "no line {first:?}");
    lines.take_while(|line| *line != last).collect()
}

#[test]
fn the_architecture_begins_with_the_oracles_loop() {
    let (architecture, oracle) = (text("ARCHITECTURE.md"), text("tests/oracle.rs"));
    let shown = between(&architecture, "```rust", "```");
    let run = between(&oracle, "pub fn train(data: &Dataset, recipe: &Recipe) -> Trained {", "}");
    let run: Vec<_> = run.iter().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    assert_eq!(shown, run);
}

fn folders(path: &str) -> Vec<String> {
    let entries = root().join(path).read_dir().unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.map(|folder| folder.file_name().into_string().unwrap()).collect()
}

#[test]
fn every_folder_is_on_the_map() {
    let architecture = text("ARCHITECTURE.md");
    let map = between(&architecture, "## The map", "## Why the bits are the same").join("\n");
    for folder in [folders("crates"), folders("coordinator/src")].concat() {
        assert!(map.contains(&format!("\n  {folder}/ ")), "{folder} is not on the map");
    }
}

#[test]
fn every_path_in_the_documents_exists() {
    // Short names stand for the crate or the folder that the sentence is about.
    let homes = ["", "crates", "coordinator", "coordinator/src", "worker/src", "proto/src", "docs"];
    let inner = folders("crates").into_iter().map(|name| format!("crates/{name}/src"));
    let homes: Vec<String> = homes.iter().map(ToString::to_string).chain(inner).collect();
    for document in ["ARCHITECTURE.md", "README.md", "docs/performance.md", "docs/runs.md"] {
        let text = text(document);
        let code = text.split('`').skip(1).step_by(2);
        let paths = code.filter(|code| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte);
            code.bytes().all(plain) && (code.ends_with(".rs") || code.starts_with("crates/"))
        });
        for path in paths {
            let found = homes.iter().any(|home| {
                let (folder, file) = path.split_once('/').unwrap_or(("", path));
                // `reduction/cut.rs` is short for `crates/reduction/src/cut.rs`.
                root().join(home).join(path).exists()
                    || root().join(home).join(folder).join("src").join(file).exists()
            });
            assert!(found, "{document} names {path}, which is not there");
        }
    }
}

/// The modules at the top of a crate that each of them uses; a folder is one module, its files together.
fn edges(source: &Path) -> (BTreeMap<String, BTreeSet<String>>, BTreeSet<String>) {
    let (mut edges, mut folders) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeSet::new());
    let mut left = vec![source.to_path_buf()];
    while let Some(folder) = left.pop() {
        for entry in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            let relative = entry.strip_prefix(source).unwrap().with_extension("");
            let mut names = relative.iter().map(|name| name.to_str().unwrap());
            let (top, is_inside) = (names.next().unwrap().to_string(), names.next().is_some());
            if entry.is_dir() {
                left.push(entry);
                continue;
            }
            if is_inside {
                folders.insert(top.clone());
            }
            let is_rust = entry.extension().is_some_and(|extension| extension == "rs");
            let is_test = relative.iter().any(|name| name == "tests");
            if !is_rust || is_test || ["lib", "main"].contains(&&*top) {
                continue;
            }
            let text = fs::read_to_string(&entry).unwrap();
            let production = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            for used in production.split("crate::").skip(1) {
                let end = used.find(|next: char| !next.is_ascii_lowercase() && next != '_');
                let used = &used[..end.unwrap_or(used.len())];
                let is_module = source.join(used).is_dir() || source.join(format!("{used}.rs")).exists();
                if is_module && !used.is_empty() && used != top {
                    edges.entry(top.clone()).or_default().insert(used.to_string());
                }
            }
        }
    }
    (edges, folders)
}

/// All that a module uses, directly or not.
fn reached(from: &str, edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from.to_string()]);
    while let Some(module) = left.pop() {
        for used in edges.get(&module).into_iter().flatten() {
            if seen.insert(used.clone()) {
                left.push(used.clone());
            }
        }
    }
    seen
}

#[test]
fn modules_of_different_folders_form_no_cycle() {
    let crates = folders("crates").into_iter().map(|name| format!("crates/{name}/src"));
    let crates = ["coordinator/src", "worker/src", "proto/src"].map(str::to_string).into_iter().chain(crates);
    let mut seen = 0;
    for source in crates {
        let (edges, folders) = edges(&root().join(&source));
        seen += edges.values().map(BTreeSet::len).sum::<usize>();
        for folder in folders {
            let back: Vec<_> = reached(&folder, &edges)
                .into_iter()
                .filter(|used| *used != folder && reached(used, &edges).contains(&folder))
                .collect();
            assert!(back.is_empty(), "in {source}, {folder} uses {back:?}, which use it");
        }
    }
    assert!(seen > 100, "of the uses only {seen} were found");
}
