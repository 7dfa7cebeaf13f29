//! What a person watching sees: a progress bar on a terminal, and one line per epoch everywhere.
//!
//! Everything goes to the [`Terminal`], which is standard error. Means and rates here are for the eye; the exact
//! numbers stand in `metrics.jsonl`. The bar is redrawn by recorded time, so that fast steps do not pay for it.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{EpochRecord, Sink, StepRecord, Terminal};

/// The bar's text is renewed when the steps since the last time took this long.
const RENEWAL_SECONDS: f64 = 0.1;

/// Weight of the newest renewal (and step, for the loss) in the moving averages of the bar.
const SMOOTHING: f64 = 0.1;

/// Digits of the digest in an epoch's line; the whole one is in `metrics.jsonl` and, at the end, in the summary.
const SHORT_DIGEST_DIGITS: usize = 16;

/// Shows the progress of a run.
pub struct ConsoleSink {
    terminal: Terminal,
    /// Absent where it makes no sense or is not wanted.
    bar: Option<ProgressBar>,
    epochs: u32,
    steps: u64,
    epoch: Means,
    renewal: Means,
    smoothed: Smoothed,
}

/// Sums since the last reset, for means over examples.
#[derive(Clone, Copy, Debug, Default)]
struct Means {
    examples: u64,
    loss: f64,
    correct: f64,
    seconds: f64,
    steps: u64,
}

/// Moving averages; absent before the first value.
#[derive(Clone, Copy, Debug, Default)]
struct Smoothed {
    loss: Option<f64>,
    accuracy: Option<f64>,
    examples_per_second: Option<f64>,
    seconds_per_step: Option<f64>,
}

impl ConsoleSink {
    /// Shows a run that is planned to have `epochs` epochs and `steps` steps in all. The bar appears if `progress` is
    /// wanted and the terminal is interactive.
    pub fn new(terminal: Terminal, epochs: u32, steps: u64, progress: bool) -> Self {
        let bar = (progress && terminal.is_interactive()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(style(terminal.has_color()));
            bar.set_message("before the first step");
            terminal.attach(&bar);
            bar
        });
        Self {
            terminal,
            bar,
            epochs,
            steps,
            epoch: Means::default(),
            renewal: Means::default(),
            smoothed: Smoothed::default(),
        }
    }

    /// What stands right of the bar.
    fn status(&self, record: &StepRecord) -> String {
        let Smoothed { loss, accuracy, examples_per_second, seconds_per_step } = self.smoothed;
        let seconds_left = seconds_per_step.unwrap_or(0.0) * self.steps.saturating_sub(record.step) as f64;
        format!(
            "epoch {}/{}  step {}  loss {:.4}  acc {}  {} ex/s  {} left",
            record.epoch,
            self.epochs,
            record.step,
            loss.unwrap_or(f64::NAN),
            percent(accuracy.unwrap_or(f64::NAN)),
            grouped(examples_per_second.unwrap_or(0.0).round() as u64),
            clock(seconds_left),
        )
    }
}

impl Sink for ConsoleSink {
    fn step(&mut self, record: &StepRecord) {
        self.epoch.add(record);
        let Some(bar) = &self.bar else { return };
        smooth(&mut self.smoothed.loss, record.loss.into());
        smooth(&mut self.smoothed.accuracy, record.accuracy.into());
        self.renewal.add(record);
        if self.renewal.seconds >= RENEWAL_SECONDS || record.step >= self.steps {
            smooth(&mut self.smoothed.examples_per_second, self.renewal.examples_per_second());
            smooth(&mut self.smoothed.seconds_per_step, self.renewal.seconds / self.renewal.steps as f64);
            self.renewal = Means::default();
            bar.set_position(record.step);
            bar.set_message(self.status(record));
        }
    }

    fn epoch(&mut self, record: &EpochRecord) {
        self.terminal.print_line(&epoch_line(record, self.epochs, self.epoch));
        self.epoch = Means::default();
    }
}

impl Drop for ConsoleSink {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            self.terminal.detach();
        }
    }
}

impl Means {
    fn add(&mut self, record: &StepRecord) {
        let examples = f64::from(record.examples);
        self.examples += u64::from(record.examples);
        self.loss += f64::from(record.loss) * examples;
        self.correct += f64::from(record.accuracy) * examples;
        self.seconds += record.seconds;
        self.steps += 1;
    }

    fn examples_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.examples as f64 / self.seconds } else { 0.0 }
    }
}

fn style(color: bool) -> ProgressStyle {
    let template = if color {
        "{percent:>3} % {wide_bar:.cyan/bright.black} {msg}"
    } else {
        "{percent:>3} % {wide_bar} {msg}"
    };
    ProgressStyle::with_template(template).expect("the template is constant").progress_chars("━╸─")
}

