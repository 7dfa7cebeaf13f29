//! Connected shapes of ink, and which of them are specks.

use std::ops::Range;

/// A shape both of whose sides are less than this part of the longer side of the greatest one is a speck: of the second
/// strokes of 4s and 5s the shortest have a quarter.
const SPECKS_IN_SIDE: usize = 6;
/// And so is one that has less than this part of its pixels, a hair, say.
const SPECKS_IN_AREA: usize = 32;

/// Pixels of a row, side by side, that have ink.
struct Run {
    row: usize,
    columns: Range<usize>,
}

/// A connected set of pixels.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) columns: Range<usize>,
    pub(crate) rows: Range<usize>,
    pub(crate) area: usize,
    /// The greatest contrast in it.
    pub(crate) most: u8,
}

impl Shape {
    pub(crate) fn longer_side(&self) -> usize {
        self.columns.len().max(self.rows.len())
    }

    fn joined(&self, other: &Self) -> Self {
        let both =
            |left: &Range<usize>, right: &Range<usize>| left.start.min(right.start)..left.end.max(right.end);
        Self {
            columns: both(&self.columns, &other.columns),
            rows: both(&self.rows, &other.rows),
            area: self.area + other.area,
            most: self.most.max(other.most),
        }
    }
}

/// All shapes of a picture.
pub(crate) struct Shapes {
    runs: Vec<Run>,
    /// For every run the index of its shape.
    shape_of: Vec<usize>,
    pub(crate) shapes: Vec<Shape>,
}

impl Shapes {
    /// Of the pixels of `values` above `least`; pixels that touch at a corner are one shape.
    pub(crate) fn of(values: &[u8], width: usize, least: u8) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut parents: Vec<usize> = Vec::new();
        let mut above = 0..0;
        for (row, line) in values.chunks_exact(width).enumerate() {
            let first = runs.len();
            let mut at = 0;
            let mut candidates = above.clone();
            while let Some(start) = line[at..].iter().position(|value| *value > least).map(|start| at + start)
            {
                at = line[start..]
                    .iter()
                    .position(|value| *value <= least)
                    .map_or(width, |length| start + length);
                let index = runs.len();
                parents.push(index);
                // Those of the row above that end before this one begins end before all later ones.
                while candidates.clone().next().is_some_and(|run| runs[run].columns.end < start) {
                    candidates.next();
                }
                for run in candidates.clone().take_while(|run| runs[*run].columns.start <= at) {
                    let (left, right) = (root(&mut parents, run), root(&mut parents, index));
                    parents[left.max(right)] = left.min(right);
                }
                runs.push(Run { row, columns: start..at });
            }
            above = first..runs.len();
        }
        let mut shapes: Vec<Shape> = Vec::new();
        let mut shape_of = vec![0; runs.len()];
        for index in 0..runs.len() {
            let Run { row, columns } = &runs[index];
            let shape = Shape {
                columns: columns.clone(),
                rows: *row..row + 1,
                area: columns.len(),
                most: values[row * width..][columns.clone()].iter().copied().max().unwrap_or(0),
            };
            // A root is the first run of its shape.
            let root = root(&mut parents, index);
            if root == index {
                shape_of[index] = shapes.len();
                shapes.push(shape);
            } else {
                shape_of[index] = shape_of[root];
                let whole = &mut shapes[shape_of[root]];
                *whole = whole.joined(&shape);
            }
        }
        Self { runs, shape_of, shapes }
    }

    /// Which shapes are strokes: those with a pixel above `strong` that are no specks beside the greatest of them.
    pub(crate) fn strokes(&self, strong: u8) -> Vec<bool> {
        let inked = |shape: &&Shape| shape.most > strong;
        let Some(main) = self.shapes.iter().filter(inked).max_by_key(|shape| shape.area) else {
            return vec![false; self.shapes.len()];
        };
        let speck = |shape: &Shape| {
            shape.longer_side() * SPECKS_IN_SIDE < main.longer_side()
                || shape.area * SPECKS_IN_AREA < main.area
        };
        self.shapes.iter().map(|shape| inked(&shape) && !speck(shape)).collect()
    }

    /// Pixels of all shapes.
    pub(crate) fn area(&self) -> usize {
        self.shapes.iter().map(|shape| shape.area).sum()
    }

    /// Only what belongs to these shapes stays in `values`; returns how many pixels that are.
    pub(crate) fn keep(&self, kept: &[bool], values: &mut [u8], width: usize) -> usize {
        let mut only = vec![0; values.len()];
        for (run, shape) in self.runs.iter().zip(&self.shape_of) {
            if kept[*shape] {
                let pixels = run.row * width + run.columns.start..run.row * width + run.columns.end;
                only[pixels.clone()].copy_from_slice(&values[pixels]);
            }
        }
        values.copy_from_slice(&only);
        self.shapes.iter().zip(kept).filter(|(_, kept)| **kept).map(|(shape, _)| shape.area).sum()
    }
}

