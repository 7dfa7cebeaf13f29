//! Owns the hand: how a shape becomes the path of a pen on the canvas, different every time.
//!
//! In this order: a mood between the two of the shape, a jitter for every point, a smooth curve through them, a
//! smooth warp, width, slant and rotation, then the fit that MNIST has (a box of 20x20 pixels, the centre of
//! mass in the middle of 28x28). Never touches a pixel. Only IEEE-exact operations.

use crate::draw::Draw;
use crate::examples::IMAGE_SIDE;
use crate::raster::{Nib, larger, smaller};
use crate::strokes::{Point, SHAPES, SIDE, Shape};

/// Pieces of the curve between two points of a shape.
const PIECES: usize = 5;
/// How much the pen's pressure varies along a stroke: standard deviation of the factor on its nib.
const PRESSURE: f32 = 0.3;
/// The thinnest line, in pixels of radius.
const HAIRLINE: f32 = 0.4;
/// The side of the box that a digit fills, in pixels.
const BOX: f32 = 20.0;

/// The path of a pen: connected lines, one list per stroke, laid end to end.
#[derive(Default)]
pub(crate) struct Path {
    /// Where the pen was.
    pub(crate) nibs: Vec<Nib>,
    /// For each stroke, one past its last place in `nibs`.
    pub(crate) ends: Vec<usize>,
    /// Points of the stroke at hand, on a square of side 1.
    points: Vec<[f32; 2]>,
}

impl Path {
    /// Every line of the path, in the order of drawing.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (Nib, Nib)> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .flat_map(|(start, &end)| self.nibs[start..end].windows(2).map(|w| (w[0], w[1])))
    }

    /// Draws `digit` anew, in pixels of the canvas.
    pub(crate) fn write(&mut self, digit: usize, draw: &mut Draw) {
        let shape = pick(SHAPES[digit], draw);
        let mood = draw.between(-0.25, 1.25);
        let jitter = draw.between(0.01, 0.055);
        self.nibs.clear();
        self.ends.clear();
        for (from, to) in shape.from.iter().zip(shape.to) {
            self.hold(from, to, mood, jitter, draw);
            self.curve(draw);
            self.ends.push(self.nibs.len());
        }
        self.warp(draw);
        self.lean(digit, draw);
        self.fit(draw);
    }

    /// The points of one stroke, between two moods, each displaced a little, the ends more.
    fn hold(&mut self, from: &[Point], to: &[Point], mood: f32, jitter: f32, draw: &mut Draw) {
        self.points.clear();
        for i in 0..from.len() {
            if i > 0 && from[i] == from[i - 1] {
                // A corner stays one.
                self.points.push(self.points[i - 1]);
                continue;
            }
            let sigma = if i == 0 || i + 1 == from.len() { jitter * 1.6 } else { jitter };
            let at = |from: u8, to: u8| {
                let (from, to) = (f32::from(from), f32::from(to));
                (from + mood * (to - from)) / f32::from(SIDE)
            };
            let (x, y) = (at(from[i].0, to[i].0), at(from[i].1, to[i].1));
            self.points.push([x + draw.bell(sigma), y + draw.bell(sigma)]);
        }
    }

    /// A Catmull-Rom curve through the points, with a nib that changes smoothly along it (as a factor of 1).
    fn curve(&mut self, draw: &mut Draw) {
        let points = &self.points;
        let last = points.len() - 1;
        let mut pressure = 1.0 + draw.bell(PRESSURE);
        self.nibs.push(Nib { x: points[0][0], y: points[0][1], radius: pressure });
        for i in 0..last {
            let (b, c) = (points[i], points[i + 1]);
            if b == c {
                continue;
            }
            // At an end, and at a corner, the neighbour is the point itself.
            let (a, d) = (points[i.saturating_sub(1)], points[(i + 2).min(last)]);
            let next = 1.0 + draw.bell(PRESSURE);
            for piece in 1..=PIECES {
                let t = piece as f32 / PIECES as f32;
                let (t2, t3) = (t * t, t * t * t);
                let on = |axis: usize| {
                    let slope = c[axis] - a[axis];
                    let bend = 2.0 * a[axis] - 5.0 * b[axis] + 4.0 * c[axis] - d[axis];
                    let twist = 3.0 * (b[axis] - c[axis]) + d[axis] - a[axis];
                    b[axis] + 0.5 * (slope * t + bend * t2 + twist * t3)
                };
                self.nibs.push(Nib { x: on(0), y: on(1), radius: pressure + t * (next - pressure) });
            }
            pressure = next;
        }
    }

    /// Bends the whole digit by a cubic displacement field.
    fn warp(&mut self, draw: &mut Draw) {
        let [a, b, c, d] = [0.18, 0.18, 0.15, 0.3].map(|sigma| draw.bell(sigma));
        let [e, f, g, h] = [0.18, 0.18, 0.15, 0.3].map(|sigma| draw.bell(sigma));
        for nib in &mut self.nibs {
            let (x, y) = (nib.x - 0.5, nib.y - 0.5);
            nib.x = x + a * y * y + b * x * y + c * x * x + d * y * y * y;
            nib.y = y + e * x * x + f * x * y + g * y * y + h * x * x * x;
        }
    }

    /// Width, slant and rotation.
    fn lean(&mut self, digit: usize, draw: &mut Draw) {
        // People write 2 and 5 wide; a 1 has no width to speak of, but leans more.
        let width = draw.between(0.5, if digit == 2 || digit == 5 { 1.7 } else { 1.35 });
        let (slant, turn) = match digit {
            1 => (0.22 + draw.bell(0.26), draw.bell(0.03)),
            _ => (0.16 + draw.bell(0.28), draw.bell(0.08)),
        };
        // The rotation by twice the arc tangent of `turn`, without trigonometry.
        let square = turn * turn;
        let (cos, sin) = ((1.0 - square) / (1.0 + square), 2.0 * turn / (1.0 + square));
        for nib in &mut self.nibs {
            let (x, y) = (nib.x * width - nib.y * slant, nib.y);
            nib.x = x * cos - y * sin;
            nib.y = x * sin + y * cos;
        }
    }

    /// Fits the ink into MNIST's box and puts its centre of mass into the middle, give or take half a pixel.
    fn fit(&mut self, draw: &mut Draw) {
        let radius = nib_radius(draw);
        let size = BOX * draw.between(0.97, 1.01) - 2.0 * radius;
        let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
        for nib in &self.nibs {
            low = [smaller(low[0], nib.x), smaller(low[1], nib.y)];
            high = [larger(high[0], nib.x), larger(high[1], nib.y)];
        }
        let scale = size / larger(0.1, larger(high[0] - low[0], high[1] - low[1]));
        let (mut mass, mut moment) = (0.0f32, [0.0f32; 2]);
        for (a, b) in self.lines() {
            let (dx, dy) = (b.x - a.x, b.y - a.y);
            let ink = (dx * dx + dy * dy).sqrt() * (a.radius + b.radius);
            mass += ink;
            moment = [moment[0] + ink * (a.x + b.x), moment[1] + ink * (a.y + b.y)];
        }
        // The scaled digit moves by whole pixels, so that its box lies on the grid and its centre of mass
        // within half a pixel of (14.5, 14.5), as far as the canvas allows.
        let side = IMAGE_SIDE as f32;
        let place = |axis: usize| {
            let centre = moment[axis] / (2.0 * larger(mass, 0.001)) * scale;
            let edge = radius - low[axis] * scale;
            let extent = (high[axis] - low[axis]) * scale + 2.0 * radius;
            let wanted = side / 2.0 + 1.0 - (centre + edge);
            // `as` takes the floor, and 0 for what is negative.
            edge + f32::from(smaller(wanted, side - extent) as u8)
        };
        let (x, y) = (place(0), place(1));
        for nib in &mut self.nibs {
            nib.x = x + nib.x * scale;
            nib.y = y + nib.y * scale;
            nib.radius = larger(HAIRLINE, nib.radius * radius);
        }
    }
}

