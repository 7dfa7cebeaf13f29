//! The curves of all runs as an SVG picture: loss and accuracy, in training and on the validation set, over the steps.
//!
//! Draws what `report` has, with a colour and a dash for each run that no other of sixteen has.

use std::fmt::Write;

use super::report::{Column, Report};
use crate::charts::{COLOURS, dot, escaped, label, line, tick};

/// Of one chart, with the room for its labels; there are two beside each other, and two below.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 320.0;

/// Room around the axes: left, top, right, bottom.
const MARGINS: (f64, f64, f64, f64) = (70.0, 40.0, 20.0, 50.0);

/// Their number and that of the colours have no common factor, so that both together repeat late.
const DASHES: [&str; 5] = ["none", "8 4", "2 3", "10 3 2 3", "16 5"];

/// A curve with more points is drawn by so many means of neighbours: training is noisy.
const MOST_POINTS: usize = 120;

/// A curve of few points shows them.
const MOST_DOTS: usize = 12;

const LEGEND_LINE: f64 = 18.0;

struct Chart {
    title: &'static str,
    /// Of each run: steps and values.
    curves: Vec<Vec<(f64, f64)>>,
}

/// An SVG document.
pub fn svg(report: &Report<'_>) -> String {
    let height = 2.0 * HEIGHT + LEGEND_LINE * report.runs.len() as f64 + 10.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {height}\" width=\"{0}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        2.0 * WIDTH
    );
    for (number, chart) in charts(report).iter().enumerate() {
        chart.draw((WIDTH * (number % 2) as f64, HEIGHT * (number / 2) as f64), &mut text);
    }
    for (run, column) in report.runs.iter().enumerate() {
        let y = 2.0 * HEIGHT + LEGEND_LINE * run as f64 + 4.0;
        line(&mut text, (MARGINS.0, y), (MARGINS.0 + 60.0, y), &style(run));
        let words = format!("{}  {}  ({})", column.name, column.run_dir, column.status);
        label(&mut text, (MARGINS.0 + 70.0, y + 4.0), "start", &escaped(&words));
    }
    text.push_str("</svg>\n");
    text
}

fn charts(report: &Report<'_>) -> [Chart; 4] {
    let chart = |title, curve: fn(&Column<'_>) -> Vec<(f64, f64)>| Chart {
        title,
        curves: report.runs.iter().map(curve).collect(),
    };
    [
        chart("Training loss", |run| {
            thinned(run.step_curve.iter().map(|point| (point.step as f64, point.loss.into())).collect())
        }),
        chart("Validation loss", |run| {
            let epochs = run.epoch_curve.iter();
            known(epochs.filter_map(|epoch| Some((epoch.step as f64, epoch.val_loss?.into()))).collect())
        }),
        chart("Training accuracy", |run| {
            thinned(run.step_curve.iter().map(|point| (point.step as f64, point.accuracy.into())).collect())
        }),
        chart("Validation accuracy", |run| {
            let epochs = run.epoch_curve.iter();
            known(epochs.filter_map(|epoch| Some((epoch.step as f64, epoch.val_accuracy?.into()))).collect())
        }),
    ]
}

fn known(mut curve: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    curve.retain(|(_, value)| value.is_finite());
    curve
}

/// Means of neighbours, each at the last step of them.
fn thinned(curve: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let curve = known(curve);
    let count = curve.len().min(MOST_POINTS);
    // Of lengths as equal as can be: a last part of a few points would stick out.
    let parts = (0..count).map(|part| &curve[part * curve.len() / count..(part + 1) * curve.len() / count]);
    let mean = |part: &[(f64, f64)]| {
        let sum: f64 = part.iter().map(|(_, value)| value).sum();
        Some((part.last()?.0, sum / part.len() as f64))
    };
    parts.filter_map(mean).collect()
}

fn style(run: usize) -> String {
    let (colour, dash) = (COLOURS[run % COLOURS.len()], DASHES[run % DASHES.len()]);
    format!("stroke=\"{colour}\" stroke-width=\"1.6\" stroke-dasharray=\"{dash}\" fill=\"none\"")
}

