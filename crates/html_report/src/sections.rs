//! The page of the report, its sections in order. A section that cannot be drawn says why in one sentence.
//!
//! Whatever comes from the run's files is escaped where it is written: names of workers and events are other people's words.

use std::fmt::Write;

use lockstep_records::{is_fallback, percent};

use super::operations::{events, times, workers};
use super::reproduce::{configuration, reproduction};
use super::training::{confusion, curves, digits};
use super::{Predicted, RunData, escape};

const STYLE: &str = include_str!("report.css");

/// The whole page.
pub fn page(run: &RunData, predicted: Result<Predicted, String>) -> String {
    let RunData { name, dataset, ended, .. } = run;
    let (glyph, class) = if ended.well { ("✓", "well") } else { ("▲", "ill") };
    let (name, dataset, how) = (escape(name), escape(dataset), escape(&ended.how));
    // Nothing of it may run, and nothing be fetched, whatever is in it.
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Run {name} · Lockstep</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n\
         <h1>Run {name}</h1>\n<p class=\"state {class}\"><span aria-hidden=\"true\">{glyph}</span> {how}</p>\n\
         <p class=\"sub\">trained on {dataset} by Lockstep</p>\n"
    );
    if is_fallback(&run.configuration) {
        text.push_str(
            "<p class=\"state ill\"><span aria-hidden=\"true\">▲</span> trained on generated digits, not on MNIST, which could \
             not be had</p>\n",
        );
    }
    text.push_str("</header>\n<main>\n");
    text.push_str(&figures(run));
    section(&mut text, "Training", "", &curves(run));
    section(&mut text, "Digits of the test set", "", &digits(predicted));
    section(&mut text, "Confusion matrix", "", &confusion(run));
    section(&mut text, "Where a step’s time goes", "half", &times(run));
    section(&mut text, "The same again", "half", &reproduction(run));
    section(&mut text, "Workers", "", &workers(run));
    section(&mut text, "Last events", "", &events(run));
    section(&mut text, "Configuration", "", &configuration(run));
    let _ = write!(
        text,
        "</main>\n<footer>Written by coordinator {}. This page needs no network; <code>coordinator show</code> shows \
         the run in a browser with more.</footer>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    );
    text
}

fn section(text: &mut String, title: &str, class: &str, content: &str) {
    let _ = write!(text, "<section class=\"{class}\">\n<h2>{title}</h2>\n{content}</section>\n");
}

/// A paragraph that explains.
pub fn sentence(text: &str) -> String {
    format!("<p class=\"sub\">{}</p>\n", escape(text))
}

/// With narrow spaces: `12 345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn duration(seconds: f64) -> String {
    match seconds {
        instant if instant < 10.0 => format!("{instant:.2} s"),
        short if short < 120.0 => format!("{short:.1} s"),
        long if long < 7200.0 => format!("{:.1} min", long / 60.0),
        long => format!("{:.1} h", long / 3600.0),
    }
}

/// A number and what it is of.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// An accuracy, and its loss, which is absent if it is not finite.
fn evaluated(accuracy: Option<f32>, loss: Option<f32>) -> (String, String) {
    let loss = loss.filter(|loss| loss.is_finite());
    let loss = loss.map_or("loss not finite".to_string(), |loss| format!("loss {loss:.4}"));
    accuracy.map_or(("–".to_string(), "not evaluated".to_string()), |accuracy| (percent(accuracy, 2), loss))
}

fn figures(run: &RunData) -> String {
    let RunData { records, summary, .. } = run;
    let summary = summary.as_ref();
    let last = records.history.epochs().last();
    let (steps, seconds) = match summary {
        Some(summary) => (summary.steps, summary.train_seconds),
        None => (records.history.progress().step, records.totals.seconds),
    };
    let rate = match summary {
        Some(summary) => summary.examples_per_second,
        None => Some(records.totals.examples as f64 / seconds).filter(|rate| rate.is_finite()),
    };
    let (accuracy, loss) = match summary {
        Some(summary) if summary.val_accuracy.is_some() => (summary.val_accuracy, summary.val_loss),
        _ => last.map_or((None, None), |epoch| (epoch.val_accuracy, epoch.val_loss)),
    };
    let (validated, validation_loss) = evaluated(accuracy, loss);
    let test = summary.map_or((None, None), |summary| (summary.test_accuracy, summary.test_loss));
    let (tested, test_loss) = evaluated(test.0, test.1);
    let epochs = summary.map_or(last.map_or(0, |epoch| epoch.epoch), |summary| summary.epochs);
    let cells = [
        ("Test accuracy", tested, test_loss),
        ("Validation accuracy", validated, validation_loss),
        ("Steps", grouped(steps), counted(epochs.into(), "whole epoch", "whole epochs")),
        ("Time of the steps", duration(seconds), "without evaluations and start".to_string()),
        (
            "Examples a second",
            rate.map_or("–".to_string(), |rate| grouped(rate.round() as u64)),
            "mean over the run".to_string(),
        ),
    ];
    let mut text = String::from("<section class=\"figures\" aria-label=\"In short\">\n<dl>\n");
    for (term, value, more) in cells {
        let _ = writeln!(text, "<div><dt>{term}</dt><dd>{value}</dd><dd class=\"sub\">{more}</dd></div>");
    }
    text.push_str("</dl>\n</section>\n");
    text
}
