//! `coordinator predict`: a digit is the same digit however it was drawn.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use lockstep_dataset::{Examples, IMAGE_SIDE, digits_test};
use tempfile::TempDir;

use super::run;
use crate::harness::{coordinator, start};

/// How many digits of the test set are drawn anew.
const DRAWN: usize = 20;

/// A folder with a run in `run/` that knows most digits.
fn knowing() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let mut command = coordinator(folder.path());
            command.args(["--run-dir", "run", "--dataset", "digits", "--examples", "8000"]);
            start(command.args(["--batch-size", "16", "--epochs", "4"])).finish().done();
            folder
        })
        .path()
}

/// A picture: width, height, greys.
struct Picture(usize, usize, Vec<u8>);

impl Picture {
    fn of(examples: &Examples, index: usize) -> Self {
        Self(IMAGE_SIDE, IMAGE_SIDE, examples.image(index).to_vec())
    }

    fn inverted(self) -> Self {
        Self(self.0, self.1, self.2.iter().map(|grey| 255 - grey).collect())
    }

    fn enlarged(self, times: usize) -> Self {
        let grey = |x: usize, y: usize| self.2[y / times * self.0 + x / times];
        let (width, height) = (self.0 * times, self.1 * times);
        Self(width, height, (0..width * height).map(|at| grey(at % width, at / width)).collect())
    }

    /// On a larger black sheet.
    fn laid(self, width: usize, height: usize, left: usize, top: usize) -> Self {
        let mut sheet = vec![0; width * height];
        for (y, row) in self.2.chunks(self.0).enumerate() {
            sheet[(top + y) * width + left..][..self.0].copy_from_slice(row);
        }
        Self(width, height, sheet)
    }

    /// Within a frame of three black pixels.
    fn framed(self) -> Self {
        let (width, height) = (self.0 + 6, self.1 + 6);
        self.laid(width, height, 3, 3)
    }

    fn pgm(&self) -> Vec<u8> {
        [format!("P5\n{} {}\n255\n", self.0, self.1).as_bytes(), &self.2].concat()
    }

    fn png(&self) -> Vec<u8> {
        self.encoded(png::ColorType::Grayscale, &self.2)
    }

    fn encoded(&self, color: png::ColorType, samples: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.0 as u32, self.1 as u32);
        encoder.set_color(color);
        encoder.write_header().unwrap().write_image_data(samples).unwrap();
        bytes
    }

    /// As a pen would draw it on a larger sheet of paper: black on white.
    fn penned(self) -> Self {
        self.enlarged(8).laid(300, 260, 50, 20).inverted()
    }

    /// The grey of each pixel becomes another one by its column and row.
    fn changed(self, change: impl Fn(u8, usize, usize) -> u8) -> Self {
        let pixels = self.2.iter().enumerate().map(|(at, grey)| change(*grey, at % self.0, at / self.0));
        Self(self.0, self.1, pixels.collect())
    }

    /// With a black square in it.
    fn speck(self, side: usize, left: usize, top: usize) -> Self {
        self.changed(|grey, x, y| {
            let inside = (left..left + side).contains(&x) && (top..top + side).contains(&y);
            if inside { 0 } else { grey }
        })
    }

    /// Each pixel the mean of those around it.
    fn blurred(self, reach: usize) -> Self {
        let (width, height) = (self.0, self.1);
        let mean = |x: usize, y: usize| {
            let rows = y.saturating_sub(reach)..(y + reach + 1).min(height);
            let columns = x.saturating_sub(reach)..(x + reach + 1).min(width);
            let sum: usize = rows
                .clone()
                .flat_map(|row| &self.2[row * width..][columns.clone()])
                .map(|grey| usize::from(*grey))
                .sum();
            (sum / rows.len() / columns.len()) as u8
        };
        Self(width, height, (0..width * height).map(|at| mean(at % width, at / width)).collect())
    }

    /// Red on a green that is as bright.
    fn red_on_green(&self) -> Vec<u8> {
        let colour = |grey: &u8| {
            [(20, 220), (140, 40), (63, 40)].map(|(paper, ink)| {
                let grey = u32::from(*grey);
                ((paper * grey + ink * (255 - grey)) / 255) as u8
            })
        };
        self.encoded(png::ColorType::Rgb, &self.2.iter().flat_map(colour).collect::<Vec<_>>())
    }
}

