//! The page and its sections, as HTML. A section that cannot be drawn says why in one sentence.
//!
//! Whatever comes from the run's files is escaped here: names of workers and events are other people's words.

use std::fmt::Write;

use lockstep_telemetry::EpochRecord;

use super::svg::{Chart, Line, Place, smooth};
use super::{Predicted, Story, escape};

/// Of the events that the history keeps, the ones that are shown.
const SHOWN_EVENTS: usize = 40;

const STYLE: &str = include_str!("report.css");

/// The settings that decide the bits, and the number of workers, in the order of the command.
const REPRODUCED: [&str; 11] = [
    "dataset",
    "data-dir",
    "examples",
    "validation-split",
    "epochs",
    "max-steps",
    "batch-size",
    "learning-rate",
    "seed",
    "micro-shards",
    "workers",
];

/// The whole page.
pub fn page(story: &Story, predicted: Result<Predicted, String>) -> String {
    let Story { name, dataset, ended, .. } = story;
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
         <p class=\"sub\">trained on {dataset} by Lockstep</p>\n</header>\n<main>\n"
    );
    text.push_str(&figures(story));
    section(&mut text, "Training", "", &curves(story));
    section(&mut text, "Digits of the test set", "", &digits(predicted));
    section(&mut text, "Confusion matrix", "", &confusion(story));
    section(&mut text, "Where a step’s time goes", "half", &times(story));
    section(&mut text, "Workers", "half", &workers(story));
    section(&mut text, "The same again", "", &reproduction(story));
    section(&mut text, "Last events", "", &events(story));
    section(&mut text, "Configuration", "", &configuration(story));
    let _ = write!(
        text,
        "</main>\n<footer>Written by coordinator {}. This page needs no network; <code>coordinator show</code> shows \
         the run in a browser with more.</footer>\n</body>\n</html>\n",
        story.facts.version
    );
    text
}

fn section(text: &mut String, title: &str, class: &str, content: &str) {
    let _ = write!(text, "<section class=\"{class}\">\n<h2>{title}</h2>\n{content}</section>\n");
}

fn sentence(text: &str) -> String {
    format!("<p class=\"sub\">{}</p>\n", escape(text))
}

