//! The report as a picture: examples/s and the coordinator's cost over the number of workers, as SVG.
//!
//! Written by hand: for two small charts a library of plots (kuva 0.6 has 77,000 lines) is more to trust and to compile
//! than this file is to read.

use std::fmt::Write;

use super::report::{Report, Row};
use crate::charts::{COLOURS, dot, label, line, tick};

/// Of one chart, with the room for its labels; both are beside each other.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 360.0;

/// Room around the axes: left, top, right, bottom.
const MARGINS: (f64, f64, f64, f64) = (70.0, 40.0, 20.0, 50.0);

/// Labels of workers closer than this would touch.
const MIN_LABEL_DISTANCE: f64 = 20.0;

/// The distance of what belongs to the same number of workers.
const BESIDE: f64 = 7.0;

/// Room for the longest name in a legend.
const LEGEND_WIDTH: f64 = 165.0;

/// An SVG document.
pub fn svg(report: &Report) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {HEIGHT}\" width=\"{0}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        2.0 * WIDTH
    );
    speed(report).draw(0.0, &mut text);
    cost(report).draw(WIDTH, &mut text);
    text.push_str("</svg>\n");
    text
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
    line: Option<[(f64, f64); 2]>,
}

struct Chart {
    title: String,
    value_label: &'static str,
    series: Vec<Series>,
}

/// Examples/s, and what perfect scaling would give.
fn speed(report: &Report) -> Chart {
    let series = |named: u32, rows: Vec<&Row>| {
        let ideal = rows.first().zip(rows.last()).map(|(first, last)| {
            let each = first.examples_per_second.median / f64::from(first.workers);
            [first, last].map(|row| (f64::from(row.workers), each * f64::from(row.workers)))
        });
        let mark = |row: &&Row| {
            let speed = row.examples_per_second;
            Mark { workers: row.workers.into(), value: speed.median, min: speed.min, max: speed.max }
        };
        Series { name: series_name(report, named), marks: rows.iter().map(mark).collect(), line: ideal }
    };
    let kind = if report.weak { "weak" } else { "strong" };
    Chart {
        title: format!("Speed, {kind} scaling (dashed: ideal)"),
        value_label: "examples/s",
        series: by_batch_size(report, series),
    }
}

/// Processor time of a step of the coordinator, and the line through it.
fn cost(report: &Report) -> Chart {
    let series = |named: u32, rows: Vec<&Row>| {
        let fitted = report.coordinator_costs.iter().find(|cost| cost.named_batch_size == named);
        let line = fitted.and_then(|cost| cost.seconds).zip(rows.first().zip(rows.last()));
        let mark = |row: &&Row| {
            let value = row.cpu_seconds_per_step.coordinator * 1e6;
            Mark { workers: row.workers.into(), value, min: value, max: value }
        };
        Series {
            name: series_name(report, named),
            marks: rows.iter().map(mark).collect(),
            line: line.map(|(line, (first, last))| {
                [first, last].map(|row| (f64::from(row.workers), line.at(row.workers.into()) * 1e6))
            }),
        }
    };
    Chart {
        title: "CPU time of the coordinator (dashed: least squares)".to_string(),
        value_label: "microseconds a step",
        series: by_batch_size(report, series),
    }
}

fn series_name(report: &Report, named_batch_size: u32) -> String {
    format!("batch size {named_batch_size}{}", if report.weak { " a worker" } else { "" })
}

fn by_batch_size<'a>(report: &'a Report, series: impl Fn(u32, Vec<&'a Row>) -> Series) -> Vec<Series> {
    let of = |named: u32| report.rows.iter().filter(move |row| row.named_batch_size == named).collect();
    report
        .coordinator_costs
        .iter()
        .map(|cost| series(cost.named_batch_size, of(cost.named_batch_size)))
        .collect()
}