/// A way to make a picture of a digit, and the name of its file.
type Way = (&'static str, fn(Picture) -> Vec<u8>);

/// The classes that the model reads in pictures of `examples`, made in one way.
fn classes(folder: &Path, examples: &Examples, (name, way): &Way) -> Vec<u64> {
    let paths: Vec<PathBuf> = (0..DRAWN)
        .map(|index| {
            let path = folder.join(format!("{index}-{name}"));
            fs::write(&path, way(Picture::of(examples, index))).unwrap();
            path
        })
        .collect();
    let mut arguments = vec!["predict", "--model", "run", "--json"];
    arguments.extend(paths.iter().map(|path| path.to_str().unwrap()));
    let answer = run(knowing(), &arguments).done().summary();
    let predictions = answer["predictions"].as_array().unwrap();
    predictions
        .iter()
        .zip(&paths)
        .map(|(prediction, path)| {
            assert_eq!(prediction["image"], path.to_str().unwrap());
            let all = prediction["probabilities"].as_array().unwrap();
            let all: Vec<f64> = all.iter().map(|share| share.as_f64().unwrap()).collect();
            assert!(all.len() == 10 && (all.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{prediction}");
            let class = prediction["class"].as_u64().unwrap();
            assert!(all.iter().all(|share| *share <= all[class as usize]), "{prediction}");
            class
        })
        .collect()
}

#[test]
fn a_digit_has_one_class_however_it_was_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let examples = digits_test(DRAWN);
    let ways: [Way; 7] = [
        ("plain.pgm", |picture| picture.pgm()),
        ("inverted.png", |picture| picture.inverted().png()),
        ("large.png", |picture| picture.enlarged(25).png()),
        ("corner.pgm", |picture| picture.laid(400, 300, 371, 2).inverted().pgm()),
        ("large-corner.png", |picture| picture.enlarged(7).laid(1000, 300, 1, 100).inverted().png()),
        ("framed.pgm", |picture| picture.inverted().framed().pgm()),
        ("large-framed.png", |picture| picture.enlarged(7).inverted().framed().png()),
    ];
    let plain = classes(folder.path(), &examples, &ways[0]);
    let right =
        plain.iter().zip(&examples.labels).filter(|(class, label)| **class == u64::from(**label)).count();
    assert!(right >= DRAWN * 8 / 10, "{right} of {DRAWN} digits are recognised");
    for way in &ways[1..] {
        assert_eq!(classes(folder.path(), &examples, way), plain, "{}", way.0);
    }
}

#[test]
fn a_digit_has_its_class_on_any_paper() {
    let folder = tempfile::tempdir().unwrap();
    let examples = digits_test(DRAWN);
    let ways: [Way; 9] = [
        ("small-speck.png", |picture| picture.penned().speck(1, 2, 255).png()),
        ("speck.png", |picture| picture.penned().speck(3, 295, 1).png()),
        ("specks.png", |picture| picture.penned().speck(9, 1, 1).speck(7, 280, 250).inverted().png()),
        ("shadow.png", |picture| {
            picture
                .penned()
                .changed(|grey, x, y| (usize::from(grey) * (420 - x / 2 - y / 4) / 480) as u8)
                .png()
        }),
        ("ruled.png", |picture| {
            picture.penned().changed(|grey, _, y| if y % 34 < 2 { grey.min(110) } else { grey }).png()
        }),
        ("squared.png", |picture| {
            let line = |x, y| x % 28 == 3 || y % 28 == 5;
            picture.penned().changed(|grey, x, y| if line(x, y) { grey.min(90) } else { grey }).png()
        }),
        ("red-on-green.png", |picture| picture.penned().red_on_green()),
        ("blurred.png", |picture| picture.penned().blurred(3).png()),
        ("all.png", |picture| {
            let ruled = picture.penned().changed(|grey, _, y| if y % 40 == 9 { grey.min(160) } else { grey });
            ruled.speck(4, 3, 3).changed(|grey, x, _| (usize::from(grey) * (400 - x) / 400) as u8).png()
        }),
    ];
    let plain = classes(folder.path(), &examples, &("plain.pgm", |picture| picture.pgm()));
    for way in &ways {
        let same = classes(folder.path(), &examples, way);
        let same = same.iter().zip(&plain).filter(|(class, plain)| class == plain).count();
        assert!(same * 10 >= DRAWN * 9, "{}: {same} of {DRAWN} digits are read as they are", way.0);
    }
}

#[test]
fn people_see_the_class_and_all_probabilities() {
    let folder = tempfile::tempdir().unwrap();
    let seven = folder.path().join("seven.png");
    fs::write(&seven, Picture::of(&digits_test(1), 0).png()).unwrap();
    let finished =
        run(knowing(), &["predict", seven.to_str().unwrap(), "--model", "run/model.safetensors"]).done();
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!((lines.len(), finished.stderr.as_str()), (2, ""), "{finished}");
    assert!(
        lines[0].starts_with(&format!("{}: ", seven.display())) && lines[0].ends_with(" %)"),
        "{finished}"
    );
    assert!(lines[1].starts_with("  0: ") && lines[1].contains(" % 9: "), "{finished}");
}

#[test]
fn without_a_model_the_newest_finished_run_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("digit.pgm"), Picture::of(&digits_test(1), 0).pgm()).unwrap();
    let ask = || run(folder.path(), &["predict", "digit.pgm", "--json"]);
    let nobody = ask();
    assert_eq!(nobody.code(), Some(1));
    assert!(nobody.stderr.contains("there is no finished run under runs/"), "{nobody}");
    let train = |name: &str, seed: &str| {
        let mut command = coordinator(folder.path());
        command.args([
            "--json",
            "--workers",
            "1",
            "--dataset",
            "digits",
            "--examples",
            "100",
            "--batch-size",
            "32",
        ]);
        command.args(["--max-steps", "2", "--seed", seed, "--run-dir"]).arg(Path::new("runs").join(name));
        start(&mut command).finish().done().digest()
    };
    train("later-by-name", "1");
    let newest = train("a-newer-one", "2");
    fs::create_dir(folder.path().join("runs/no-run")).unwrap();
    let asked = ask().done();
    assert_eq!(asked.digest(), newest, "{asked}");
    assert!(asked.stderr.contains("runs/a-newer-one/model.safetensors, the newest finished run"), "{asked}");
}
