//! The lines of ruled and squared paper: thin, and from one side of the picture to another.

use std::ops::Range;

/// A line is at most so thick, as a part of the picture's shorter side.
const LINES_IN_SIDE: usize = 32;
/// Rows by which a line's thickness varies, for its soft edges fall on the pixels in different ways.
const SOFT: usize = 2;
/// A line is seen by itself in at least so many of a hundred columns; in the others it crosses strokes or is broken.
const SEEN_PERCENT: usize = 25;
/// And is broken in at most so many.
const BROKEN_PERCENT: usize = 15;
/// Columns after which the way that a line goes is known; shorter ones are none.
const KNOWN: usize = 16;

/// Takes the lines out of `values`, pixels of which count above `least`. Where a line crosses a stroke, the stroke stays
/// whole. Returns how many there were.
pub(crate) fn without_lines(values: &mut Vec<u8>, width: usize, least: u8) -> usize {
    let mut count = 0;
    let mut sides = (width, values.len() / width);
    let most = sides.0.min(sides.1) / LINES_IN_SIDE;
    // Each of the four sides comes to lie on the left.
    for _ in 0..4 {
        count += without_rows(values, sides.0, least, most);
        *values = turned(values, sides.0);
        sides = (sides.1, sides.0);
    }
    count
}

/// By a quarter: the first column becomes the first row, read upwards.
fn turned(values: &[u8], width: usize) -> Vec<u8> {
    (0..width).flat_map(|column| values[column..].iter().step_by(width).rev().copied()).collect()
}

/// Lines that begin on the left.
fn without_rows(values: &mut [u8], width: usize, least: u8, most: usize) -> usize {
    let height = values.len() / width;
    let (mut count, mut row) = (0, 0);
    while row < height {
        let Some(run) = run_at(values, width, least, 0, row) else {
            row += 1;
            continue;
        };
        row = run.end;
        if run.len() > most {
            continue;
        }
        let Some(line) = followed(values, width, least, &run) else { continue };
        count += 1;
        for (column, rows) in line {
            // Its soft edges, too.
            for row in rows.start.saturating_sub(1)..(rows.end + 1).min(height) {
                values[row * width + column] = 0;
            }
        }
    }
    count
}

/// The columns in which the line that begins with `first` is seen by itself, and its rows there; nothing if it does not
/// go on until it leaves the picture.
fn followed(
    values: &[u8],
    width: usize,
    least: u8,
    first: &Range<usize>,
) -> Option<Vec<(usize, Range<usize>)>> {
    let middle = |rows: &Range<usize>| (rows.start + rows.end) as f32 / 2.0;
    let height = (values.len() / width) as f32;
    let mut line = vec![(0, first.clone())];
    let (mut broken, mut columns) = (0, 1);
    for column in 1..width {
        let (last, rows) = &line[line.len() - 1];
        // Across a stroke it goes on as it came.
        let slope = if *last < KNOWN { 0.0 } else { (middle(rows) - middle(first)) / *last as f32 };
        let expected = middle(rows) + slope * (column - last) as f32;
        if expected < 0.0 || expected >= height {
            break;
        }
        columns += 1;
        let near = [0.0, -1.0, 1.0].map(|away| (expected + away).max(0.0) as usize);
        match near.into_iter().find_map(|row| run_at(values, width, least, column, row)) {
            Some(run) if run.len() <= first.len() + SOFT => line.push((column, run)),
            Some(_) => {}
            None => broken += 1,
        }
    }
    let whole = columns >= KNOWN
        && broken * 100 <= columns * BROKEN_PERCENT
        && line.len() * 100 >= columns * SEEN_PERCENT;
    whole.then_some(line)
}

/// The rows around `row` that have ink in `column`, one after the other.
fn run_at(values: &[u8], width: usize, least: u8, column: usize, row: usize) -> Option<Range<usize>> {
    let height = values.len() / width;
    let inked = |row: &usize| values[row * width + column] > least;
    (row < height && inked(&row)).then(|| {
        let above = (0..row).rev().take_while(inked).count();
        let below = (row..height).take_while(inked).count();
        row - above..row + below
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FIVE, FOUR, SEVEN, Sheet};

    const LEAST: u8 = 30;

    fn removed(sheet: &Sheet) -> (Vec<u8>, usize) {
        let contrast = sheet.contrast();
        let mut values = contrast.values;
        let count = without_lines(&mut values, contrast.width, LEAST);
        (values, count)
    }

    /// A line of so many rows along `row + slope * column`.
    fn line(row: f32, slope: f32, thick: f32) -> impl Fn(usize, usize) -> bool {
        move |x, y| (y as f32 - row - slope * x as f32).abs() <= (thick - 1.0) / 2.0
    }

    #[test]
    fn lines_go_and_the_strokes_they_cross_stay_whole() {
        type Line = Box<dyn Fn(usize, usize) -> bool>;
        let every = |spacing: usize, thick: usize| move |at: usize| at % spacing < thick;
        let papers: [(&str, Line); 6] = [
            ("ruled", Box::new(move |_, y| every(37, 1)(y))),
            ("ruled boldly", Box::new(move |_, y| every(61, 4)(y))),
            ("squared", Box::new(move |x, y| every(29, 2)(x) || every(31, 2)(y))),
            ("askew", Box::new(line(40.0, 0.04, 3.0))),
            ("askew, out at the top", Box::new(line(5.0, -0.05, 2.0))),
            ("askew, in at the top", Box::new(line(-4.0, 0.05, 2.0))),
        ];
        for digit in [FOUR, FIVE, SEVEN] {
            let clean = Sheet::of(digit);
            for (name, paper) in &papers {
                let (values, count) = removed(&clean.clone().with(paper));
                assert!(count > 0, "{name}");
                for (at, (value, cover)) in values.iter().zip(&clean.cover).enumerate() {
                    let (x, y) = (at % clean.width, at / clean.width);
                    // Near a stroke some of a line may stay, and of soft edges go.
                    let near = |cover: f32| {
                        (-6..=6).any(|away: isize| {
                            let vertical =
                                clean.cover.get((at as isize + away * clean.width as isize) as usize);
                            let level = clean.cover.get((at as isize + away) as usize);
                            vertical == Some(&cover) || level == Some(&cover)
                        })
                    };
                    if *cover == 1.0 {
                        assert!(*value > LEAST || near(0.0), "{name}: a hole at {x}, {y}");
                    } else if *cover == 0.0 && !near(1.0) {
                        assert!(*value <= LEAST, "{name}: a rest at {x}, {y}");
                    }
                }
            }
        }
    }

    #[test]
    fn strokes_are_no_lines() {
        let long = |thick: usize| {
            move |x: usize, y: usize| (100..100 + thick).contains(&y) && (20..230).contains(&x)
        };
        let sheets = [
            ("a 4", Sheet::of(FOUR)),
            ("a 5", Sheet::of(FIVE)),
            ("a 7", Sheet::of(SEVEN)),
            ("a long stroke", Sheet::of(SEVEN).with(long(3))),
            ("a bar from side to side", Sheet::of(SEVEN).with(|_, y| (100..112).contains(&y))),
        ];
        for (name, sheet) in sheets {
            assert_eq!(removed(&sheet), (sheet.contrast().values, 0), "{name}");
        }
    }
}
