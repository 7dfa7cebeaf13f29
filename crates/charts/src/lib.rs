//! The one chart as SVG, of which `report`, `comparison` and `scaling` draw theirs: axes, grid, labels, lines, marks.
//!
//! Draws numbers that it is given and knows nothing of runs. What is drawn is appended to a text; how it looks is
//! attributes, of a stylesheet or of the element itself.

mod axis;
mod points;

use std::fmt::Write;

pub use axis::Axis;
pub use points::{Point, decimate, finite, means, smooth};

/// Colours that the colour-blind tell apart (Okabe and Ito), black last.
pub const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// Labels of the axis below closer than this would touch, in pixels.
const MIN_LABEL_DISTANCE: f64 = 20.0;

/// How the parts that every chart has look, as attributes.
pub struct Theme {
    /// A line across, at a tick.
    pub grid: &'static str,
    /// The line across at the bottom.
    pub base: &'static str,
    /// A label left of the chart.
    pub y_label: &'static str,
    /// A label below it.
    pub x_label: &'static str,
    /// The last label below it, where its middle would be too far right.
    pub last_x_label: &'static str,
}

/// The look of a picture that has no stylesheet.
pub const PLAIN: Theme = Theme {
    grid: "stroke=\"#dddddd\"",
    base: "stroke=\"black\"",
    y_label: "text-anchor=\"end\"",
    x_label: MIDDLE,
    last_x_label: MIDDLE,
};

const MIDDLE: &str = "text-anchor=\"middle\"";

/// Two axes and their look.
pub struct Chart<'a> {
    /// From left to right.
    pub x: Axis,
    /// From the bottom upwards.
    pub y: Axis,
    /// How it looks.
    pub theme: &'a Theme,
}

impl Chart<'_> {
    /// Where a point is in the drawing.
    pub fn place(&self, (x, y): Point) -> Point {
        (self.x.place(x), self.y.place(y))
    }

    /// A line across for each tick of the values, with its label left of it.
    pub fn grid(&self, text: &mut String, show: impl Fn(f64) -> String) {
        let ((left, right), (bottom, _)) = (self.x.pixels(), self.y.pixels());
        for value in self.y.ticks() {
            let y = self.y.place(value);
            let style = if y >= bottom { self.theme.base } else { self.theme.grid };
            line(text, (left, y), (right, y), style);
            label(text, (left - 6.0, y + 4.0), self.theme.y_label, &show(value));
        }
    }

    /// The labels below, in order of their places; one that would touch the one before is left out.
    pub fn x_labels(&self, text: &mut String, labels: impl Iterator<Item = (f64, String)>) {
        let (bottom, right) = (self.y.pixels().0, self.x.pixels().1);
        let mut free_from = f64::NEG_INFINITY;
        for (value, shown) in labels {
            let x = self.x.place(value);
            if x >= free_from {
                let is_last = x > right - 0.03 * (right - self.x.pixels().0);
                let style = if is_last { self.theme.last_x_label } else { self.theme.x_label };
                label(text, (x, bottom + 18.0), style, &shown);
                free_from = x + MIN_LABEL_DISTANCE;
            }
        }
    }

    /// A title in bold above, and what the axis below counts.
    pub fn titles(&self, text: &mut String, title: &str, x_title: &str) {
        let ((left, right), (bottom, top)) = (self.x.pixels(), self.y.pixels());
        let middle = (left + right) / 2.0;
        let title = format!("<tspan font-weight=\"bold\">{title}</tspan>");
        label(text, (middle, top - 18.0), MIDDLE, &title);
        label(text, (middle, bottom + 38.0), MIDDLE, x_title);
    }

    /// A line through the points; where one is not finite there is a gap.
    pub fn curve(&self, text: &mut String, points: &[Point], style: &str) {
        let mut path = String::new();
        let mut command = 'M';
        for point in points {
            if point.1.is_finite() {
                let (x, y) = self.place(*point);
                let _ = write!(path, "{command}{x:.1} {y:.1}");
                command = 'L';
            } else {
                command = 'M';
            }
        }
        let _ = writeln!(text, "<path d=\"{path}\" {style}/>");
    }
}

/// A white picture of that size, with `content` in it.
pub fn picture(width: f64, height: f64, content: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{content}</svg>\n"
    )
}

/// A straight line.
pub fn line(text: &mut String, from: Point, to: Point, style: &str) {
    let _ = writeln!(
        text,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {style}/>",
        from.0, from.1, to.0, to.1
    );
}

/// A mark.
pub fn dot(text: &mut String, (x, y): Point, colour: &str) {
    let _ = writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
}

/// Words; `content` is markup, see [`escaped`].
pub fn label(text: &mut String, (x, y): Point, style: &str, content: &str) {
    let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{content}</text>");
}

/// `words` as markup that shows them, in elements and in quoted attributes; characters that no XML may have, and those
/// that control a terminal or the direction of writing, are shown as the replacement character.
pub fn escaped(words: &str) -> String {
    let mut markup = String::with_capacity(words.len());
    for character in words.chars() {
        match character {
            '&' => markup.push_str("&amp;"),
            '<' => markup.push_str("&lt;"),
            '>' => markup.push_str("&gt;"),
            '"' => markup.push_str("&quot;"),
            '\'' => markup.push_str("&#39;"),
            '\n' | '\t' => markup.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => {
                markup.push(char::REPLACEMENT_CHARACTER)
            }
            other if other.is_control() => markup.push(char::REPLACEMENT_CHARACTER),
            other => markup.push(other),
        }
    }
    markup
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart<'static> {
        Chart {
            x: Axis::between_ticks(0.0, 4.0, (0.0, 4.0)),
            y: Axis::between_ticks(0.0, 4.0, (4.0, 0.0)),
            theme: &PLAIN,
        }
    }

    #[test]
    fn what_is_not_finite_is_a_gap() {
        let mut text = String::new();
        chart().curve(&mut text, &[(1.0, 1.0), (2.0, f64::NAN), (3.0, 2.0), (4.0, 1.0)], "fill=\"none\"");
        assert_eq!(text, "<path d=\"M1.0 3.0M3.0 2.0L4.0 3.0\" fill=\"none\"/>\n");
    }

    #[test]
    fn labels_that_would_touch_are_left_out() {
        let wide = Chart { x: Axis::from_zero(10.0, (0.0, 100.0)), ..chart() };
        let mut text = String::new();
        wide.x_labels(&mut text, [1.0, 2.0, 4.0].into_iter().map(|x| (x, x.to_string())));
        assert!(text.contains(">1<") && !text.contains(">2<") && text.contains(">4<"), "{text}");
    }

    #[test]
    fn words_are_never_markup() {
        assert_eq!(escaped("a<b>&\"c\"\u{7}"), "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}");
    }
}
