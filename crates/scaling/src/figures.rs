//! The arithmetic of the figures: medians, spreads, a straight line through points.

use serde::Serialize;

/// The median; of an even number of values the mean of the two in the middle, of none nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let above = *values.get(values.len() / 2)?;
    let below = values[(values.len() - 1) / 2];
    Some((below + above) / 2.0)
}

/// A figure that was measured several times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of some values; nothing of none.
    pub fn of(values: impl IntoIterator<Item = f64> + Clone) -> Option<Self> {
        Some(Self {
            median: median(values.clone())?,
            min: values.clone().into_iter().fold(f64::INFINITY, f64::min),
            max: values.into_iter().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

/// `at_zero + slope * x`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its value at 0.
    pub at_zero: f64,
    /// What it gains for each 1.
    pub slope: f64,
}

impl Line {
    /// The line with the least squares of its distances from the points, in y; nothing if they have fewer than two
    /// different x.
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let square: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        // No points give NaN, which is not above 0 either.
        if square > 0.0 {
            let product: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
            let slope = product / square;
            Some(Self { at_zero: mean_y - slope * mean_x, slope })
        } else {
            None
        }
    }

    /// Its value.
    pub fn at(&self, x: f64) -> f64 {
        self.at_zero + self.slope * x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([7.0]), Some(7.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 9.0, 2.0]), Some(3.0));
        let spread = Spread { median: 2.0, min: 1.0, max: 9.0 };
        assert_eq!(Spread::of([9.0, 1.0, 2.0]), Some(spread));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn the_line_goes_through_points_that_are_on_one() {
        let line = Line::through(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0), (8.0, 19.0)]).unwrap();
        assert_eq!(line, Line { at_zero: 3.0, slope: 2.0 });
        assert_eq!(line.at(10.0), 23.0);
    }

    /// The textbook's example of Wikipedia's "Simple linear regression", by heights and masses: 61.272, -39.062.
    #[test]
    fn the_line_has_the_least_squares() {
        let heights =
            [1.47, 1.50, 1.52, 1.55, 1.57, 1.60, 1.63, 1.65, 1.68, 1.70, 1.73, 1.75, 1.78, 1.80, 1.83];
        let masses = [
            52.21, 53.12, 54.48, 55.84, 57.20, 58.57, 59.93, 61.29, 63.11, 64.47, 66.28, 68.10, 69.92, 72.19,
            74.46,
        ];
        let points: Vec<(f64, f64)> = heights.into_iter().zip(masses).collect();
        let line = Line::through(&points).unwrap();
        assert!((line.slope - 61.272).abs() < 1e-3 && (line.at_zero + 39.062).abs() < 1e-3, "{line:?}");
    }

    #[test]
    fn one_place_has_no_line() {
        assert_eq!(Line::through(&[]), None);
        assert_eq!(Line::through(&[(2.0, 1.0)]), None);
        assert_eq!(Line::through(&[(2.0, 1.0), (2.0, 3.0)]), None);
    }
}
