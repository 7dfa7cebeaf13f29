//! The curves of training: a bounded number of points, however many steps there are.
//!
//! Steps are gathered into points of equally many steps; when there are too many points, neighbours become one. So a
//! point is a mean over its steps, and the extremes of the loss are kept beside it. For the eye: exact numbers stand in
//! `metrics.jsonl`.

use serde::Serialize;

use crate::StepRecord;

/// More points than a wide screen has pixels for; some 100 kB as JSON.
const MAX_POINTS: usize = 2048;

/// Equally many steps.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    last_step: u64,
    steps: u64,
    examples: u64,
    loss: f64,
    least_loss: f32,
    greatest_loss: f32,
    accuracy: f64,
    seconds: f64,
    /// Seconds of all steps up to its end.
    elapsed: f64,
}

/// What is drawn of a bucket: last step, mean loss, least loss, greatest loss, mean accuracy, examples per second,
/// seconds of training up to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point(u64, f32, f32, f32, f32, f32, f32);

impl Point {
    /// The last step of it.
    pub fn step(&self) -> u64 {
        self.0
    }

    /// The mean loss of its steps.
    pub fn loss(&self) -> f32 {
        self.1
    }

    /// The mean accuracy of its steps, 0 to 1.
    pub fn accuracy(&self) -> f32 {
        self.4
    }
}

/// Loss, accuracy and throughput over all steps so far.
#[derive(Debug)]
pub struct Curve {
    buckets: Vec<Bucket>,
    /// It is not full yet.
    open: Bucket,
    /// Steps of a bucket.
    width: u64,
    /// How often neighbours became one: points of an earlier generation are void.
    generation: u32,
}

/// The points that somebody does not know yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Points {
    /// Whether they take the place of all points before.
    pub replace: bool,
    /// Steps of a point.
    pub width: u64,
    /// The points, in order.
    pub points: Vec<Point>,
}

/// Which points somebody knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    generation: Option<u32>,
    points: usize,
}

impl Default for Curve {
    fn default() -> Self {
        Self { buckets: Vec::new(), open: Bucket::default(), width: 1, generation: 0 }
    }
}

impl Curve {
    /// Takes in one step.
    pub fn step(&mut self, record: &StepRecord) {
        let one = Bucket {
            last_step: record.step,
            steps: 1,
            examples: record.examples.into(),
            loss: record.loss.into(),
            least_loss: record.loss,
            greatest_loss: record.loss,
            accuracy: record.accuracy.into(),
            seconds: record.seconds,
            elapsed: self.elapsed() + record.seconds,
        };
        self.open = if self.open.steps == 0 { one } else { self.open.with(&one) };
        if self.open.steps >= self.width {
            self.buckets.push(std::mem::take(&mut self.open));
            if self.buckets.len() == MAX_POINTS {
                self.halve();
            }
        }
    }

    /// The points beyond those known, which are known then.
    pub fn since(&self, known: &mut Known) -> Points {
        let replace = known.generation != Some(self.generation);
        let from = if replace { 0 } else { known.points.min(self.buckets.len()) };
        *known = Known { generation: Some(self.generation), points: self.buckets.len() };
        let points = self.buckets[from..].iter().map(Bucket::point).collect();
        Points { replace, width: self.width, points }
    }

    /// All points up to the last step: the last one may be of fewer steps than the others.
    pub fn whole(&self) -> Vec<Point> {
        let open = (self.open.steps > 0).then_some(&self.open);
        self.buckets.iter().chain(open).map(Bucket::point).collect()
    }

    fn elapsed(&self) -> f64 {
        let last = if self.open.steps > 0 { Some(&self.open) } else { self.buckets.last() };
        last.map_or(0.0, |bucket| bucket.elapsed)
    }

    fn halve(&mut self) {
        self.buckets =
            self.buckets.chunks(2).map(|pair| pair[1..].iter().fold(pair[0], |a, b| a.with(b))).collect();
        self.width *= 2;
        self.generation += 1;
    }
}

impl Bucket {
    fn with(&self, later: &Self) -> Self {
        Self {
            last_step: later.last_step,
            steps: self.steps + later.steps,
            examples: self.examples + later.examples,
            loss: self.loss + later.loss,
            least_loss: if later.least_loss < self.least_loss { later.least_loss } else { self.least_loss },
            greatest_loss: if later.greatest_loss > self.greatest_loss {
                later.greatest_loss
            } else {
                self.greatest_loss
            },
            accuracy: self.accuracy + later.accuracy,
            seconds: self.seconds + later.seconds,
            elapsed: later.elapsed,
        }
    }

    fn point(&self) -> Point {
        let steps = self.steps as f64;
        let rate = if self.seconds > 0.0 { self.examples as f64 / self.seconds } else { 0.0 };
        let mean = |sum: f64| (sum / steps) as f32;
        Point(
            self.last_step,
            mean(self.loss),
            self.least_loss,
            self.greatest_loss,
            mean(self.accuracy),
            rate.round() as f32,
            self.elapsed as f32,
        )
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::examples;

    /// A step of 64 examples and a tenth of a second.
    pub fn step(step: u64, loss: f32) -> StepRecord {
        StepRecord {
            step,
            loss,
            accuracy: 0.5,
            seconds: 0.1,
            examples_per_second: 640.0,
            send_seconds: 0.01,
            wait_seconds: 0.05,
            reduce_seconds: 0.02,
            update_seconds: 0.01,
            bytes_sent: 10,
            bytes_received: 20,
            ..examples::step()
        }
    }

    #[test]
    fn points_are_known_once() {
        let (mut curve, mut known) = (Curve::default(), Known::default());
        curve.step(&step(1, 2.0));
        let first = curve.since(&mut known);
        assert!(first.replace && first.width == 1);
        assert_eq!(first.points, [Point(1, 2.0, 2.0, 2.0, 0.5, 640.0, 0.1)]);
        let nothing = curve.since(&mut known);
        assert!(!nothing.replace && nothing.points.is_empty());
        curve.step(&step(2, 1.0));
        let second = curve.since(&mut known);
        assert_eq!((second.replace, second.points.len(), second.points[0].0), (false, 1, 2));
    }

    #[test]
    fn a_million_steps_are_a_bounded_number_of_points_without_a_gap() {
        let (mut curve, mut known) = (Curve::default(), Known::default());
        let mut page: Vec<Point> = Vec::new();
        for number in 1..=1_000_000 {
            curve.step(&step(number, if number % 2 == 0 { 1.0 } else { 3.0 }));
            // A page that looks now and then has the same points as one that looks once at the end.
            if number % 777 == 0 || number == 1_000_000 {
                let Points { replace, points, .. } = curve.since(&mut known);
                if replace {
                    page.clear();
                }
                page.extend(points);
            }
        }
        assert!(page.len() < MAX_POINTS && page.len() >= MAX_POINTS / 2 - 1, "{}", page.len());
        let whole = curve.since(&mut Known::default());
        assert_eq!(page, whole.points);
        for (index, point) in whole.points.iter().enumerate() {
            assert_eq!(point.0, (index as u64 + 1) * whole.width);
            assert_eq!((point.1, point.2, point.3, point.4), (2.0, 1.0, 3.0, 0.5));
        }
    }
}
