//! The curves of the report as SVG: axes, lines, marks, and what a reader who does not see them is told.
//!
//! Draws numbers that it is given and knows nothing of runs. Colours are the stylesheet's.

use std::fmt::Write;

use super::escape;
use crate::charts::tick;

/// More than a chart has pixels for: a line of a long run is thinned out to so many points.
pub const MAX_POINTS: usize = 1000;

/// Of the drawing, with room for the labels of the axes.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 34.0;

/// A step and a value.
pub type Place = (f64, f64);

/// One line of a chart.
pub struct Line {
    /// For the stylesheet.
    pub class: &'static str,
    /// In the order of steps. What is not finite is a gap.
    pub points: Vec<Place>,
    /// What to say of each mark; without any there are none.
    pub marks: Vec<String>,
}

/// Values over the steps of a run.
pub struct Chart {
    /// For who does not see it.
    pub title: String,
    /// Likewise: where the lines begin and end.
    pub description: String,
    /// The values are shares: the axis is 0 to 100 %.
    pub shares: bool,
    /// Drawn in this order.
    pub lines: Vec<Line>,
}

impl Chart {
    /// The drawing; nothing if there is no finite value.
    pub fn draw(&self) -> Option<String> {
        let finite = || self.lines.iter().flat_map(|line| &line.points).filter(|(_, y)| y.is_finite());
        let greatest = finite().map(|(_, y)| *y).reduce(f64::max)?;
        let last = finite().map(|(x, _)| *x).reduce(f64::max)?.max(1.0);
        let top = if self.shares { 1.0 } else { (greatest * 1.04).max(1e-6) };
        let x = |step: f64| LEFT + step / last * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        let mut text = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{}</title><desc>{}</desc>\n",
            escape(&self.title),
            escape(&self.description)
        );
        for value in ticks(top) {
            let label = if self.shares { format!("{:.0} %", value * 100.0) } else { number(value) };
            let _ = writeln!(
                text,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/>\
                 <text class=\"y\" x=\"{2:.1}\" y=\"{1:.1}\" dy=\".35em\">{label}</text>",
                WIDTH - RIGHT,
                y(value),
                LEFT - 8.0
            );
        }
        for step in ticks(last).into_iter().filter(|step| step.fract() == 0.0) {
            // The label of the end would be cut off.
            let class = if step > 0.97 * last { "x end" } else { "x" };
            let at = if step > 0.97 * last { WIDTH - RIGHT } else { x(step) };
            let _ = writeln!(
                text,
                "<text class=\"{class}\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
                HEIGHT - 12.0,
                number(step)
            );
        }
        for Line { class, points, marks } in &self.lines {
            let _ = writeln!(text, "<path class=\"{class}\" d=\"{}\"/>", path(&decimate(points), x, y));
            for ((step, value), said) in points.iter().zip(marks).filter(|((_, value), _)| value.is_finite())
            {
                let _ = writeln!(
                    text,
                    "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"><title>{}</title></rect>",
                    x(*step) - 3.5,
                    y(*value) - 3.5,
                    escape(said)
                );
            }
        }
        text.push_str("</svg>\n");
        Some(text)
    }
}

fn path(points: &[Place], x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let mut text = String::new();
    let mut command = 'M';
    for (step, value) in points {
        if value.is_finite() {
            let _ = write!(text, "{command}{:.1} {:.1}", x(*step), y(*value));
            command = 'L';
        } else {
            command = 'M';
        }
    }
    text
}

/// At most [`MAX_POINTS`] of the points: of each stretch the least and the greatest, and the first and last of all.
pub fn decimate(points: &[Place]) -> Vec<Place> {
    let ([first, inner @ .., last], true) = (points, points.len() > MAX_POINTS) else {
        return points.to_vec();
    };
    let stretch = inner.len().div_ceil((MAX_POINTS - 2) / 2);
    let mut kept = vec![*first];
    for stretch in inner.chunks(stretch) {
        let values = || stretch.iter().enumerate().filter(|(_, (_, y))| y.is_finite());
        let least = values().min_by(|(_, (_, a)), (_, (_, b))| a.total_cmp(b));
        let greatest = values().max_by(|(_, (_, a)), (_, (_, b))| a.total_cmp(b));
        match (least, greatest) {
            (Some((a, _)), Some((b, _))) if a == b => kept.push(stretch[a]),
            (Some((a, _)), Some((b, _))) => kept.extend([stretch[a.min(b)], stretch[a.max(b)]]),
            // A gap stays one.
            _ => kept.push(stretch[0]),
        }
    }
    kept.push(*last);
    kept
}

