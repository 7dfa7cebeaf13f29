//! The parts that our SVG pictures are made of: lines, dots, labels, colours, and where the ticks of an axis are.
//!
//! Appends to a text, and knows nothing of what is drawn.

use std::fmt::Write;

/// Colours that the colour-blind tell apart (Okabe and Ito), black last.
pub const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// The distance of ticks, of which about five lie below `most`: 1, 2 or 5 times a power of ten.
pub fn tick(most: f64) -> f64 {
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
    factor * power
}

/// A straight line; `style` is attributes.
pub fn line(text: &mut String, from: (f64, f64), to: (f64, f64), style: &str) {
    let _ = writeln!(
        text,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {style}/>",
        from.0, from.1, to.0, to.1
    );
}

/// A mark.
pub fn dot(text: &mut String, (x, y): (f64, f64), colour: &str) {
    let _ = writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
}

/// Words; `content` is markup, see [`escaped`].
pub fn label(text: &mut String, (x, y): (f64, f64), anchor: &str, content: &str) {
    let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>");
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

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!([7.0, 10.0, 11.0, 26.0, 40_000.0].map(tick), [2.0, 2.0, 5.0, 10.0, 10_000.0]);
    }

    #[test]
    fn words_are_never_markup() {
        assert_eq!(escaped("a<b>&\"c\"\u{7}"), "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}");
    }
}
