//! The verdict as a picture: examples/s and the coordinator's cost over the number of workers, as SVG.

use lockstep_charts::{Axis, COLOURS, Chart, PLAIN, Point, dot, label, line, picture};
use std::fmt::Write;

use super::verdict::{Row, Verdict};

/// Of one chart, with the room for its labels; both are beside each other.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 360.0;

/// Room around the axes: left, top, right, bottom.
const MARGINS: (f64, f64, f64, f64) = (70.0, 40.0, 20.0, 50.0);

/// The distance of what belongs to the same number of workers.
const BESIDE: f64 = 7.0;

/// Room for the longest name in a legend.
const LEGEND_WIDTH: f64 = 165.0;

/// An SVG document.
pub fn svg(verdict: &Verdict) -> String {
    let mut text = String::new();
    speed(verdict).draw(0.0, &mut text);
    cost(verdict).draw(WIDTH, &mut text);
    picture(2.0 * WIDTH, HEIGHT, &text)
}

/// A measured value over a number of workers.
struct Mark {
    workers: f64,
    value: f64,
    min: f64,
    max: f64,
}

/// What shares a colour.
struct Series {
    name: String,
    marks: Vec<Mark>,
    /// A straight line to compare with, from one number of workers and its value to another.
    line: Option<[Point; 2]>,
}

/// One of the two.
struct Panel {
    title: String,
    value_label: &'static str,
    series: Vec<Series>,
}

/// Examples/s, and what perfect scaling would give.
fn speed(verdict: &Verdict) -> Panel {
    let series = |named: u32, rows: Vec<&Row>| {
        let ideal = rows.first().zip(rows.last()).map(|(first, last)| {
            let each = first.examples_per_second.median / f64::from(first.workers);
            [first, last].map(|row| (f64::from(row.workers), each * f64::from(row.workers)))
        });
        let mark = |row: &&Row| {
            let speed = row.examples_per_second;
            Mark { workers: row.workers.into(), value: speed.median, min: speed.min, max: speed.max }
        };
        Series { name: series_name(verdict, named), marks: rows.iter().map(mark).collect(), line: ideal }
    };
    let kind = if verdict.weak { "weak" } else { "strong" };
    Panel {
        title: format!("Speed, {kind} scaling (dashed: ideal)"),
        value_label: "examples/s",
        series: by_batch_size(verdict, series),
    }
}

/// Processor time of a step of the coordinator, and the line through it.
fn cost(verdict: &Verdict) -> Panel {
    let series = |named: u32, rows: Vec<&Row>| {
        let fitted = verdict.coordinator_costs.iter().find(|cost| cost.named_batch_size == named);
        let line = fitted.and_then(|cost| cost.seconds).zip(rows.first().zip(rows.last()));
        let mark = |row: &&Row| {
            let value = row.cpu_seconds_per_step.coordinator * 1e6;
            Mark { workers: row.workers.into(), value, min: value, max: value }
        };
        Series {
            name: series_name(verdict, named),
            marks: rows.iter().map(mark).collect(),
            line: line.map(|(line, (first, last))| {
                [first, last].map(|row| (f64::from(row.workers), line.at(row.workers.into()) * 1e6))
            }),
        }
    };
    Panel {
        title: "CPU time of the coordinator (dashed: least squares)".to_string(),
        value_label: "microseconds a step",
        series: by_batch_size(verdict, series),
    }
}

fn series_name(verdict: &Verdict, named_batch_size: u32) -> String {
    format!("batch size {named_batch_size}{}", if verdict.weak { " a worker" } else { "" })
}

fn by_batch_size<'a>(verdict: &'a Verdict, series: impl Fn(u32, Vec<&'a Row>) -> Series) -> Vec<Series> {
    let of = |named: u32| verdict.rows.iter().filter(move |row| row.named_batch_size == named).collect();
    verdict
        .coordinator_costs
        .iter()
        .map(|cost| series(cost.named_batch_size, of(cost.named_batch_size)))
        .collect()
}