impl Chart {
    /// Draws it, its left edge at `left`.
    fn draw(&self, left: f64, text: &mut String) {
        let axes = Axes::of(left, self.series.iter().flat_map(|series| &series.marks));
        self.draw_frame(left, &axes, text);
        // What is ideal may go beyond the greatest measured, and is cut off: the rest would be flat below it.
        let clip = format!("inside-{left}");
        let _ = writeln!(
            text,
            "<clipPath id=\"{clip}\"><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/></clipPath>\n\
             <g clip-path=\"url(#{clip})\">",
            axes.left,
            axes.top,
            axes.right - axes.left,
            axes.bottom - axes.top
        );
        for (number, (series, colour)) in self.series.iter().zip(COLOURS.iter().cycle()).enumerate() {
            // Spreads of the same number of workers stand beside each other.
            let aside = BESIDE * (number as f64 - (self.series.len() - 1) as f64 / 2.0);
            let place = |workers, value| (axes.x(workers) + aside, axes.y(value));
            if let Some(ends) = series.line {
                let [from, to] = ends.map(|(workers, value)| place(workers, value));
                line(text, from, to, &format!("stroke=\"{colour}\" stroke-dasharray=\"5 4\""));
            }
            for pair in series.marks.windows(2) {
                let ends = [&pair[0], &pair[1]].map(|mark| place(mark.workers, mark.value));
                line(text, ends[0], ends[1], &format!("stroke=\"{colour}\""));
            }
            for mark in &series.marks {
                let spread = [mark.min, mark.max].map(|value| place(mark.workers, value));
                line(text, spread[0], spread[1], &format!("stroke=\"{colour}\" stroke-width=\"2\""));
                dot(text, place(mark.workers, mark.value), colour);
            }
        }
        text.push_str("</g>\n");
        let mut y = axes.top + 14.0;
        let legend_height = 16.0 * self.series.len() as f64 + 4.0;
        let _ = writeln!(
            text,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{LEGEND_WIDTH}\" height=\"{legend_height:.1}\" fill=\"white\"/>",
            axes.left + 4.0,
            axes.top
        );
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            dot(text, (axes.left + 14.0, y - 4.0), colour);
            label(text, (axes.left + 24.0, y), "start", &series.name);
            y += 16.0;
        }
    }

    /// Title, axes, their labels.
    fn draw_frame(&self, left: f64, axes: &Axes, text: &mut String) {
        let middle = (axes.left + axes.right) / 2.0;
        let title = format!("<tspan font-weight=\"bold\">{}</tspan>", self.title);
        label(text, (middle, axes.top - 18.0), "middle", &title);
        label(text, (middle, HEIGHT - 12.0), "middle", "workers");
        let (x, y) = (left + 16.0, (axes.top + axes.bottom) / 2.0);
        let _ = writeln!(text, "<g transform=\"translate({x:.1} {y:.1}) rotate(-90)\">");
        label(text, (0.0, 0.0), "middle", self.value_label);
        text.push_str("</g>\n");
        for number in 0..=axes.ticks {
            let value = f64::from(number) * axes.tick;
            let style = format!("stroke=\"{}\"", if number == 0 { "black" } else { "#dddddd" });
            line(text, (axes.left, axes.y(value)), (axes.right, axes.y(value)), &style);
            label(text, (axes.left - 6.0, axes.y(value) + 4.0), "end", &value.to_string());
        }
        let marks = self.series.iter().flat_map(|series| &series.marks);
        let mut workers: Vec<f64> = marks.map(|mark| mark.workers).collect();
        workers.sort_by(f64::total_cmp);
        let mut free_from = 0.0;
        for workers in workers {
            let x = axes.x(workers);
            if x >= free_from {
                label(text, (x, axes.bottom + 18.0), "middle", &workers.to_string());
                free_from = x + MIN_LABEL_DISTANCE;
            }
        }
    }
}

/// Where values are in a chart: both axes begin at 0.
struct Axes {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    /// The number of workers at the right end.
    most_workers: f64,
    /// The value from one tick to the next.
    tick: f64,
    /// So many, the last one at the top.
    ticks: u32,
}

impl Axes {
    fn of<'a>(left: f64, marks: impl Iterator<Item = &'a Mark> + Clone) -> Self {
        // There is something to draw even if nothing is above 0.
        let most = 1.15 * marks.clone().map(|mark| mark.max).fold(1.0, f64::max);
        let tick = tick(most);
        Self {
            left: left + MARGINS.0,
            right: left + WIDTH - MARGINS.2,
            top: MARGINS.1,
            bottom: HEIGHT - MARGINS.3,
            most_workers: 1.05 * marks.map(|mark| mark.workers).fold(1.0, f64::max),
            tick,
            ticks: (most / tick).ceil() as u32,
        }
    }

    fn x(&self, workers: f64) -> f64 {
        self.left + workers / self.most_workers * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - value / (f64::from(self.ticks) * self.tick) * (self.bottom - self.top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::report::tests::strong;

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
        let mut report = strong();
        report.coordinator_costs[0].seconds = None;
        report.rows.truncate(1);
        // Of very few steps the difference may be nothing, or less.
        report.rows[0].cpu_seconds_per_step.coordinator = -0.000_001;
        let svg = svg(&report);
        assert_eq!(numbers(&svg, "circle", "cx").len(), 4);
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
    }
}
