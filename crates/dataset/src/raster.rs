//! Owns the canvas: how ink from round-nibbed line segments becomes pixels; knows nothing of digits.
//!
//! Only IEEE-exact operations, in one fixed order per pixel.

use crate::examples::{IMAGE_PIXELS, IMAGE_SIDE};

/// A place where the pen is: in pixels, with the radius of its nib there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Nib {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) radius: f32,
}

/// How deep every pixel's centre lies inside the ink: in pixels, negative outside.
pub(crate) struct Canvas {
    depth: [f32; IMAGE_PIXELS],
}

/// Depths farther outside than this, in pixels, are not computed.
const OUTSIDE: f32 = 2.0;

impl Canvas {
    /// An empty canvas.
    pub(crate) fn new() -> Self {
        Self { depth: [-OUTSIDE; IMAGE_PIXELS] }
    }

    /// Wipes the canvas.
    pub(crate) fn clear(&mut self) {
        self.depth.fill(-OUTSIDE);
    }

    /// Draws the line from `a` to `b`; the radius changes linearly along it.
    pub(crate) fn line(&mut self, a: Nib, b: Nib) {
        let reach = OUTSIDE + larger(a.radius, b.radius);
        let columns = pixels(smaller(a.x, b.x) - reach, larger(a.x, b.x) + reach);
        let rows = pixels(smaller(a.y, b.y) - reach, larger(a.y, b.y) + reach);
        let (dx, dy, dr) = (b.x - a.x, b.y - a.y, b.radius - a.radius);
        let square = dx * dx + dy * dy;
        // A line without length is a dot: any finite factor will do.
        let per_square = if square > 1e-12 { 1.0 / square } else { 0.0 };
        for row in rows {
            let py = row as f32 + 0.5 - a.y;
            let line = &mut self.depth[row * IMAGE_SIDE..][columns.clone()];
            for (column, depth) in columns.clone().zip(line) {
                let px = column as f32 + 0.5 - a.x;
                let along = (px * dx + py * dy) * per_square;
                let t = larger(0.0, smaller(1.0, along));
                let (ex, ey) = (px - t * dx, py - t * dy);
                let inside = a.radius + t * dr - (ex * ex + ey * ey).sqrt();
                *depth = larger(*depth, inside);
            }
        }
    }

    /// How deep the centre of pixel `i` lies inside the ink.
    pub(crate) fn depth(&self, i: usize) -> f32 {
        self.depth[i]
    }
}

/// The pixels of a row or column whose centres may lie between `low` and `high`.
fn pixels(low: f32, high: f32) -> std::ops::Range<usize> {
    // Casts of floats to integers cut off and saturate: what is left of the canvas becomes 0.
    let end = (high as usize + 1).min(IMAGE_SIDE);
    (low as usize).min(end)..end
}

// `f32::max` and `f32::min` are free in how they order signed zeros; comparisons are not.
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

pub(crate) fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nib(x: f32, y: f32, radius: f32) -> Nib {
        Nib { x, y, radius }
    }

    fn column(canvas: &Canvas, rows: std::ops::Range<usize>, column: usize) -> Vec<f32> {
        rows.map(|row| canvas.depth(row * IMAGE_SIDE + column)).collect()
    }

    #[test]
    fn a_line_is_as_wide_as_its_nib() {
        let mut canvas = Canvas::new();
        canvas.line(nib(5.0, 10.5, 1.5), nib(20.0, 10.5, 1.5));
        assert_eq!(column(&canvas, 6..15, 12), [-2.0, -1.5, -0.5, 0.5, 1.5, 0.5, -0.5, -1.5, -2.0]);
        canvas.clear();
        assert_eq!(column(&canvas, 0..28, 12), [-2.0; 28]);
    }

    #[test]
    fn the_nib_changes_along_a_line_and_ends_are_round() {
        let mut canvas = Canvas::new();
        canvas.line(nib(4.5, 10.5, 1.0), nib(12.5, 10.5, 3.0));
        assert_eq!([4, 8, 12].map(|x| canvas.depth(10 * IMAGE_SIDE + x)), [1.0, 2.0, 3.0]);
        assert_eq!([13, 14, 15].map(|x| canvas.depth(10 * IMAGE_SIDE + x)), [2.0, 1.0, 0.0]);
        // A dot: 3, 4, 5.
        canvas.clear();
        canvas.line(nib(10.5, 10.5, 4.0), nib(10.5, 10.5, 4.0));
        assert_eq!(canvas.depth(14 * IMAGE_SIDE + 13), -1.0);
    }

    #[test]
    fn ink_beyond_the_canvas_is_cut_off() {
        let mut canvas = Canvas::new();
        canvas.line(nib(-9.0, -9.0, 1.0), nib(-5.0, 40.0, 1.0));
        canvas.line(nib(33.0, -9.0, 1.0), nib(99.0, 40.0, 1.0));
        assert!(canvas.depth.iter().all(|&depth| depth == -OUTSIDE));
        canvas.line(nib(27.5, 27.5, 1.0), nib(60.0, 27.5, 1.0));
        assert_eq!(canvas.depth(IMAGE_PIXELS - 1), 1.0);
    }
}
