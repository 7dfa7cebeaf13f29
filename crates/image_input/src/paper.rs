//! The paper that somebody drew on, at every place: of one colour, or lit unevenly.
//!
//! Most of the border is paper, whatever is drawn. Where nine tenths of it have one grey the paper has it everywhere; else
//! a smooth surface is fitted to the picture, first to its border, then to all of it that is not ink.

use crate::contrast::{Histogram, LEAST_CONTRAST, border, median};
use crate::mnist::SIDE;

/// Greys by which paper of one colour differs from itself.
const FLAT: u8 = 8;
/// The longer side of the picture has so many cells; the surface has one value in each.
const CELLS: usize = 64;
/// How often the cells that are ink are told from those that are paper, and the surface is fitted again.
const ROUNDS: usize = 6;
/// What a cell inside counts for the first fit, where one at the border counts 1.
const INSIDE: f64 = 0.1;
/// A place with fewer cells of paper nearby than this, as a share, keeps the first surface.
const SHARE_OF_PAPER: f32 = 0.02;

/// Terms of a surface of the second degree.
const TERMS: usize = 6;

/// How much lighter than the paper each pixel of a plane is, less than 0 where it is darker, and by how many greys the
/// paper itself varies. What is darker counts as if all of the paper were lit as its lightest place is: ink in a shadow
/// reflects the same share of less light.
pub(crate) fn differences(plane: &[u8], width: usize) -> (Vec<i16>, u8) {
    let edge = border(plane, width);
    let paper = median(edge.iter().copied());
    let flat = edge.iter().filter(|pixel| pixel.abs_diff(paper) <= FLAT).count();
    // On few pixels a stroke at the border cannot be told from a shadow.
    let small = width.min(plane.len() / width) < SIDE;
    if small || flat * 10 >= edge.len() * 9 {
        return (plane.iter().map(|pixel| i16::from(*pixel) - i16::from(paper)).collect(), 0);
    }
    let surface = Surface::of(plane, width);
    let (darkest, lightest) = surface
        .values
        .iter()
        .fold((255.0_f32, 0.0_f32), |(low, high), value| (low.min(*value), high.max(*value)));
    let difference = |(at, pixel): (usize, &u8)| {
        let paper = surface.at(at % width, at / width);
        let difference = f32::from(*pixel) - paper;
        let lit = if difference < 0.0 { lightest / paper.max(1.0) } else { 1.0 };
        (difference * lit).round().clamp(-255.0, 255.0) as i16
    };
    (plane.iter().enumerate().map(difference).collect(), (lightest - darkest) as u8)
}

/// A smooth function of the place: one value for each cell, even between their centres.
struct Surface {
    /// Pixels of a cell's side.
    side: usize,
    columns: usize,
    rows: usize,
    values: Vec<f32>,
}

impl Surface {
    fn of(plane: &[u8], width: usize) -> Self {
        let height = plane.len() / width;
        let side = width.max(height).div_ceil(CELLS);
        let (columns, rows) = (width.div_ceil(side), height.div_ceil(side));
        let cell = |at: usize| {
            let (left, top) = (at % columns * side, at / columns * side);
            let lines = plane.chunks_exact(width).skip(top).take(side);
            f32::from(median(lines.flat_map(|line| &line[left..(left + side).min(width)]).copied()))
        };
        let seen: Vec<f32> = (0..columns * rows).map(cell).collect();
        let mut surface = Self { side, columns, rows, values: Vec::new() };
        let first = surface.fitted(&seen);
        surface.values = first.clone();
        for _ in 0..ROUNDS {
            let paper = surface.paper(&seen);
            let away: Vec<f32> = seen
                .iter()
                .zip(&first)
                .zip(&paper)
                .map(|((seen, first), paper)| paper * (seen - first))
                .collect();
            let (away, share) = (surface.spread(&away), surface.spread(&paper));
            let moved = first.iter().zip(&away).zip(&share);
            surface.values =
                moved.map(|((first, away), share)| first + away / (share + SHARE_OF_PAPER)).collect();
        }
        surface
    }

    /// 1 for each cell that is paper, 0 for each that is ink.
    fn paper(&self, seen: &[f32]) -> Vec<f32> {
        let away = |(seen, paper): (&f32, &f32)| (seen - paper).abs().round() as u8;
        let away: Vec<u8> = seen.iter().zip(&self.values).map(away).collect();
        let ink = away.iter().copied().collect::<Histogram>().threshold().max(LEAST_CONTRAST as u8 / 2);
        away.iter().map(|away| f32::from(u8::from(*away <= ink))).collect()
    }

