//! How much each pixel differs from the paper around it, whatever their colours are.

use crate::{DrawingError, Picture, paper};

/// Greys that differ by less than this are one colour to the eye, and there is no drawing.
pub(crate) const LEAST_CONTRAST: u32 = 16;
/// How many times the usual deviation of the paper's grain is still paper. Of noise with a normal distribution, whose
/// median deviation is two thirds of its sigma, one pixel in three hundred lies beyond; those are no strokes.
const GRAIN: u32 = 4;

/// How much a picture differs from its paper.
pub(crate) struct Contrast {
    pub(crate) width: usize,
    /// `[height, width]`; what the paper's grain explains is 0.
    pub(crate) values: Vec<u8>,
    /// What was taken off for the grain.
    pub(crate) grain: u8,
    /// Greys by which the paper's light varies from place to place; 0 for paper of one colour.
    pub(crate) light: u8,
    /// How often which contrast is there on the other side of the paper: lighter, if ink is darker.
    pub(crate) opposite: Histogram,
}

impl Contrast {
    /// Of ink darker than its paper, or lighter, whichever there is more of.
    pub(crate) fn of(picture: &Picture) -> Result<Self, DrawingError> {
        let width = picture.width();
        let mut light = 0;
        let differences = |plane: &Vec<u8>| {
            let (differences, range) = paper::differences(plane, width);
            light = range.max(light);
            differences
        };
        let signed = along_one_axis(picture.planes().iter().map(differences).collect());
        let sign = if signed.iter().map(|value| i64::from(*value)).sum::<i64>() < 0 { -1 } else { 1 };
        let difference = |value: i16| value.clamp(0, 255) as u8;
        let values: Vec<u8> = signed.iter().map(|value| difference(sign * value)).collect();
        let opposite = signed.iter().map(|value| difference(-sign * value)).collect();
        let most = values.iter().copied().max().unwrap_or(0);
        if u32::from(most) < LEAST_CONTRAST {
            return Err(DrawingError::Blank);
        }
        let deviation =
            median(border(&signed, width).iter().map(|value| value.unsigned_abs().min(255) as u8));
        // Strokes that leave the picture look like grain; half of what there is is a stroke in any case.
        let grain = (GRAIN * u32::from(deviation)).min(u32::from(most) / 2) as u8;
        Ok(Self {
            width,
            values: values.iter().map(|value| value.saturating_sub(grain)).collect(),
            grain,
            light,
            opposite,
        })
    }
}

/// The differences of one plane, or those of three along the direction in which they are greatest, scaled such that a
/// grey stays what it is.
fn along_one_axis(planes: Vec<Vec<i16>>) -> Vec<i16> {
    let [red, green, blue] = &*planes else { return planes.into_iter().next().unwrap_or_default() };
    let pixels = || red.iter().zip(green).zip(blue).map(|((red, green), blue)| [*red, *green, *blue]);
    let mut moments = [[0_i64; 3]; 3];
    for pixel in pixels() {
        for (row, left) in moments.iter_mut().zip(pixel) {
            row.iter_mut().zip(pixel).for_each(|(sum, right)| *sum += i64::from(left) * i64::from(right));
        }
    }
    let total = (0..3).map(|at| moments[at][at]).sum::<i64>().max(1) as f64;
    // Times the matrix of second moments, again and again; the first is brightness, with something of each colour.
    let mut axis = [0.299, 0.587, 0.114];
    for _ in 0..32 {
        let next = moments
            .map(|row| row.iter().zip(axis).map(|(sum, part)| *sum as f64 / total * part).sum::<f64>());
        let length = next.iter().map(|part| part.abs()).sum::<f64>();
        if length <= 0.0 {
            break;
        }
        axis = next.map(|part| part / length);
    }
    let along = |pixel: [i16; 3]| {
        pixel.iter().zip(axis).map(|(value, part)| f64::from(*value) * part).sum::<f64>().round() as i16
    };
    pixels().map(along).collect()
}

/// The outermost pixels: most of them are paper, whatever is drawn.
pub(crate) fn border<T: Copy>(pixels: &[T], width: usize) -> Vec<T> {
    let sides = pixels.chunks_exact(width).flat_map(|row| [row[0], row[width - 1]]);
    pixels[..width].iter().chain(&pixels[pixels.len() - width..]).copied().chain(sides).collect()
}

/// The value that half of the others are below.
pub(crate) fn median(values: impl Iterator<Item = u8>) -> u8 {
    let counts = values.collect::<Histogram>().0;
    let half = counts.iter().sum::<u64>() / 2;
    let mut below = 0;
    for (value, count) in (0..=u8::MAX).zip(counts) {
        below += count;
        if below > half {
            return value;
        }
    }
    u8::MAX
}