/// The mean of each value and those around it, on both sides as far as there are any: so that the line does not lag
/// behind what it smooths.
pub fn smooth(points: &[Place]) -> Vec<Place> {
    let reach = points.len() / 40;
    let around = |at: usize| {
        let values = &points[at.saturating_sub(reach)..points.len().min(at + reach + 1)];
        let values = || values.iter().map(|(_, y)| *y).filter(|value| value.is_finite());
        // Of none it is not finite either.
        values().sum::<f64>() / values().count() as f64
    };
    points.iter().enumerate().map(|(at, (x, _))| (*x, around(at))).collect()
}

/// Round numbers from 0 to `most`, at most 6.
fn ticks(most: f64) -> Vec<f64> {
    let step = tick(most);
    (0..=5).map(|index| f64::from(index) * step).filter(|value| *value <= most * 1.0001).collect()
}

/// A number of an axis.
fn number(value: f64) -> String {
    if value >= 1e7 {
        return format!("{value:.0e}");
    }
    // Not 0.30000000000000004.
    ((value * 1e9).round() / 1e9).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_line_keeps_its_first_last_least_and_greatest_point() {
        for count in [1001, 1999, 2048, 12_345] {
            let mut points: Vec<Place> = (0..count).map(|at| (at as f64, (at as f64 * 0.7).sin())).collect();
            let (least, greatest) = ((517.0, -3.0), (518.0, 4.0));
            (points[517], points[518]) = (least, greatest);
            points[100].1 = f64::NAN;
            let kept = decimate(&points);
            assert!(kept.len() <= MAX_POINTS, "{count}: {}", kept.len());
            assert!(kept.len() > MAX_POINTS / 3, "{count}: {}", kept.len());
            assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[count - 1]));
            assert!(kept.contains(&least) && kept.contains(&greatest), "{count}");
            assert!(kept.is_sorted_by(|(a, _), (b, _)| a < b), "{count}");
        }
        let few: Vec<Place> = (0..1000).map(|at| (at as f64, 1.0)).collect();
        assert_eq!(decimate(&few), few, "a short line stays as it is");
    }

    #[test]
    fn smoothing_does_not_lag_and_evens_out_what_goes_up_and_down() {
        let straight: Vec<Place> = (0..200).map(|at| (at as f64, 2.0 * at as f64)).collect();
        assert_eq!(smooth(&straight)[5..195], straight[5..195]);
        let noisy: Vec<Place> = (0..200).map(|at| (at as f64, f64::from(at % 2))).collect();
        assert!(smooth(&noisy).iter().all(|(_, y)| (y - 0.5).abs() < 0.1));
        assert_eq!(smooth(&noisy[..20]), noisy[..20], "a few points stay as they are");
    }

    #[test]
    fn axes_have_round_numbers_and_what_is_not_finite_is_a_gap() {
        assert_eq!(ticks(28.0), [0.0, 10.0, 20.0]);
        assert_eq!(ticks(1.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(number(0.6000000000000001), "0.6");
        let points = [(1.0, 1.0), (2.0, f64::NAN), (3.0, 2.0), (4.0, 1.0)];
        assert_eq!(path(&points, |x| x, |y| y), "M1.0 1.0M3.0 2.0L4.0 1.0");
        let nothing = vec![(1.0, f64::NAN)];
        let lines = vec![Line { class: "train", points: nothing, marks: Vec::new() }];
        let chart = Chart { title: String::new(), description: String::new(), shares: false, lines };
        assert_eq!(chart.draw(), None);
    }
}