    /// The surface of the second degree that lies nearest to `seen`, mostly at the border; what lies far from it counts
    /// less.
    fn fitted(&self, seen: &[f32]) -> Vec<f32> {
        let (columns, rows) = (self.columns, self.rows);
        let terms = |at: usize| {
            let [x, y] = [(at % columns, columns), (at / columns, rows)]
                .map(|(place, count)| (2 * place + 1) as f64 / count as f64 - 1.0);
            [1.0, x, y, x * x, x * y, y * y]
        };
        let at_border = |at: usize| {
            let (column, row) = (at % columns, at / columns);
            column.min(row).min(columns - 1 - column).min(rows - 1 - row) < 2
        };
        let base: Vec<f64> = (0..seen.len()).map(|at| if at_border(at) { 1.0 } else { INSIDE }).collect();
        let mut weights = base.clone();
        let mut values = Vec::new();
        for _ in 0..2 * ROUNDS {
            let mut sums = [[0.0; TERMS + 1]; TERMS];
            for (at, (seen, weight)) in seen.iter().zip(&weights).enumerate() {
                let terms = terms(at);
                let both = terms.iter().copied().chain([f64::from(*seen)]);
                for (sums, term) in sums.iter_mut().zip(terms) {
                    sums.iter_mut().zip(both.clone()).for_each(|(sum, value)| *sum += weight * term * value);
                }
            }
            let factors = solved(sums);
            let value =
                |at: usize| terms(at).iter().zip(factors).map(|(term, factor)| term * factor).sum::<f64>();
            values = (0..seen.len()).map(|at| value(at).clamp(0.0, 255.0) as f32).collect();
            let away: Vec<f64> =
                seen.iter().zip(&values).map(|(seen, value)| f64::from((seen - value).abs())).collect();
            let usual =
                median(away.iter().zip(&base).filter(|(_, base)| **base == 1.0).map(|(away, _)| *away as u8));
            let usual = 2.0 * f64::from(usual) + 4.0;
            weights = base
                .iter()
                .zip(&away)
                .map(|(base, away)| base / (1.0 + (away / usual) * (away / usual)))
                .collect();
        }
        values
    }

    /// The mean of the cells around each, twice; what lies outside counts as 0.
    fn spread(&self, values: &[f32]) -> Vec<f32> {
        let reach = self.columns.max(self.rows) / 10 + 1;
        let count = (2 * reach + 1) as f32;
        let around = |at: usize, length: usize| at.saturating_sub(reach)..(at + reach + 1).min(length);
        let (columns, rows) = (self.columns, self.rows);
        let mut values = values.to_vec();
        for _ in 0..2 {
            let across = (0..values.len()).map(|at| {
                let row = &values[at / columns * columns..][..columns];
                row[around(at % columns, columns)].iter().sum::<f32>() / count
            });
            let across: Vec<f32> = across.collect();
            let down = (0..values.len()).map(|at| {
                around(at / columns, rows).map(|row| across[row * columns + at % columns]).sum::<f32>()
                    / count
            });
            values = down.collect();
        }
        values
    }

    /// At the middle of a pixel.
    fn at(&self, x: usize, y: usize) -> f32 {
        let place = |pixel: usize, count: usize| {
            let place = ((pixel as f32 + 0.5) / self.side as f32 - 0.5).clamp(0.0, (count - 1) as f32);
            let low = (place as usize).min(count.saturating_sub(2));
            (low, (low + 1).min(count - 1), place - low as f32)
        };
        let (left, right, across) = place(x, self.columns);
        let (top, bottom, down) = place(y, self.rows);
        let line = |row: usize| {
            let row = &self.values[row * self.columns..][..self.columns];
            row[left] + (row[right] - row[left]) * across
        };
        line(top) + (line(bottom) - line(top)) * down
    }
}

