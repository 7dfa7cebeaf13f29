//! Compiles `lockstep.proto` to `proto/src/wire.rs`, which is committed, with a compiler in pure Rust.
//!
//! Without arguments it compares: exit status 1 if the committed file is not what the protocol gives. `--write` replaces
//! the file.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let wire = proto.join("src/wire.rs");
    let files = protox::compile(["lockstep/v1/lockstep.proto"], [proto.join("proto")])?;
    let out = tempfile::tempdir()?;
    tonic_prost_build::configure().bytes(".").out_dir(out.path()).compile_fds(files)?;
    let generated = fs::read_to_string(out.path().join("lockstep.v1.rs"))?;
    if env::args().nth(1).as_deref() == Some("--write") {
        fs::write(wire, generated)?;
    } else if fs::read_to_string(&wire)? != generated {
        eprintln!("proto/src/wire.rs is not what lockstep.proto gives; run this program with --write");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
