//! Writes a picture of generated digits: `cargo run --release -p lockstep-dataset --example contact_sheet -- FILE.png`.

use std::path::PathBuf;

use lockstep_dataset::{contact_sheet, digits_train};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path: PathBuf = std::env::args_os().nth(1).ok_or("name the PNG file to write")?.into();
    std::fs::write(path, contact_sheet(&digits_train(100), 20, 5))?;
    Ok(())
}