impl Panel {
    /// Draws it, its left edge at `left`.
    fn draw(&self, left: f64, text: &mut String) {
        let marks = || self.series.iter().flat_map(|series| &series.marks);
        let most_workers = marks().map(|mark| mark.workers).fold(1.0, f64::max);
        // There is something to draw even if nothing is above 0.
        let most = marks().map(|mark| mark.max).fold(1.0, f64::max);
        let (across, upwards) =
            ((left + MARGINS.0, left + WIDTH - MARGINS.2), (HEIGHT - MARGINS.3, MARGINS.1));
        let chart = Chart {
            x: Axis::from_zero(1.05 * most_workers, across),
            y: Axis::between_ticks(0.0, 1.15 * most, upwards),
            theme: &PLAIN,
        };
        chart.titles(text, &self.title, "workers");
        let (x, y) = (left + 16.0, (upwards.0 + upwards.1) / 2.0);
        let _ = writeln!(text, "<g transform=\"translate({x:.1} {y:.1}) rotate(-90)\">");
        label(text, (0.0, 0.0), PLAIN.x_label, self.value_label);
        text.push_str("</g>\n");
        chart.grid(text, |value| chart.y.show(value));
        let mut workers: Vec<f64> = marks().map(|mark| mark.workers).collect();
        workers.sort_by(f64::total_cmp);
        chart.x_labels(text, workers.into_iter().map(|workers| (workers, workers.to_string())));
        // What is ideal may go beyond the greatest measured, and is cut off: the rest would be flat below it.
        let clip = format!("inside-{left}");
        let _ = writeln!(
            text,
            "<clipPath id=\"{clip}\"><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/></clipPath>\n\
             <g clip-path=\"url(#{clip})\">",
            across.0,
            upwards.1,
            across.1 - across.0,
            upwards.0 - upwards.1
        );
        for (number, (series, colour)) in self.series.iter().zip(COLOURS.iter().cycle()).enumerate() {
            // Spreads of the same number of workers stand beside each other.
            let aside = BESIDE * (number as f64 - (self.series.len() - 1) as f64 / 2.0);
            let place = |point: Point| {
                let (x, y) = chart.place(point);
                (x + aside, y)
            };
            series.draw(text, place, colour);
        }
        text.push_str("</g>\n");
        self.draw_legend(text, (across.0, upwards.1));
    }

    /// The names of the series, in the upper left corner.
    fn draw_legend(&self, text: &mut String, (left, top): Point) {
        let height = 16.0 * self.series.len() as f64 + 4.0;
        let _ = writeln!(
            text,
            "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{LEGEND_WIDTH}\" height=\"{height:.1}\" fill=\"white\"/>",
            left + 4.0
        );
        for (number, (series, colour)) in self.series.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let y = top + 14.0 + 16.0 * number as f64;
            dot(text, (left + 14.0, y - 4.0), colour);
            label(text, (left + 24.0, y), "text-anchor=\"start\"", &series.name);
        }
    }
}

impl Series {
    /// The line to compare with, the line through the marks, and the marks with their spreads.
    fn draw(&self, text: &mut String, place: impl Fn(Point) -> Point, colour: &str) {
        if let Some(ends) = self.line {
            let [from, to] = ends.map(&place);
            line(text, from, to, &format!("stroke=\"{colour}\" stroke-dasharray=\"5 4\""));
        }
        for pair in self.marks.windows(2) {
            let ends = [&pair[0], &pair[1]].map(|mark| place((mark.workers, mark.value)));
            line(text, ends[0], ends[1], &format!("stroke=\"{colour}\""));
        }
        for mark in &self.marks {
            let spread = [mark.min, mark.max].map(|value| place((mark.workers, value)));
            line(text, spread[0], spread[1], &format!("stroke=\"{colour}\" stroke-width=\"2\""));
            dot(text, place((mark.workers, mark.value)), colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::tests::strong;

    /// The value of an attribute in each element of a name, in order.
    fn numbers(svg: &str, element: &str, attribute: &str) -> Vec<f64> {
        let elements = svg.lines().filter(|line| line.starts_with(&format!("<{element} ")));
        let value = |line: &str| {
            let (_, after) = line.split_once(&format!(" {attribute}=\"")).unwrap();
            after.split_once('"').unwrap().0.parse().unwrap()
        };
        elements.map(value).collect()
    }

    #[test]
    fn faster_is_higher_and_more_workers_are_further_right() {
        let svg = svg(&strong());
        let (x, y) = (numbers(&svg, "circle", "cx"), numbers(&svg, "circle", "cy"));
        // Three marks and one of the legend, in each chart.
        assert_eq!(x.len(), 8);
        assert!(x[0] < x[1] && x[1] < x[2] && y[0] > y[1] && y[1] > y[2], "{x:?} {y:?}");
        // Speeds of 20, 30 and 32 thousand: heights are in proportion.
        assert!(((y[0] - y[1]) / (y[1] - y[2]) - 5.0).abs() < 0.1, "{y:?}");
        assert!(
            x.iter().all(|x| (0.0..2.0 * WIDTH).contains(x)) && y.iter().all(|y| (0.0..HEIGHT).contains(y))
        );
    }

    #[test]
    fn it_says_what_it_shows() {
        let svg = svg(&strong());
        for part in
            ["strong scaling", ">examples/s<", ">microseconds a step<", ">workers<", ">batch size 64<"]
        {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(svg.matches("stroke-dasharray").count(), 2, "one line to compare with in each chart");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
    }

    #[test]
    fn one_point_without_a_line_is_drawn_too() {
        let mut verdict = strong();
        verdict.coordinator_costs[0].seconds = None;
        verdict.rows.truncate(1);
        // Of very few steps the difference may be nothing, or less.
        verdict.rows[0].cpu_seconds_per_step.coordinator = -0.000_001;
        let svg = svg(&verdict);
        assert_eq!(numbers(&svg, "circle", "cx").len(), 4);
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
    }
}