/// Solves linear equations, the right side in the last column, by elimination. A term that nothing tells of, as in a
/// picture of one row, is 0.
fn solved(mut rows: [[f64; TERMS + 1]; TERMS]) -> [f64; TERMS] {
    for (term, row) in rows.iter_mut().enumerate() {
        row[term] += 1e-6;
    }
    for pivot in 0..TERMS {
        let line = rows[pivot];
        for (at, row) in rows.iter_mut().enumerate() {
            if at != pivot {
                let factor = row[pivot] / line[pivot];
                row.iter_mut().zip(line).for_each(|(value, pivot)| *value -= factor * pivot);
            }
        }
    }
    std::array::from_fn(|term| rows[term][TERMS] / rows[term][term])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrast::Contrast;
    use crate::testing::{FIVE, Sheet};

    /// A hand's shadow from the right: soft, its edge round.
    fn shadow(x: usize, y: usize) -> f32 {
        let (x, y) = (x as f32 / 240.0 - 0.5, y as f32 / 220.0 - 0.5);
        let depth = x + 0.4 * y * y;
        225.0 - 105.0 / (1.0 + (-8.0 * depth).exp())
    }

    #[test]
    fn paper_of_one_colour_is_that_colour() {
        let plane: Vec<u8> = (0..1600).map(|at| if at == 855 { 40 } else { 200 }).collect();
        let (differences, light) = differences(&plane, 40);
        assert_eq!((differences[855], differences[0], light), (-160, 0, 0));
    }

    #[test]
    fn strokes_that_leave_a_small_picture_are_no_shadow() {
        let plane = [0, 255, 0, 0, 255, 0, 0, 255, 0];
        assert_eq!(differences(&plane, 3), (plane.map(i16::from).to_vec(), 0));
    }

    #[test]
    fn a_shadow_is_paper_and_ink_in_it_is_as_dark_as_elsewhere() {
        type Light = fn(usize, usize) -> f32;
        let lights: [(&str, Light); 4] = [
            ("a shadow", shadow),
            ("a slope", |x, _| 225.0 - 105.0 * x as f32 / 239.0),
            ("a slope down", |x, y| 120.0 + 105.0 * (x + y) as f32 / 458.0),
            ("a lamp", |x, y| 230.0 - ((x as f32 - 100.0).powi(2) + (y as f32 - 90.0).powi(2)) / 250.0),
        ];
        let sheet = Sheet::of(FIVE);
        for (name, light) in lights {
            // Ink that reflects a fifth of the light.
            let pixels = |cover: f32, at: usize| light(at % 240, at / 240) * (1.0 - 0.8 * cover);
            let plane: Vec<u8> =
                sheet.cover.iter().enumerate().map(|(at, cover)| pixels(*cover, at).round() as u8).collect();
            let (differences, _) = differences(&plane, 240);
            let of = |ink: bool| {
                let covered = move |(_, cover): &(&i16, &f32)| **cover == f32::from(u8::from(ink));
                let values = differences.iter().zip(&sheet.cover).filter(covered).map(|(value, _)| *value);
                (values.clone().min().unwrap(), values.max().unwrap())
            };
            let (paper, ink) = (of(false), of(true));
            assert!(paper.0 >= -12 && paper.1 <= 12, "{name}: paper from {} to {}", paper.0, paper.1);
            assert!(ink.0 >= -200 && ink.1 <= -150, "{name}: ink from {} to {}", ink.0, ink.1);
        }
    }

    #[test]
    fn light_ink_in_a_shadow_is_ink() {
        let sheet = Sheet::of(FIVE);
        let contrast = Contrast::of(&sheet.on(250.0, |x, y| shadow(x, y) - 100.0)).unwrap();
        let covered = |ink: f32| {
            let all = contrast.values.iter().zip(&sheet.cover).filter(move |(_, cover)| **cover == ink);
            all.map(|(value, _)| *value)
        };
        assert!(covered(0.0).max() < Some(12) && covered(1.0).min() > Some(90));
    }

    #[test]
    fn equations_are_solved_and_what_nothing_tells_of_is_nothing() {
        let mut rows = [[0.0; TERMS + 1]; TERMS];
        rows[0][0] = 2.0;
        rows[0][1] = 1.0;
        rows[1][0] = 1.0;
        rows[1][1] = 3.0;
        (rows[0][TERMS], rows[1][TERMS]) = (4.0, 7.0);
        let factors = solved(rows);
        assert!((factors[0] - 1.0).abs() < 1e-4 && (factors[1] - 2.0).abs() < 1e-4, "{factors:?}");
        assert_eq!(factors[2..], [0.0; 4]);
    }
}
