//! The curves of runs as numbers, and as one line of bars each for a terminal of 80 columns.
//!
//! All runs share a scale, so that lines can be held against each other.

use std::fmt::Write;

use lockstep_records::{Point, percent};
use serde::Serialize;

use super::run::Run;

/// From low to high.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// More epochs than this are shown by so many of them, the first and the last included.
const MOST_BARS: usize = 36;

/// Some neighbouring steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The last of them.
    pub step: u64,
    /// Their mean loss.
    pub loss: f32,
    /// Their mean accuracy.
    pub accuracy: f32,
}

impl CurvePoint {
    pub(super) fn of(point: &Point) -> Self {
        Self { step: point.step(), loss: point.loss(), accuracy: point.accuracy() }
    }
}

/// Loss and accuracy of every epoch of every run, on the validation set; `names` has a short name for each run. Empty
/// if no run has such records.
pub fn text(names: &[String], runs: &[Run]) -> String {
    let of = |value: fn(&Run) -> Vec<Option<f32>>| runs.iter().map(value).collect::<Vec<_>>();
    let losses = of(|run| run.epochs.iter().map(|epoch| epoch.val_loss).collect());
    let accuracies = of(|run| run.epochs.iter().map(|epoch| epoch.val_accuracy).collect());
    [
        lines("validation loss", names, &losses, |loss| format!("{loss:.4}")),
        lines("validation accuracy", names, &accuracies, |share| percent(share, 1)),
    ]
    .concat()
}

fn lines(title: &str, names: &[String], runs: &[Vec<Option<f32>>], show: fn(f32) -> String) -> String {
    let known = || runs.iter().flatten().flatten().copied().filter(|value| value.is_finite());
    let (Some(least), Some(greatest)) = (known().reduce(f32::min), known().reduce(f32::max)) else {
        return String::new();
    };
    let mut text = format!(
        "{title}, epoch by epoch ({} is {}, {} is {})\n",
        BARS[0],
        show(least),
        BARS[BARS.len() - 1],
        show(greatest)
    );
    let bars = runs.iter().map(|run| bars(run, least, greatest)).collect::<Vec<_>>();
    let width = bars.iter().map(|bars| bars.chars().count()).max().unwrap_or(0);
    for ((name, run), bars) in names.iter().zip(runs).zip(bars) {
        let ends = run.first().zip(run.last()).map(|(first, last)| {
            [first, last].map(|value| value.filter(|value| value.is_finite()).map_or("-".to_string(), show))
        });
        let ends = ends.map_or("no records".to_string(), |[first, last]| format!("{first} to {last}"));
        let _ = writeln!(text, "  {name}  {bars:width$}  {ends}");
    }
    text.push('\n');
    text
}

/// A bar for each value, or for [`MOST_BARS`] of them; a space for one that is absent or not finite.
fn bars(values: &[Option<f32>], least: f32, greatest: f32) -> String {
    let count = values.len().min(MOST_BARS);
    let chosen = (0..count).map(|bar| values[bar * (values.len() - 1) / (count - 1).max(1)]);
    let bar = |value: Option<f32>| match value.filter(|value| value.is_finite()) {
        Some(_) if greatest <= least => BARS[0],
        Some(value) => {
            let share = (value - least) / (greatest - least);
            BARS[((share * BARS.len() as f32) as usize).min(BARS.len() - 1)]
        }
        None => ' ',
    };
    chosen.map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_runs_share_a_scale() {
        let names = ["A", "B", "C"].map(str::to_string);
        let runs = [vec![Some(0.0), Some(0.5), Some(1.0)], vec![Some(0.5), Some(f32::NAN)], Vec::new()];
        let text = lines("loss", &names, &runs, |value| format!("{value:.1}"));
        let expected = "loss, epoch by epoch (▁ is 0.0, █ is 1.0)\n  A  ▁▅█  0.0 to 1.0\n  B  ▅    0.5 to -\n  \
                        C       no records\n\n";
        assert_eq!(text, expected);
        assert_eq!(lines("loss", &names, &[Vec::new(), vec![None]], |_| String::new()), "");
    }

    #[test]
    fn many_epochs_fit_a_line_with_the_first_and_the_last() {
        let values: Vec<Option<f32>> = (0..1000).map(|epoch| Some(epoch as f32)).collect();
        let bars = bars(&values, 0.0, 999.0);
        assert_eq!(bars.chars().count(), MOST_BARS);
        assert!(bars.starts_with('▁') && bars.ends_with('█'), "{bars}");
        assert_eq!(super::bars(&[Some(3.0)], 3.0, 3.0), "▁");
    }
}