/// How often each value is there.
pub(crate) struct Histogram([u64; 256]);

impl FromIterator<u8> for Histogram {
    fn from_iter<I: IntoIterator<Item = u8>>(values: I) -> Self {
        let mut counts = [0; 256];
        values.into_iter().for_each(|value| counts[usize::from(value)] += 1);
        Self(counts)
    }
}

impl Histogram {
    /// How many values are greater.
    pub(crate) fn above(&self, value: u8) -> u64 {
        self.0.iter().skip(usize::from(value) + 1).sum()
    }

    /// The greatest value of the lower of two classes that differ most: N. Otsu, "A threshold selection method from
    /// gray-level histograms", 1979.
    pub(crate) fn threshold(&self) -> u8 {
        let sums = |range: &mut dyn Iterator<Item = usize>| {
            range.fold((0, 0), |(count, sum), value| {
                (count + self.0[value], sum + self.0[value] * value as u64)
            })
        };
        let (count, sum) = sums(&mut (0..256));
        let (mut below, mut sum_below) = (0, 0);
        let mut best = (0.0, 0);
        for value in 0..=u8::MAX {
            let here = self.0[usize::from(value)];
            (below, sum_below) = (below + here, sum_below + here * u64::from(value));
            if below == 0 || below == count {
                continue;
            }
            let above = (count - below) as f64;
            let apart = sum_below as f64 / below as f64 - (sum - sum_below) as f64 / above;
            let between = below as f64 * above * apart * apart;
            if between > best.0 {
                best = (between, value);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FIVE, Sheet};

    /// The greatest difference from the ink that there is, in greys, if a contrast of 255 is as much as there can be.
    fn error(contrast: &Contrast, sheet: &Sheet) -> f32 {
        let most = f32::from(*contrast.values.iter().max().unwrap());
        let errors = contrast.values.iter().zip(&sheet.cover);
        errors.map(|(value, cover)| (f32::from(*value) / most - cover).abs() * 255.0).fold(0.0, f32::max)
    }

    #[test]
    fn every_pair_of_colours_is_a_contrast() {
        let sheet = Sheet::of(FIVE);
        // Red on green, blue on brown, violet on grey: each pair has one brightness; black on yellow; yellow on black.
        let pairs = [
            ([220.0, 40.0, 40.0], [20.0, 140.0, 63.0]),
            ([40.0, 80.0, 230.0], [180.0, 53.0, 20.0]),
            ([150.0, 70.0, 220.0], [111.0, 111.0, 111.0]),
            ([0.0; 3], [250.0, 230.0, 60.0]),
            ([250.0, 230.0, 60.0], [0.0; 3]),
        ];
        for (ink, paper) in pairs {
            let contrast = Contrast::of(&sheet.coloured(ink, paper)).unwrap();
            assert!(error(&contrast, &sheet) < 3.0, "{ink:?} on {paper:?}: {}", error(&contrast, &sheet));
        }
    }

    #[test]
    fn greys_differ_by_as_much_as_they_do() {
        let sheet = Sheet::of(FIVE);
        for (ink, paper) in [(0.0, 255.0), (255.0, 0.0), (90.0, 140.0)] {
            let contrast = Contrast::of(&sheet.on(ink, |_, _| paper)).unwrap();
            let most = f32::abs(ink - paper) as u8;
            assert_eq!((contrast.values.iter().max(), contrast.grain, contrast.light), (Some(&most), 0, 0));
        }
        // Greys that are written as colours are no other contrast.
        let grey = Contrast::of(&sheet.on(90.0, |_, _| 140.0)).unwrap();
        let colour = Contrast::of(&sheet.coloured([90.0, 90.0, 91.0], [140.0; 3])).unwrap();
        let apart = grey.values.iter().zip(&colour.values).map(|(left, right)| left.abs_diff(*right)).max();
        assert!(apart <= Some(1), "{apart:?}");
    }

    #[test]
    fn a_threshold_lies_between_two_classes() {
        let values = |low: u8, high: u8| std::iter::repeat_n(low, 1000).chain(std::iter::repeat_n(high, 30));
        for (low, high) in [(0, 255), (10, 60), (0, 1)] {
            let threshold = values(low, high).collect::<Histogram>().threshold();
            assert!((low..high).contains(&threshold), "{low} and {high}: {threshold}");
        }
        assert_eq!(std::iter::repeat_n(7, 10).collect::<Histogram>().threshold(), 0);
    }
}
