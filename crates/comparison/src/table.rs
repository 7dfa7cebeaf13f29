//! The comparison as text: which letter is which run, a table with a column for each, and what the logs say.
//!
//! Formats and nothing else. Tables are at most 80 columns wide: more runs than fit beside each other follow below.

use std::fmt::Write;

use lockstep_records::percent;

use super::result::{Column, Comparison};

const WIDTH: usize = 80;

/// Wider values are cut; a digest of 16 digits is not.
const MOST_VALUE_WIDTH: usize = 16;

const GAP: usize = 2;

/// The runs by their letters, and the table.
pub fn table(comparison: &Comparison<'_>) -> String {
    let mut text = String::new();
    for column in &comparison.runs {
        let _ = writeln!(text, "{}  {}", column.name, column.run_dir);
    }
    let rows = rows(comparison);
    let label_width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let width = |run: usize| rows.iter().map(|(_, values)| values[run].chars().count()).max().unwrap_or(0);
    let mut begin = 0;
    while begin < comparison.runs.len() {
        let mut end = begin;
        let mut used = label_width;
        while end < comparison.runs.len() && (end == begin || used + GAP + width(end) <= WIDTH) {
            used += GAP + width(end);
            end += 1;
        }
        text.push('\n');
        for (label, values) in &rows {
            let mut line = format!("{label:label_width$}");
            for (run, value) in values.iter().enumerate().take(end).skip(begin) {
                let _ = write!(line, "{:GAP$}{value:>width$}", "", width = width(run));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        begin = end;
    }
    text
}

/// A line for each pair that tells something.
pub fn digests(comparison: &Comparison<'_>) -> String {
    let mut text = "weights after every step, by the logs\n".to_string();
    for pair in comparison.pairs.iter().filter(|pair| pair.is_shown) {
        let mark = if pair.broken_promise { "WARNING: " } else { "" };
        let _ = writeln!(text, "  {mark}{}", pair.sentence);
    }
    text
}

/// Labels, and a value for each run.
fn rows(comparison: &Comparison<'_>) -> Vec<(String, Vec<String>)> {
    let mut rows = Vec::new();
    let mut add = |label: &str, show: &dyn Fn(&Column<'_>) -> Option<String>| {
        let values = comparison.runs.iter().map(|column| cut(show(column)));
        rows.push((label.to_string(), values.collect()));
    };
    add("", &|column| Some(column.name.clone()));
    add("status", &|column| Some(column.status.to_string()));
    add("data set", &|column| Some(column.dataset.to_string()));
    // It has its row, whether it differs or not.
    for difference in comparison.differences.iter().filter(|difference| difference.field != "dataset") {
        let mut values = difference.values.iter();
        let values = comparison.runs.iter().map(|_| cut(values.next().cloned().flatten()));
        rows.push((difference.field.clone(), values.collect()));
    }
    let mut add = |label: &str, show: &dyn Fn(&Column<'_>) -> Option<String>| {
        let values = comparison.runs.iter().map(|column| cut(show(column)));
        rows.push((label.to_string(), values.collect()));
    };
    let loss = |loss: Option<f32>| loss.map(|loss| format!("{loss:.4}"));
    add("epochs trained", &|column| Some(column.epochs.to_string()));
    add("steps trained", &|column| Some(column.steps.to_string()));
    add("examples/s", &|column| column.examples_per_second.map(|rate| format!("{rate:.0}")));
    add("train seconds", &|column| column.train_seconds.map(|seconds| format!("{seconds:.2}")));
    add("validation loss", &|column| loss(column.val_loss));
    add("validation accuracy", &|column| column.val_accuracy.map(|share| percent(share, 1)));
    add("test loss", &|column| loss(column.test_loss));
    add("test accuracy", &|column| column.test_accuracy.map(|share| percent(share, 1)));
    add("workers lost", &|column| column.faults.map(|faults| faults.workers_dropped.to_string()));
    add("workers restarted", &|column| column.faults.map(|faults| faults.worker_restarts.to_string()));
    add("times resumed", &|column| Some(column.terms.saturating_sub(1).to_string()));
    add("weights", &|column| column.weights_digest.as_ref().map(|digest| digest.chars().take(16).collect()));
    rows
}

fn cut(value: Option<String>) -> String {
    let value = value.unwrap_or_else(|| "-".to_string());
    if value.chars().count() <= MOST_VALUE_WIDTH {
        return value;
    }
    // Of two paths the ends differ more often than the beginnings.
    let (characters, end): (Vec<char>, _) = (value.chars().collect(), MOST_VALUE_WIDTH - 6);
    let (begin, end) = (&characters[..5], &characters[characters.len() - end..]);
    begin.iter().chain(['…'].iter()).chain(end).collect()
}
