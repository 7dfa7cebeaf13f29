//! What the run learned, as sections of the report: curves, digits of the test set, confusion matrix.

use std::fmt::Write;

use lockstep_charts::{Point, smooth};
use lockstep_records::{EpochRecord, percent};

use super::sections::{counted, sentence};
use super::svg::{Curves, Line};
use super::{Predicted, RunData, escape};

/// Loss and accuracy over the steps.
pub fn curves(run: &RunData) -> String {
    let points = run.records.history.curve();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return sentence(
            "There are no curves: metrics.jsonl has no steps, because none was trained or the run had --no-metrics.",
        );
    };
    let epochs = run.records.history.epochs();
    let width = points.get(1).map_or(1, |second| second.step() - first.step());
    let mut text = String::from("<div class=\"charts\">\n");
    let loss = |of: &EpochRecord| of.val_loss.map(f64::from);
    let accuracy = |of: &EpochRecord| of.val_accuracy.map(f64::from);
    for (title, shares, training, validation) in [
        (
            "Loss",
            false,
            points.iter().map(|point| (point.step() as f64, point.loss().into())).collect::<Vec<Point>>(),
            values(epochs, loss),
        ),
        (
            "Accuracy",
            true,
            points.iter().map(|point| (point.step() as f64, point.accuracy().into())).collect(),
            values(epochs, accuracy),
        ),
    ] {
        let said = |value: f64| match value {
            beyond if !beyond.is_finite() => "not finite".to_string(),
            share if shares => percent(share, 2),
            loss => format!("{loss:.4}"),
        };
        let smoothed = smooth(&training);
        let (end, smooth_end) = (training[training.len() - 1], smoothed[smoothed.len() - 1]);
        let mut description = format!(
            "Training, smoothed: {} at step {}, {} at step {}.",
            said(smoothed[0].1),
            first.step(),
            said(smooth_end.1),
            last.step()
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
        let lines = vec![
            Line { class: "raw", points: training.clone(), marks: Vec::new() },
            Line { class: "train", points: smoothed, marks: Vec::new() },
            Line { class: "validation", points: validation, marks },
            Line {
                class: "last",
                points: vec![smooth_end],
                marks: vec![format!(
                    "training, step {}: {}, smoothed {}",
                    end.0,
                    said(end.1),
                    said(smooth_end.1)
                )],
            },
        ];
        let name = title.to_lowercase();
        let chart = Curves {
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

fn values(epochs: &[EpochRecord], of: impl Fn(&EpochRecord) -> Option<f64>) -> Vec<Point> {
    epochs.iter().filter_map(|epoch| Some((epoch.step as f64, of(epoch)?))).collect()
}

/// The first test digits and what they are taken for.
pub fn digits(predicted: Result<Predicted, String>) -> String {
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

/// The test set, true digits by predictions.
pub fn confusion(run: &RunData) -> String {
    let Some(matrix) = run.summary.as_ref().and_then(|summary| summary.confusion_matrix.as_ref()) else {
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
}
