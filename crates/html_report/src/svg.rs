//! The curves of the report: raw and smoothed training, validation, and what a reader who does not see them is told.
//!
//! Colours are the stylesheet's.

use lockstep_charts::{Axis, Chart, Point, Theme, decimate};
use std::fmt::Write;

use super::escape;

/// Of the drawing, with room for the labels of the axes.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 34.0;

const THEME: Theme = Theme {
    grid: "class=\"grid\"",
    base: "class=\"grid\"",
    y_label: "class=\"y\"",
    x_label: "class=\"x\"",
    last_x_label: "class=\"x end\"",
};

/// One line of a chart.
pub struct Line {
    /// For the stylesheet.
    pub class: &'static str,
    /// In the order of steps. What is not finite is a gap.
    pub points: Vec<Point>,
    /// What to say of each mark; without any there are none.
    pub marks: Vec<String>,
}

/// Values over the steps of a run.
pub struct Curves {
    /// For who does not see it.
    pub title: String,
    /// Likewise: where the lines begin and end.
    pub description: String,
    /// The values are shares: the axis is 0 to 100 %.
    pub shares: bool,
    /// Drawn in this order.
    pub lines: Vec<Line>,
}

impl Curves {
    /// The drawing; nothing if there is no finite value.
    pub fn draw(&self) -> Option<String> {
        let finite = || self.lines.iter().flat_map(|line| &line.points).filter(|(_, y)| y.is_finite());
        let greatest = finite().map(|(_, y)| *y).reduce(f64::max)?;
        let last = finite().map(|(x, _)| *x).reduce(f64::max)?.max(1.0);
        let top = if self.shares { 1.0 } else { (greatest * 1.04).max(1e-6) };
        let chart = Chart {
            x: Axis::from_zero(last, (LEFT, WIDTH - RIGHT)),
            y: Axis::from_zero(top, (HEIGHT - BOTTOM, TOP)),
            theme: &THEME,
        };
        let mut text = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{}</title><desc>{}</desc>\n",
            escape(&self.title),
            escape(&self.description)
        );
        chart.grid(&mut text, |value| {
            if self.shares { format!("{:.0} %", value * 100.0) } else { chart.y.show(value) }
        });
        let steps = chart.x.ticks().filter(|step| step.fract() == 0.0);
        chart.x_labels(&mut text, steps.map(|step| (step, format!("{step}"))));
        for Line { class, points, marks } in &self.lines {
            chart.curve(&mut text, &decimate(points), &format!("class=\"{class}\""));
            for (point, said) in points.iter().zip(marks).filter(|((_, value), _)| value.is_finite()) {
                let (x, y) = chart.place(*point);
                let _ = writeln!(
                    text,
                    "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"><title>{}</title></rect>",
                    x - 3.5,
                    y - 3.5,
                    escape(said)
                );
            }
        }
        text.push_str("</svg>\n");
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_finite_value_there_is_nothing_to_draw() {
        let nothing = vec![(1.0, f64::NAN)];
        let lines = vec![Line { class: "train", points: nothing, marks: Vec::new() }];
        let curves = Curves { title: String::new(), description: String::new(), shares: false, lines };
        assert_eq!(curves.draw(), None);
    }
}