/// The radius of a pen, in pixels: mostly thin, seldom a felt pen.
fn nib_radius(draw: &mut Draw) -> f32 {
    let u = 0.5 * (draw.between(0.0, 1.0) + draw.between(0.0, 1.0));
    0.75 + 0.8 * u + 0.7 * u * u * u * u
}

fn pick<'a>(shapes: &'a [Shape], draw: &mut Draw) -> &'a Shape {
    let mut left = draw.below(shapes.iter().map(|shape| shape.weight).sum());
    for shape in shapes {
        if left < shape.weight {
            return shape;
        }
        left -= shape.weight;
    }
    &shapes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream;

    #[test]
    fn every_digit_fills_the_box_around_the_middle() {
        let mut path = Path::default();
        for number in 0..2000 {
            let mut draw = Draw(stream::open(1, 99, number));
            let digit = number as usize % 10;
            path.write(digit, &mut draw);
            let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
            for nib in &path.nibs {
                low = [smaller(low[0], nib.x), smaller(low[1], nib.y)];
                high = [larger(high[0], nib.x), larger(high[1], nib.y)];
                assert!(nib.radius >= HAIRLINE, "{digit}, {number}");
            }
            let largest = larger(high[0] - low[0], high[1] - low[1]);
            assert!((14.0..20.0).contains(&largest), "{digit}, {number}: {largest}");
            assert!(low[0] > 0.0 && low[1] > 0.0 && high[0] < 28.0 && high[1] < 28.0, "{digit}, {number}");
        }
    }

    #[test]
    fn strokes_are_drawn_one_by_one() {
        let nib = |x: f32| Nib { x, y: 0.0, radius: 1.0 };
        let path = Path { nibs: [1.0, 2.0, 3.0, 7.0, 8.0].map(nib).into(), ends: vec![3, 5], points: vec![] };
        let lines: Vec<_> = path.lines().map(|(a, b)| (a.x, b.x)).collect();
        assert_eq!(lines, [(1.0, 2.0), (2.0, 3.0), (7.0, 8.0)]);
    }
}