fn root(parents: &mut [usize], mut index: usize) -> usize {
    while parents[index] != index {
        parents[index] = parents[parents[index]];
        index = parents[index];
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FIVE, FOUR, SEVEN, Sheet};

    fn shapes(rows: &[&str]) -> Vec<(Range<usize>, Range<usize>, usize)> {
        let values: Vec<u8> = rows.concat().bytes().map(|byte| if byte == b'#' { 200 } else { 0 }).collect();
        let found = Shapes::of(&values, rows[0].len(), 100).shapes;
        found.into_iter().map(|shape| (shape.columns, shape.rows, shape.area)).collect()
    }

    #[test]
    fn what_touches_is_one_shape() {
        assert_eq!(shapes(&["....", "...."]), []);
        assert_eq!(shapes(&["##.#", "...#"]), [(0..2, 0..1, 2), (3..4, 0..2, 2)]);
        assert_eq!(shapes(&["#.#", ".#.", "#.#"]), [(0..3, 0..3, 5)], "at corners");
        assert_eq!(shapes(&["#.#.#", "#.#.#", "#####"]), [(0..5, 0..3, 11)], "joined below");
        assert_eq!(shapes(&["#####", "#.#.#", "#.#.#"]), [(0..5, 0..3, 11)], "joined above");
        assert_eq!(shapes(&["#...#", ".###.", "....."]), [(0..5, 0..2, 5)]);
        assert_eq!(shapes(&["#..", "..#"]), [(0..1, 0..1, 1), (2..3, 1..2, 1)]);
        assert_eq!(shapes(&["###", "#.#", "###"]), [(0..3, 0..3, 8)]);
        assert_eq!(shapes(&["..##", "##..", "..##"]), [(0..4, 0..3, 6)], "a staircase");
    }

    /// The values of a sheet after specks have gone, and how many strokes are left.
    fn kept(sheet: &Sheet) -> (Vec<u8>, usize) {
        let contrast = sheet.contrast();
        let mut values = contrast.values;
        let shapes = Shapes::of(&values, contrast.width, 30);
        let strokes = shapes.strokes(120);
        shapes.keep(&strokes, &mut values, contrast.width);
        (values, strokes.into_iter().filter(|stroke| *stroke).count())
    }

    #[test]
    fn specks_go_wherever_they_lie_and_second_strokes_stay() {
        for (digit, strokes) in [(FOUR, 2), (FIVE, 2), (SEVEN, 1)] {
            let clean = Sheet::of(digit);
            let expected = kept(&clean);
            assert_eq!(expected.1, strokes);
            for side in 1..=9 {
                // In each corner, beside the digit and between its strokes.
                for (left, top) in [(0, 0), (231, 211), (2, 205), (230, 1), (20, 110), (140, 60)] {
                    let speck = clean.clone().speck(side, left, top);
                    assert!(kept(&speck) == expected, "a speck of {side} at {left}, {top}");
                }
            }
            let salt = clean.clone().with(|x, y| x % 23 == 5 && y % 19 == 3 && x < 50);
            assert!(kept(&salt) == expected, "many specks");
            let hair = clean.with(|x, y| y == 215 && x < 60);
            assert!(kept(&hair) == expected, "a hair");
        }
    }

    #[test]
    fn a_smudge_without_a_dark_place_is_no_stroke() {
        let values: Vec<u8> = (0..100)
            .map(|at| {
                if at % 10 < 3 {
                    90
                } else if at % 10 == 6 {
                    200
                } else {
                    0
                }
            })
            .collect();
        let shapes = Shapes::of(&values, 10, 30);
        assert_eq!(shapes.strokes(120), [false, true]);
        assert_eq!(shapes.strokes(210), [false, false]);
    }
}