/// With thin spaces: `12 345`.
fn grouped(number: u64) -> String {
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

fn percent(share: impl Into<f64>) -> String {
    format!("{:.2} %", share.into() * 100.0)
}

fn duration(seconds: f64) -> String {
    match seconds {
        short if short < 120.0 => format!("{short:.1} s"),
        long if long < 7200.0 => format!("{:.1} min", long / 60.0),
        long => format!("{:.1} h", long / 3600.0),
    }
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

fn figures(story: &Story) -> String {
    let Story { records, summary, .. } = story;
    let summary = summary.as_ref();
    let last = records.view.epochs.as_ref().and_then(|epochs| epochs.last());
    let (steps, seconds) = match summary {
        Some(summary) => (summary.steps, summary.train_seconds),
        None => (records.totals.steps, records.totals.seconds),
    };
    let rate = match summary {
        Some(summary) => summary.examples_per_second,
        None => Some(records.totals.examples as f64 / seconds).filter(|rate| rate.is_finite()),
    };
    let validation = summary.and_then(|summary| summary.val_accuracy.zip(summary.val_loss));
    let validation = validation.or_else(|| last.and_then(|epoch| epoch.val_accuracy.zip(epoch.val_loss)));
    let test = summary.and_then(|summary| summary.test_accuracy.zip(summary.test_loss));
    let evaluated = |means: Option<(f32, f32)>| {
        means.map_or(("–".to_string(), "not evaluated".to_string()), |(accuracy, loss)| {
            (percent(accuracy), format!("loss {loss:.4}"))
        })
    };
    let ((tested, test_loss), (validated, validation_loss)) = (evaluated(test), evaluated(validation));
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

fn curves(story: &Story) -> String {
    let points = &story.records.curve;
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return sentence(
            "There are no curves: metrics.jsonl has no steps, because none was trained or the run had --no-metrics.",
        );
    };
    let epochs = story.records.view.epochs.as_deref().unwrap_or_default();
    let width = points.get(1).map_or(1, |second| second.0 - first.0);
    let mut text = String::from("<div class=\"charts\">\n");
    let loss = |of: &EpochRecord| of.val_loss.map(f64::from);
    let accuracy = |of: &EpochRecord| of.val_accuracy.map(f64::from);
    for (title, shares, training, validation) in [
        (
            "Loss",
            false,
            points.iter().map(|point| (point.0 as f64, point.1.into())).collect::<Vec<Place>>(),
            values(epochs, loss),
        ),
        (
            "Accuracy",
            true,
            points.iter().map(|point| (point.0 as f64, point.4.into())).collect(),
            values(epochs, accuracy),
        ),
    ] {
        let said = |value: f64| if shares { percent(value) } else { format!("{value:.4}") };
        let mut description = format!(
            "Training: {} in step {}, {} in step {}.",
            said(training[0].1),
            first.0,
            said(training[training.len() - 1].1),
            last.0
        );
        if let [(from, before), .., (to, after)] = validation[..] {
            let _ = write!(
                description,
                " Validation: {} after step {from}, {} after step {to}.",
                said(before),
                said(after)
            );
        } else if let [(step, value)] = validation[..] {
            let _ = write!(description, " Validation: {} after step {step}.", said(value));
        }
        let marks =
            validation.iter().map(|(step, value)| format!("validation after step {step}: {}", said(*value)));
        let marks = marks.collect();
        let end = training[training.len() - 1];
        let lines = vec![
            Line { class: "raw", points: training.clone(), marks: Vec::new() },
            Line { class: "train", points: smooth(&training), marks: Vec::new() },
            Line { class: "validation", points: validation, marks },
            Line {
                class: "last",
                points: vec![end],
                marks: vec![format!("training, step {}: {}", end.0, said(end.1))],
            },
        ];
        let name = title.to_lowercase();
        let chart = Chart {
            title: format!("{title} over the steps"),
            description: description.clone(),
            shares,
            lines,
        };
        let drawn = chart.draw().unwrap_or_else(|| sentence(&format!("No step has a finite {name}.")));
        let _ = write!(
            text,
            "<figure>\n<figcaption>{title} <span class=\"legend\"><i class=\"key raw\"></i>training \
             <i class=\"key train\"></i>smoothed <i class=\"key validation\"></i>validation</span></figcaption>\n\
             {drawn}<p class=\"sub\">{}</p>\n</figure>\n",
            escape(&description)
        );
    }
    text.push_str("</div>\n");
    if width > 1 {
        text.push_str(&sentence(&format!("A point of the training is the mean of {width} steps.")));
    }
    text
}

fn values(epochs: &[EpochRecord], of: impl Fn(&EpochRecord) -> Option<f64>) -> Vec<Place> {
    epochs.iter().filter_map(|epoch| Some((epoch.step as f64, of(epoch)?))).collect()
}

fn digits(predicted: Result<Predicted, String>) -> String {
    let Predicted { step, sheet, digits } = match predicted {
        Ok(predicted) => predicted,
        Err(reason) => return sentence(&reason),
    };
    let right = digits.iter().filter(|(label, predicted)| label == predicted).count();
    let mut text = sentence(&format!(
        "The first {} digits of the test set, and what the weights after step {step} take them for: {right} are right (✓), \
         {} are wrong (✗, with the right digit behind).",
        digits.len(),
        digits.len() - right
    ));
    let _ = write!(
        text,
        "<style>.digits i {{ background-image: url(data:image/png;base64,{}); }}</style>\n<ol class=\"digits\">\n",
        base64(&sheet)
    );
    for (index, (label, predicted)) in digits.iter().enumerate() {
        // The sheet has 10 by 10 digits; a percentage is of the way from its first to its last.
        let (x, y) = ((index % 10) as f64 * 100.0 / 9.0, (index / 10) as f64 * 100.0 / 9.0);
        let (class, said) = if label == predicted {
            ("right", format!("{predicted} ✓"))
        } else {
            ("wrong", format!("{predicted} ✗ {label}"))
        };
        let _ = writeln!(
            text,
            "<li class=\"{class}\"><i style=\"background-position:{x:.2}% {y:.2}%\"></i>{said}</li>"
        );
    }
    text.push_str("</ol>\n");
    text
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

fn confusion(story: &Story) -> String {
    let Some(matrix) = story.summary.as_ref().and_then(|summary| summary.confusion_matrix.as_ref()) else {
        return sentence("There is none: the run has not come to its evaluation on the test set.");
    };
    let mistakes = matrix.iter().enumerate().flat_map(|(label, row)| {
        row.iter()
            .enumerate()
            .filter(move |(predicted, _)| *predicted != label)
            .map(move |(predicted, count)| (*count, label, predicted))
    });
    let worst =
        mistakes.max_by_key(|(count, label, predicted)| (*count, std::cmp::Reverse((*label, *predicted))));
    let mut text = match worst {
        Some((count, label, predicted)) if count > 0 => sentence(&format!(
            "A row for each true digit, a column for each prediction; right ones are framed. The commonest mistake: {label} \
             taken for {predicted}, {}.",
            counted(count.into(), "time", "times")
        )),
        _ => sentence("A row for each true digit, a column for each prediction. There is no mistake."),
    };
    text.push_str(
        "<div class=\"scroll\"><table class=\"confusion\">\n<thead><tr><th scope=\"col\">true</th>",
    );
    (0..matrix.len()).for_each(|class| {
        let _ = write!(text, "<th scope=\"col\">{class}</th>");
    });
    text.push_str("</tr></thead>\n<tbody>\n");
    for (label, row) in matrix.iter().enumerate() {
        let all: u32 = row.iter().sum();
        let _ = write!(text, "<tr><th scope=\"row\">{label}</th>");
        for (predicted, count) in row.iter().enumerate() {
            let class = if predicted == label {
                "hit"
            } else if *count == 0 {
                "none"
            } else {
                "miss"
            };
            // The square root, so that the few mistakes are seen beside the many right ones.
            let heat = (f64::from(*count) / f64::from(all.max(1))).sqrt() * 100.0;
            let _ = write!(text, "<td class=\"{class}\" style=\"--heat:{heat:.0}%\">{count}</td>");
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody></table></div>\n");
    text
}

fn times(story: &Story) -> String {
    let totals = story.records.totals;
    if totals.steps == 0 || totals.seconds <= 0.0 {
        return sentence("This is not known: metrics.jsonl has no steps.");
    }
    let steps = totals.steps as f64;
    let rest = (totals.seconds - totals.parts.iter().sum::<f64>()).max(0.0);
    let [sending, waiting, adding, updating] = totals.parts;
    let rows = [
        ("Sending weights and work", sending),
        ("Waiting while workers compute", waiting),
        ("Adding gradients", adding),
        ("Updating the weights", updating),
        ("Anything else", rest),
    ];
    let mut text = sentence(&format!(
        "As the coordinator sees it, over {}: {:.2} ms each.",
        counted(totals.steps, "step", "steps"),
        totals.seconds / steps * 1e3
    ));
    text.push_str("<table class=\"times\"><tbody>\n");
    for (name, seconds) in rows {
        let share = seconds / totals.seconds * 100.0;
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{name}<span class=\"track\"><span class=\"fill\" style=\"width:{share:.1}%\"></span>\
             </span></th><td>{:.2} ms</td><td>{share:.1} %</td></tr>",
            seconds / steps * 1e3
        );
    }
    text.push_str("</tbody></table>\n");
    let [sent, received] = totals.bytes.map(|bytes| bytes as f64 / steps / 1e3);
    text.push_str(&sentence(&format!(
        "{sent:.0} kB go to the workers in a step, {received:.0} kB come back."
    )));
    text
}

fn workers(story: &Story) -> String {
    let records = &story.records;
    let mut text = match records.totals.workers {
        Some((least, most)) if least == most => {
            sentence(&format!("{} at the end of every step.", counted(most.into(), "worker", "workers")))
        }
        Some((least, most)) => sentence(&format!("From {least} to {most} workers at the end of a step.")),
        None => String::new(),
    };
    if records.members.is_empty() {
        text.push_str(&sentence("Who they were is not known: events.jsonl has nobody that joined."));
        return text;
    }
    text.push_str(
        "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Worker</th><th scope=\"col\">Joined</th>\
         <th scope=\"col\">Left before the end</th></tr></thead>\n<tbody>\n",
    );
    for (name, member) in &records.members {
        let again = if member.joined > 1 {
            format!(", {} times in all", grouped(member.joined))
        } else {
            String::new()
        };
        let left = match &member.last {
            None => "no".to_string(),
            Some((step, reason)) => {
                let times = if member.left > 1 {
                    format!("{} times; last ", grouped(member.left))
                } else {
                    String::new()
                };
                format!("{times}after step {}: {}", grouped(*step), escape(reason))
            }
        };
        let _ = writeln!(
            text,
            "<tr><td><bdi>{}</bdi></td><td>after step {}{again}</td><td>{left}</td></tr>",
            escape(name),
            grouped(member.first)
        );
    }
    text.push_str("</tbody></table></div>\n");
    if records.joined_besides > 0 {
        text.push_str(&sentence(&format!(
            "Others joined {}; events.jsonl names them.",
            counted(records.joined_besides, "time", "times")
        )));
    }
    if let Some(faults) = story.summary.as_ref().and_then(|summary| summary.faults.to_text()) {
        text.push_str(&sentence(&format!("What went wrong and was made good: {faults}.")));
    }
    text
}

fn events(story: &Story) -> String {
    let events = &story.records.view.events;
    if events.is_empty() {
        return sentence("There are none: events.jsonl is not there, because the run had --no-metrics.");
    }
    let shown = &events[events.len().saturating_sub(SHOWN_EVENTS)..];
    let mut text = String::new();
    if (shown.len() as u64) < story.records.events {
        text.push_str(&sentence(&format!(
            "The last {} of {}; events.jsonl has all.",
            shown.len(),
            grouped(story.records.events)
        )));
    }
    text.push_str("<ol class=\"events\">\n");
    for event in shown {
        let _ = writeln!(
            text,
            "<li><span class=\"when\">{:.1} s<br>step {}</span><span>{}</span></li>",
            event.seconds,
            grouped(event.step),
            escape(&event.reason)
        );
    }
    text.push_str("</ol>\n");
    text
}

fn reproduction(story: &Story) -> String {
    let mut text = String::new();
    match &story.weights {
        Some((step, _, digest)) => {
            let _ = write!(
                text,
                "<p class=\"sub\">The weights after step {} have the SHA-256</p>\n<pre class=\"digest\">{}</pre>\n",
                grouped(*step),
                escape(digest)
            );
        }
        None => text.push_str(&sentence("There are no weights of this run yet, and so no digest.")),
    }
    text.push_str(&sentence(
        "This command trains the same again, to the same bits, whatever the number of workers:",
    ));
    let _ = writeln!(text, "<pre>{}</pre>", escape(&command(story)));
    if !story.ended.well {
        if let Some((step, ..)) = &story.weights {
            text.push_str(&sentence(&format!("With --max-steps {step} it ends where this run is now.")));
        }
        text.push_str(&sentence("And this one goes on with the run, in the folder where its directory is:"));
        let _ = writeln!(text, "<pre>coordinator --resume {}</pre>", escape(&quoted(&story.name)));
    }
    text
}

/// The command that trains the same again.
pub fn command(story: &Story) -> String {
    let mut text = "coordinator".to_string();
    // What comes behind are not settings but what the run is.
    let settings = || story.facts.configuration.iter().take_while(|(key, _)| key != "id");
    for key in REPRODUCED {
        if let Some((_, value)) = settings().find(|(known, _)| known == key) {
            let _ = write!(text, " --{key} {}", quoted(&plain(value)));
        }
    }
    if story.initialised {
        let _ = write!(text, " --init {}", quoted(&format!("{}/initial.safetensors", story.name)));
    }
    text
}

/// A value of a TOML file as a flag takes it.
fn plain(value: &str) -> String {
    let table: Option<toml::Table> = toml::from_str(&format!("value = {value}")).ok();
    let text = table.as_ref().and_then(|table| table.get("value")?.as_str());
    text.unwrap_or(value).to_string()
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,+".contains(&byte);
    if !word.is_empty() && word.bytes().all(harmless) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn configuration(story: &Story) -> String {
    let mut text = String::from(
        "<details><summary>config.toml, as the run wrote it</summary>\n<table class=\"pairs\"><tbody>\n",
    );
    for (key, value) in &story.facts.configuration {
        let _ = writeln!(text, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(key), escape(value));
    }
    text.push_str("</tbody></table></details>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }

    #[test]
    fn values_of_the_configuration_are_words_of_a_shell() {
        assert_eq!(quoted(&plain("0.01")), "0.01");
        assert_eq!(quoted(&plain("\"digits\"")), "digits");
        assert_eq!(quoted(&plain("18446744073709551615")), "18446744073709551615");
        assert_eq!(quoted(&plain("\"it's; rm\"")), "'it'\\''s; rm'");
        assert_eq!(quoted(""), "''");
    }
}