fn smooth(average: &mut Option<f64>, value: f64) {
    *average = Some(average.map_or(value, |average| average + SMOOTHING * (value - average)));
}

/// The line of one epoch; what is not known is left out.
fn epoch_line(record: &EpochRecord, epochs: u32, means: Means) -> String {
    let width = epochs.to_string().len();
    let mut line = format!("epoch {:>width$}/{epochs}", record.epoch);
    if means.examples > 0 {
        let examples = means.examples as f64;
        let accuracy = percent(means.correct / examples);
        line.push_str(&format!("  loss {:.4}  acc {accuracy}", means.loss / examples));
    }
    if let Some(loss) = record.val_loss {
        line.push_str(&format!("  val loss {loss:.4}"));
    }
    if let Some(accuracy) = record.val_accuracy {
        line.push_str(&format!("  val acc {}", percent(accuracy.into())));
    }
    if means.examples > 0 {
        line.push_str(&format!("  {} ex/s", grouped(means.examples_per_second().round() as u64)));
    }
    let digest = record.weights_digest.get(..SHORT_DIGEST_DIGITS).unwrap_or(&record.weights_digest);
    line.push_str(&format!("  weights {digest}"));
    line
}

/// A share of 0 to 1 as `96.1 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A number with a comma before every three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as `m:ss` or `h:mm:ss`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::examples, terminal::tests::Captured};

    fn step(loss: f32, accuracy: f32, examples: u32, seconds: f64) -> StepRecord {
        StepRecord { loss, accuracy, examples, seconds, epoch: 3, ..examples::step() }
    }

    #[test]
    fn an_epoch_is_one_line_with_means_over_its_examples() {
        let stream = Captured::default();
        let mut sink = ConsoleSink::new(Terminal::plain(stream.clone()), 10, 100, true);
        sink.step(&step(0.25, 1.0, 64, 0.001));
        sink.step(&step(0.5, 0.5, 64, 0.001));
        sink.epoch(&examples::epoch());
        sink.step(&step(1.0, 0.0, 1, 1.0));
        sink.epoch(&EpochRecord { epoch: 10, val_loss: None, val_accuracy: None, ..examples::epoch() });
        drop(sink);
        assert_eq!(
            stream.text(),
            "epoch  3/10  loss 0.3750  acc 75.0 %  val loss 0.1123  val acc 96.7 %  \
             64,000 ex/s  weights 1a2b3c4d5e6f7890\n\
             epoch 10/10  loss 1.0000  acc 0.0 %  1 ex/s  weights 1a2b3c4d5e6f7890\n"
        );
    }

    #[test]
    fn an_epoch_without_steps_has_no_training_means() {
        let record = EpochRecord { weights_digest: "short".to_owned(), ..examples::epoch() };
        assert_eq!(
            epoch_line(&record, 3, Means::default()),
            "epoch 3/3  val loss 0.1123  val acc 96.7 %  weights short"
        );
    }

    #[test]
    fn the_bar_shows_position_and_status_and_goes_away() {
        let stream = Captured::default();
        let terminal = Terminal::plain(stream.clone());
        let mut sink = ConsoleSink::new(terminal.clone(), 10, 2, false);
        let target = ProgressDrawTarget::term_like(Box::new(stream.clone()));
        let bar = ProgressBar::with_draw_target(Some(2), target).with_style(style(false));
        terminal.attach(&bar);
        sink.bar = Some(bar);

        sink.step(&step(0.5, 0.5, 64, 0.5));
        sink.step(&StepRecord { step: 2, ..step(0.5, 0.5, 64, 0.5) });
        sink.epoch(&examples::epoch());
        let text = stream.text();
        assert!(text.contains(" 50 % "), "{text:?}");
        assert!(
            text.contains("epoch 3/10  step 1  loss 0.5000  acc 50.0 %  128 ex/s  0:01 left"),
            "{text:?}"
        );
        assert!(text.contains("<clear><up 0>epoch  3/10  loss"), "the line tore the bar: {text:?}");

        drop(sink);
        let before = stream.text().len();
        terminal.print_line("after");
        assert_eq!(stream.text().split_off(before), "after\n", "the bar came back");
    }

    #[test]
    fn without_a_bar_a_step_shows_nothing() {
        let stream = Captured::default();
        let mut sink = ConsoleSink::new(Terminal::plain(stream.clone()), 1, 1, true);
        sink.step(&step(0.5, 0.5, 64, 5.0));
        drop(sink);
        assert_eq!(stream.text(), "");
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [0, 999, 1000, 12_345, 1_234_567].map(grouped),
            ["0", "999", "1,000", "12,345", "1,234,567"]
        );
        assert_eq!([0.0, 9.1, 65.0, 3723.0].map(clock), ["0:00", "0:10", "1:05", "1:02:03"]);
        assert_eq!(clock(f64::NAN), "0:00");
        assert_eq!(percent(0.961), "96.1 %");
    }
}