impl Chart {
    /// Draws it with its upper left corner at `corner`.
    fn draw(&self, (left, top): (f64, f64), text: &mut String) {
        let (from_x, to_x) = (left + MARGINS.0, left + WIDTH - MARGINS.2);
        let (from_y, to_y) = (top + HEIGHT - MARGINS.3, top + MARGINS.1);
        let middle = (from_x + to_x) / 2.0;
        let title = format!("<tspan font-weight=\"bold\">{}</tspan>", self.title);
        label(text, (middle, to_y - 18.0), "middle", &title);
        label(text, (middle, from_y + 38.0), "middle", "steps");
        line(text, (from_x, from_y), (to_x, from_y), "stroke=\"black\"");
        let points = || self.curves.iter().flatten();
        let values = || points().map(|point| point.1);
        let (Some(least), Some(greatest)) = (values().reduce(f64::min), values().reduce(f64::max)) else {
            label(text, (middle, (from_y + to_y) / 2.0), "middle", "no records");
            return;
        };
        let steps = Axis::of(0.0, points().map(|point| point.0).fold(1.0, f64::max), from_x, to_x);
        let values = Axis::of(least, greatest, from_y, to_y);
        for value in values.ticks() {
            let y = values.place(value);
            line(text, (from_x, y), (to_x, y), "stroke=\"#dddddd\"");
            label(text, (from_x - 6.0, y + 4.0), "end", &values.show(value));
        }
        for step in steps.ticks() {
            label(text, (steps.place(step), from_y + 18.0), "middle", &steps.show(step));
        }
        for (run, curve) in self.curves.iter().enumerate() {
            let places = curve.iter().map(|(step, value)| (steps.place(*step), values.place(*value)));
            let mut points = String::new();
            places.clone().for_each(|(x, y)| points.push_str(&format!("{x:.1},{y:.1} ")));
            let _ = writeln!(text, "<polyline points=\"{}\" {}/>", points.trim_end(), style(run));
            if curve.len() <= MOST_DOTS {
                places.for_each(|place| dot(text, place, COLOURS[run % COLOURS.len()]));
            }
        }
    }
}

/// Where values are: its ends are ticks.
struct Axis {
    tick: f64,
    /// The first and the last tick, counted from 0.
    ends: (f64, f64),
    from: f64,
    to: f64,
}

impl Axis {
    fn of(least: f64, greatest: f64, from: f64, to: f64) -> Self {
        let range = greatest - least;
        // Values that are all the same have an axis, too.
        let tick = tick(if range > 0.0 { range } else { greatest.abs().max(1.0) });
        let first = (least / tick).floor();
        Self { tick, ends: (first, (greatest / tick).ceil().max(first + 1.0)), from, to }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = (self.ends.1 - self.ends.0) as u32;
        (0..=count).map(|number| (self.ends.0 + f64::from(number)) * self.tick)
    }

    fn place(&self, value: f64) -> f64 {
        let (first, last) = self.ends;
        self.from + (value / self.tick - first) / (last - first) * (self.to - self.from)
    }

    fn show(&self, value: f64) -> String {
        let decimals = (-self.tick.log10().floor()).max(0.0) as usize;
        format!("{value:.decimals$}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_of_sixteen_runs_look_alike() {
        assert_eq!((0..16).map(style).collect::<BTreeSet<_>>().len(), 16);
    }

    #[test]
    fn a_greater_value_is_higher_and_a_later_step_further_right() {
        let chart = Chart { title: "Loss", curves: vec![vec![(1.0, 2.0), (10.0, 0.5)], vec![(5.0, 1.0)]] };
        let mut text = String::new();
        chart.draw((0.0, 0.0), &mut text);
        let dots: Vec<(f64, f64)> = text
            .lines()
            .filter(|line| line.starts_with("<circle"))
            .map(|line| {
                let number = |name: &str| {
                    let (_, after) = line.split_once(&format!("{name}=\"")).unwrap();
                    after.split_once('"').unwrap().0.parse().unwrap()
                };
                (number("cx"), number("cy"))
            })
            .collect();
        let [first, last, other] = dots[..] else { panic!("{text}") };
        assert!(first.0 < other.0 && other.0 < last.0, "{dots:?}");
        assert!(first.1 < other.1 && other.1 < last.1, "{dots:?}");
        // In proportion: from 2 to 1 is twice as far as from 1 to 0.5.
        assert!(((other.1 - first.1) / (last.1 - other.1) - 2.0).abs() < 0.01, "{dots:?}");
        assert!(!text.contains("NaN") && !text.contains("inf\""), "{text}");
    }

    #[test]
    fn whatever_the_values_there_is_a_picture() {
        for curve in [vec![], vec![(1.0, 0.0)], vec![(1.0, 3.0), (2.0, 3.0)], vec![(1.0, -1e30), (2.0, 1e30)]]
        {
            let mut text = String::new();
            Chart { title: "Loss", curves: vec![curve] }.draw((0.0, 0.0), &mut text);
            assert!(!text.contains("NaN") && !text.contains("inf\""), "{text}");
        }
        assert_eq!(known(vec![(1.0, f64::NAN), (2.0, 1.0)]), [(2.0, 1.0)]);
    }

    #[test]
    fn many_points_become_means() {
        let curve: Vec<_> = (1..=1000).map(|step| (f64::from(step), f64::from(step % 2))).collect();
        let thin = thinned(curve);
        assert!(thin.len() == MOST_POINTS && thin.last().unwrap().0 == 1000.0, "{thin:?}");
        assert!(thin.iter().all(|(_, value)| (0.4..=0.6).contains(value)), "{thin:?}");
    }
}
