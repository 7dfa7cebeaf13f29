//! What a person watching sees: a progress bar on a terminal, and one line per epoch everywhere.
//!
//! Everything goes to the [`Terminal`], which is standard error. Means and rates here are for the eye; the exact
//! numbers stand in `metrics.jsonl`. The bar is redrawn by recorded time, so that fast steps do not pay for it; the
//! terminal's own thread draws it.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lockstep_records::{EpochRecord, StepRecord, grouped, percent};

use crate::{Sink, Terminal};

/// The bar's text is renewed when the steps since the last time took this long.
const RENEWAL_SECONDS: f64 = 0.1;

/// Weight of the newest renewal (and step, for the loss) in the moving averages of the bar.
const SMOOTHING: f64 = 0.1;

/// Digits of the digest in an epoch's line; the whole one is in `metrics.jsonl` and, at the end, in the summary.
const SHORT_DIGEST_DIGITS: usize = 16;

/// Shows the progress of a run.
pub struct ConsoleSink {
    terminal: Terminal,
    /// Not where it makes no sense or is not wanted.
    has_bar: bool,
    epochs: u32,
    steps_per_epoch: u64,
    steps: u64,
    epoch: StepSums,
    renewal: StepSums,
    smoothed: Smoothed,
}

/// Sums over some steps, for means over their examples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepSums {
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
    /// Shows a run that is planned to have `epochs` epochs of `steps_per_epoch` steps and `steps` steps in all. The bar
    /// appears if `progress` is wanted and the terminal is interactive.
    pub fn new(terminal: Terminal, epochs: u32, steps_per_epoch: u64, steps: u64, progress: bool) -> Self {
        let has_bar = progress && terminal.is_interactive();
        if has_bar {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(10));
            terminal.attach(&bar.with_style(style(terminal.has_color())));
            terminal.show_progress(0, "before the first step".to_owned());
        }
        Self {
            terminal,
            has_bar,
            epochs,
            steps_per_epoch,
            steps,
            epoch: StepSums::default(),
            renewal: StepSums::default(),
            smoothed: Smoothed::default(),
        }
    }

    /// Goes on in an epoch of which earlier processes of the run have recorded these steps.
    pub fn resume(&mut self, epoch: StepSums) {
        self.epoch = epoch;
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
            percent(accuracy.unwrap_or(f64::NAN), 1),
            grouped(examples_per_second.unwrap_or(0.0).round() as u64),
            clock(seconds_left),
        )
    }
}

impl Sink for ConsoleSink {
    fn step(&mut self, record: &StepRecord) {
        self.epoch.add(record);
        if !self.has_bar {
            return;
        }
        smooth(&mut self.smoothed.loss, record.loss.into());
        smooth(&mut self.smoothed.accuracy, record.accuracy.into());
        self.renewal.add(record);
        if self.renewal.seconds >= RENEWAL_SECONDS || record.step >= self.steps {
            smooth(&mut self.smoothed.examples_per_second, self.renewal.examples_per_second());
            smooth(&mut self.smoothed.seconds_per_step, self.renewal.seconds / self.renewal.steps as f64);
            self.renewal = StepSums::default();
            self.terminal.show_progress(record.step, self.status(record));
        }
    }

    fn epoch(&mut self, record: &EpochRecord) {
        let steps = record.step.saturating_sub(u64::from(record.epoch - 1) * self.steps_per_epoch);
        self.terminal.print_line(&epoch_line(record, self.epochs, self.epoch, steps));
        self.epoch = StepSums::default();
    }
}

impl Drop for ConsoleSink {
    fn drop(&mut self) {
        if self.has_bar {
            self.terminal.clear_progress();
        }
    }
}

impl StepSums {
    fn add(&mut self, record: &StepRecord) {
        self.add_step(record.examples, record.loss, record.accuracy, record.seconds);
    }

