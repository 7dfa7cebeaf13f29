//! The curves of all runs as an SVG picture: loss and accuracy, in training and on the validation set, over the steps.
//!
//! Draws what `result` has, with a colour and a dash for each run that no other of sixteen has.

use super::result::{Column, Comparison};
use lockstep_charts::{
    Axis, COLOURS, Chart, PLAIN, Point, dot, escaped, finite, label, line, means, picture,
};

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

/// One of the four.
struct Panel {
    title: &'static str,
    /// Of each run: steps and values.
    curves: Vec<Vec<Point>>,
}

/// An SVG document.
pub fn svg(comparison: &Comparison<'_>) -> String {
    let mut text = String::new();
    for (number, panel) in panels(comparison).iter().enumerate() {
        panel.draw((WIDTH * (number % 2) as f64, HEIGHT * (number / 2) as f64), &mut text);
    }
    for (run, column) in comparison.runs.iter().enumerate() {
        let y = 2.0 * HEIGHT + LEGEND_LINE * run as f64 + 4.0;
        line(&mut text, (MARGINS.0, y), (MARGINS.0 + 60.0, y), &style(run));
        let words = format!("{}  {}  ({})", column.name, column.run_dir, column.status);
        label(&mut text, (MARGINS.0 + 70.0, y + 4.0), "text-anchor=\"start\"", &escaped(&words));
    }
    picture(2.0 * WIDTH, 2.0 * HEIGHT + LEGEND_LINE * comparison.runs.len() as f64 + 10.0, &text)
}

fn panels(comparison: &Comparison<'_>) -> [Panel; 4] {
    let panel = |title, curve: fn(&Column<'_>) -> Vec<Point>| Panel {
        title,
        curves: comparison.runs.iter().map(curve).collect(),
    };
    [
        panel("Training loss", |run| {
            let points = run.step_curve.iter().map(|point| (point.step as f64, point.loss.into()));
            means(points.collect(), MOST_POINTS)
        }),
        panel("Validation loss", |run| {
            let epochs = run.epoch_curve.iter();
            finite(epochs.filter_map(|epoch| Some((epoch.step as f64, epoch.val_loss?.into()))).collect())
        }),
        panel("Training accuracy", |run| {
            let points = run.step_curve.iter().map(|point| (point.step as f64, point.accuracy.into()));
            means(points.collect(), MOST_POINTS)
        }),
        panel("Validation accuracy", |run| {
            let epochs = run.epoch_curve.iter();
            finite(epochs.filter_map(|epoch| Some((epoch.step as f64, epoch.val_accuracy?.into()))).collect())
        }),
    ]
}

fn style(run: usize) -> String {
    let (colour, dash) = (COLOURS[run % COLOURS.len()], DASHES[run % DASHES.len()]);
    format!("stroke=\"{colour}\" stroke-width=\"1.6\" stroke-dasharray=\"{dash}\" fill=\"none\"")
}

impl Panel {
    /// Draws it with its upper left corner at `corner`.
    fn draw(&self, (left, top): (f64, f64), text: &mut String) {
        let across = (left + MARGINS.0, left + WIDTH - MARGINS.2);
        let upwards = (top + HEIGHT - MARGINS.3, top + MARGINS.1);
        let points = || self.curves.iter().flatten();
        let values = || points().map(|point| point.1);
        let ends = values().reduce(f64::min).zip(values().reduce(f64::max));
        let (least, greatest) = ends.unwrap_or((0.0, 1.0));
        let last_step = points().map(|point| point.0).fold(1.0, f64::max);
        let chart = Chart {
            x: Axis::between_ticks(0.0, last_step, across),
            y: Axis::between_ticks(least, greatest, upwards),
            theme: &PLAIN,
        };
        chart.titles(text, self.title, "steps");
        if ends.is_none() {
            line(text, (across.0, upwards.0), (across.1, upwards.0), PLAIN.base);
            let middle = ((across.0 + across.1) / 2.0, (upwards.0 + upwards.1) / 2.0);
            return label(text, middle, PLAIN.x_label, "no records");
        }
        chart.grid(text, |value| chart.y.show(value));
        chart.x_labels(text, chart.x.ticks().map(|step| (step, chart.x.show(step))));
        for (run, curve) in self.curves.iter().enumerate() {
            chart.curve(text, curve, &style(run));
            if curve.len() <= MOST_DOTS {
                curve.iter().for_each(|point| dot(text, chart.place(*point), COLOURS[run % COLOURS.len()]));
            }
        }
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
        let panel = Panel { title: "Loss", curves: vec![vec![(1.0, 2.0), (10.0, 0.5)], vec![(5.0, 1.0)]] };
        let mut text = String::new();
        panel.draw((0.0, 0.0), &mut text);
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
            Panel { title: "Loss", curves: vec![curve] }.draw((0.0, 0.0), &mut text);
            assert!(!text.contains("NaN") && !text.contains("inf\""), "{text}");
        }
    }
}
