//! Digits of straight strokes, as ink on sheets of any light, for the tests of this crate.

use crate::Picture;
use crate::contrast::Contrast;

type Stroke = &'static [(f32, f32)];

/// A 4 whose strokes do not touch, in a square of side 1: x, y.
pub(crate) const FOUR: &[Stroke] =
    &[&[(0.25, 0.05), (0.15, 0.55), (0.55, 0.55)], &[(0.75, 0.1), (0.75, 0.95)]];
/// A 5 with its bar apart.
pub(crate) const FIVE: &[Stroke] = &[
    &[(0.2, 0.25), (0.2, 0.5), (0.55, 0.45), (0.8, 0.65), (0.7, 0.9), (0.15, 0.9)],
    &[(0.35, 0.06), (0.75, 0.04)],
];
pub(crate) const SEVEN: &[Stroke] = &[&[(0.15, 0.06), (0.8, 0.06), (0.4, 0.95)]];

const PEN: f32 = 0.05;

/// How much ink the pixels of a sheet have, from 0 to 1.
#[derive(Clone)]
pub(crate) struct Sheet {
    pub(crate) width: usize,
    pub(crate) cover: Vec<f32>,
}

impl Sheet {
    /// A digit of 140 pixels, on a sheet that has some space around it.
    pub(crate) fn of(strokes: &[Stroke]) -> Self {
        let (width, height, left, top, side) = (240, 220, 60.0, 40.0, 140.0);
        let away = |x: f32, y: f32| {
            let distance = |(a, b): ((f32, f32), (f32, f32))| {
                let (dx, dy) = (b.0 - a.0, b.1 - a.1);
                let along = (((x - a.0) * dx + (y - a.1) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
                (x - a.0 - along * dx).hypot(y - a.1 - along * dy)
            };
            let lines = strokes.iter().flat_map(|stroke| stroke.windows(2).map(|line| (line[0], line[1])));
            lines.map(distance).fold(1.0, f32::min)
        };
        let pixel = |at: usize| {
            let (x, y) = ((at % width) as f32 + 0.5, (at / width) as f32 + 0.5);
            // Half a pixel inside is all ink, half a pixel outside is none.
            (0.5 - (away((x - left) / side, (y - top) / side) - PEN) * side).clamp(0.0, 1.0)
        };
        Self { width, cover: (0..width * height).map(pixel).collect() }
    }

    /// With more ink, at all places that `there` chooses by column and row.
    pub(crate) fn with(mut self, there: impl Fn(usize, usize) -> bool) -> Self {
        let width = self.width;
        self.cover
            .iter_mut()
            .enumerate()
            .filter(|(at, _)| there(at % width, at / width))
            .for_each(|(_, cover)| *cover = 1.0);
        self
    }

    /// With so large a square of ink, at this column and row.
    pub(crate) fn speck(self, side: usize, left: usize, top: usize) -> Self {
        self.with(|x, y| (left..left + side).contains(&x) && (top..top + side).contains(&y))
    }

    /// In grey ink on paper whose grey depends on column and row.
    pub(crate) fn on(&self, ink: f32, paper: impl Fn(usize, usize) -> f32) -> Picture {
        let pixel = |(at, cover): (usize, &f32)| {
            let paper = paper(at % self.width, at / self.width);
            (paper + (ink - paper) * cover).round() as u8
        };
        let pixels = self.cover.iter().enumerate().map(pixel).collect();
        Picture::grey(self.width, self.cover.len() / self.width, pixels).unwrap()
    }

    /// Black on white.
    pub(crate) fn plain(&self) -> Picture {
        self.on(0.0, |_, _| 255.0)
    }

    /// In colours.
    pub(crate) fn coloured(&self, ink: [f32; 3], paper: [f32; 3]) -> Picture {
        let blend = |cover: &f32| {
            std::array::from_fn(|plane| (paper[plane] + (ink[plane] - paper[plane]) * cover).round() as u8)
        };
        let height = self.cover.len() / self.width;
        Picture::colours(self.width, height, self.cover.iter().map(blend)).unwrap()
    }

    /// The contrast of black on white.
    pub(crate) fn contrast(&self) -> Contrast {
        Contrast::of(&self.plain()).unwrap()
    }
}