    pub(crate) fn add_step(&mut self, examples: u32, loss: f32, accuracy: f32, seconds: f64) {
        self.examples += u64::from(examples);
        self.loss += f64::from(loss) * f64::from(examples);
        self.correct += f64::from(accuracy) * f64::from(examples);
        self.seconds += seconds;
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

/// The line of one epoch that has so many `steps`; what is not known is left out. Means of fewer steps, because others
/// were trained by an earlier process and have no record, say so.
fn epoch_line(record: &EpochRecord, epochs: u32, means: StepSums, steps: u64) -> String {
    let width = epochs.to_string().len();
    let mut line = format!("epoch {:>width$}/{epochs}", record.epoch);
    if means.examples > 0 {
        let examples = means.examples as f64;
        let accuracy = percent(means.correct / examples, 1);
        line.push_str(&format!("  loss {:.4}  acc {accuracy}", means.loss / examples));
        if means.steps < steps {
            line.push_str(&format!("  (of {} of its {steps} steps)", means.steps));
        }
    }
    if let Some(loss) = record.val_loss {
        line.push_str(&format!("  val loss {loss:.4}"));
    }
    if let Some(accuracy) = record.val_accuracy {
        line.push_str(&format!("  val acc {}", percent(accuracy, 1)));
    }
    if means.examples > 0 {
        line.push_str(&format!("  {} ex/s", grouped(means.examples_per_second().round() as u64)));
    }
    let digest = record.weights_digest.get(..SHORT_DIGEST_DIGITS).unwrap_or(&record.weights_digest);
    line.push_str(&format!("  weights {digest}"));
    line
}

/// Seconds as `m:ss` or `h:mm:ss`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use lockstep_records::examples;

    use super::*;
    use crate::terminal::tests::{Captured, LONG};

    fn step(loss: f32, accuracy: f32, examples: u32, seconds: f64) -> StepRecord {
        StepRecord { loss, accuracy, examples, seconds, epoch: 3, ..examples::step() }
    }

    #[test]
    fn an_epoch_is_one_line_with_means_over_its_examples() {
        let stream = Captured::default();
        let terminal = Terminal::plain(stream.clone());
        let mut sink = ConsoleSink::new(terminal.clone(), 10, 2, 100, true);
        sink.step(&step(0.25, 1.0, 64, 0.001));
        sink.step(&step(0.5, 0.5, 64, 0.001));
        sink.epoch(&EpochRecord { step: 6, ..examples::epoch() });
        sink.step(&step(1.0, 0.0, 1, 1.0));
        let last =
            EpochRecord { epoch: 10, step: 19, val_loss: None, val_accuracy: None, ..examples::epoch() };
        sink.epoch(&last);
        drop(sink);
        assert!(terminal.flush(LONG));
        assert_eq!(
            stream.text(),
            "epoch  3/10  loss 0.3750  acc 75.0 %  val loss 0.1123  val acc 96.7 %  \
             64,000 ex/s  weights 1a2b3c4d5e6f7890\n\
             epoch 10/10  loss 1.0000  acc 0.0 %  1 ex/s  weights 1a2b3c4d5e6f7890\n"
        );
    }

    #[test]
    fn means_are_of_the_whole_epoch_or_say_of_how_much_of_it() {
        let stream = Captured::default();
        let terminal = Terminal::plain(stream.clone());
        let mut sink = ConsoleSink::new(terminal.clone(), 3, 4, 12, false);
        let mut earlier = StepSums::default();
        earlier.add_step(64, 0.25, 1.0, 0.001);
        for (earlier, expected) in [
            (earlier, "loss 0.3750  acc 75.0 %  (of 2 of its 4 steps)"),
            (StepSums::default(), "(of 1 of its 4 steps)"),
        ] {
            sink.resume(earlier);
            sink.step(&step(0.5, 0.5, 64, 0.001));
            sink.epoch(&EpochRecord { step: 12, ..examples::epoch() });
            assert!(terminal.flush(LONG));
            let text = stream.text();
            let line = text.lines().last().unwrap();
            assert!(line.contains(expected), "{line}");
        }
    }

    #[test]
    fn an_epoch_without_steps_has_no_training_means() {
        let record = EpochRecord { weights_digest: "short".to_owned(), ..examples::epoch() };
        assert_eq!(
            epoch_line(&record, 3, StepSums::default(), 7),
            "epoch 3/3  val loss 0.1123  val acc 96.7 %  weights short"
        );
    }

    #[test]
    fn the_bar_shows_position_and_status_and_goes_away() {
        let stream = Captured::default();
        let terminal = Terminal::plain(stream.clone());
        let mut sink = ConsoleSink::new(terminal.clone(), 10, 2, 2, false);
        let target = ProgressDrawTarget::term_like(Box::new(stream.clone()));
        terminal.attach(&ProgressBar::with_draw_target(Some(2), target).with_style(style(false)));
        sink.has_bar = true;

        sink.step(&step(0.5, 0.5, 64, 0.5));
        assert!(terminal.flush(LONG));
        sink.step(&StepRecord { step: 2, ..step(0.5, 0.5, 64, 0.5) });
        sink.epoch(&examples::epoch());
        assert!(terminal.flush(LONG));
        let text = stream.text();
        assert!(text.contains(" 50 % "), "{text:?}");
        assert!(
            text.contains("epoch 3/10  step 1  loss 0.5000  acc 50.0 %  128 ex/s  0:01 left"),
            "{text:?}"
        );
        assert!(text.contains("<clear><up 0>epoch  3/10  loss"), "the line tore the bar: {text:?}");

        drop(sink);
        assert!(terminal.flush(LONG));
        let before = stream.text().len();
        terminal.print_line("after");
        assert!(terminal.flush(LONG));
        assert_eq!(stream.text().split_off(before), "after\n", "the bar came back");
    }

    #[test]
    fn without_a_bar_a_step_shows_nothing() {
        let stream = Captured::default();
        let terminal = Terminal::plain(stream.clone());
        let mut sink = ConsoleSink::new(terminal.clone(), 1, 1, 1, true);
        sink.step(&step(0.5, 0.5, 64, 5.0));
        drop(sink);
        assert!(terminal.flush(LONG));
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
    }
}
