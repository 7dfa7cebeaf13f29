//! The frame around a drawing, as screenshots and boxes of forms have one: it would be taken for the paper.
//!
//! Never takes off a margin: what is drawn in it meets the margin's inner edge at some places only, and what meets it
//! everywhere, a square 0, shows the margin's colour within.

use std::borrow::Cow;
use std::iter;

use crate::Picture;
use crate::contrast::{LEAST_CONTRAST, border, median};
use crate::mnist::bounds;

/// Frames within each other that are taken off: one with soft edges is three.
const MOST_FRAMES: usize = 4;
/// A side of a frame is at most an eighth of the picture. MNIST's own margins are more, on one side at least: 8 of 28.
const SIDES_IN_PICTURE: usize = 8;
/// At most a fifth of what lies along a frame has its colour: strokes that leave the drawing.
const EDGES_IN_STROKES: usize = 5;
/// At most a third of what lies in a frame has its colour: bold digits cover less of their sheets.
const PICTURES_IN_STROKES: usize = 3;

/// What is within the frames around `picture`; all of it if there is none.
pub(crate) fn without_frames(picture: &Picture) -> Cow<'_, Picture> {
    let pictures = iter::successors(within(picture), within).take(MOST_FRAMES);
    pictures.last().map_or(Cow::Borrowed(picture), Cow::Owned)
}

/// What is within one frame: thin, of one colour on all four sides, around a drawing on paper of another colour.
fn within(whole: &Picture) -> Option<Picture> {
    let (width, height) = (whole.width(), whole.height());
    let pixels = whole.brightness();
    let frame = median(border(&pixels, width).into_iter());
    let others: Vec<u8> = pixels.iter().map(|pixel| u8::from(!alike(*pixel, frame))).collect();
    let (columns, rows) = bounds(&others, width)?;
    let sides = [
        (columns.start, width),
        (width - columns.end, width),
        (rows.start, height),
        (height - rows.end, height),
    ];
    if sides.iter().any(|(thickness, whole)| *thickness == 0 || thickness * SIDES_IN_PICTURE > *whole) {
        return None;
    }
    let picture = whole.part(columns, rows);

    let pixels = picture.brightness();
    let edge = border(&pixels, picture.width());
    let like_frame = |pixels: &[u8]| pixels.iter().filter(|pixel| alike(**pixel, frame)).count();
    // Else the frame may be paper, and this a solid 1.
    let drawn = pixels.iter().any(|pixel| !alike(*pixel, edge[0]));
    let framed = like_frame(&edge) * EDGES_IN_STROKES <= edge.len()
        && like_frame(&pixels) * PICTURES_IN_STROKES <= pixels.len();
    drop(pixels);
    (drawn && framed).then_some(picture)
}

/// Whether two greys are one colour to the eye.
fn alike(left: u8, right: u8) -> bool {
    u32::from(left.abs_diff(right)) < LEAST_CONTRAST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, grey: impl Fn(usize, usize) -> u8) -> Picture {
        Picture::grey(width, height, (0..width * height).map(|at| grey(at % width, at / width)).collect())
            .unwrap()
    }

    /// `inside` within a frame of one grey, so many pixels thick.
    fn framed(inside: &Picture, thick: usize, grey: u8) -> Picture {
        let (width, height) = (inside.width(), inside.height());
        picture(width + 2 * thick, height + 2 * thick, |x, y| {
            let place =
                x.checked_sub(thick).zip(y.checked_sub(thick)).filter(|(x, y)| *x < width && *y < height);
            place.map_or(grey, |(x, y)| inside.planes()[0][y * width + x])
        })
    }

    /// A 7 in these greys, its bar at the row `top`, on a sheet of 60x80.
    fn seven(top: usize, ink: u8, paper: u8) -> Picture {
        picture(60, 80, |x, y| {
            let bar = (15..45).contains(&x) && (top..top + 6).contains(&y);
            let stem = (39..45).contains(&x) && (top..70).contains(&y);
            if bar || stem { ink } else { paper }
        })
    }

    #[test]
    fn a_frame_is_taken_off_to_the_pixel() {
        let dark = seven(10, 0, 255);
        let light = seven(10, 255, 0);
        let touching = seven(0, 0, 255);
        let cases = [
            ("of one pixel", framed(&dark, 1, 0), &dark),
            ("thick", framed(&dark, 9, 0), &dark),
            ("grey", framed(&dark, 5, 200), &dark),
            ("light", framed(&light, 3, 255), &light),
            ("with a soft edge", framed(&framed(&dark, 1, 128), 3, 0), &dark),
            ("with soft edges", framed(&framed(&framed(&dark, 1, 99), 2, 0), 1, 160), &dark),
            ("that a stroke runs into", framed(&touching, 3, 0), &touching),
            ("that is none", dark.clone(), &dark),
        ];
        for (name, picture, inside) in cases {
            assert_eq!(*without_frames(&picture), *inside, "a frame {name}");
        }
    }

    #[test]
    fn a_margin_stays_whatever_is_drawn_in_it() {
        // A 0 of straight lines, its corners cut off.
        let zero = |side: usize, margin: usize, stroke: usize, corner: usize| {
            picture(side, side, |x, y| {
                let depth = |at: usize| at.min(side - 1 - at).checked_sub(margin);
                let ink = depth(x).zip(depth(y)).is_some_and(|(x, y)| x + y >= corner && x.min(y) < stroke);
                if ink { 0 } else { 255 }
            })
        };
        // Strokes along three sides are a digit's.
        let open = framed(&seven(10, 0, 255), 3, 0).planes()[0][3 * 66..].to_vec();
        let cases = [
            ("a frame of three sides", Picture::grey(66, 83, open).unwrap()),
            ("a 0 of thin strokes", zero(44, 2, 8, 0)),
            ("a bold 0 in a wide margin", zero(60, 10, 14, 0)),
            ("a bold 0 without corners", zero(44, 2, 14, 6)),
            ("a solid 1", framed(&picture(8, 60, |_, _| 0), 1, 255)),
            ("a 7", framed(&seven(0, 0, 255), 3, 255)),
            ("nothing", picture(9, 9, |_, _| 255)),
        ];
        for (name, picture) in cases {
            assert_eq!(*without_frames(&picture), picture, "{name}");
        }
    }

    #[test]
    fn the_frames_taken_off_are_few() {
        let nested =
            (0..9).fold(seven(10, 0, 255), |inside, index| framed(&inside, 1, [40, 80, 120][index % 3]));
        assert_eq!(without_frames(&nested).width(), nested.width() - 2 * MOST_FRAMES);
    }
}
