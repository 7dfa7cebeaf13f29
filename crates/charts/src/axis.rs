//! An axis: where values are in a drawing, and where it has ticks.

/// A range of values over a range of pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// The distance of ticks.
    tick: f64,
    /// The values at both ends, in ticks.
    ends: (f64, f64),
    /// The pixels at both ends.
    pixels: (f64, f64),
}

impl Axis {
    /// With ticks at both ends, the nearest to `least` and `greatest` that have both between them.
    pub fn between_ticks(least: f64, greatest: f64, pixels: (f64, f64)) -> Self {
        let range = greatest - least;
        // Values that are all the same have an axis, too.
        let tick = tick(if range > 0.0 { range } else { greatest.abs().max(1.0) });
        let first = (least / tick).floor();
        Self { tick, ends: (first, (greatest / tick).ceil().max(first + 1.0)), pixels }
    }

    /// From 0 to `most`, where it need not have a tick.
    pub fn from_zero(most: f64, pixels: (f64, f64)) -> Self {
        let tick = tick(most);
        Self { tick, ends: (0.0, most / tick), pixels }
    }

    /// The values with a tick, in order.
    pub fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        let Self { tick, ends: (first, last), .. } = *self;
        // Allowing for the rounding of a division.
        let count = ((last - first) * 1.0001) as u32;
        (0..=count).map(move |number| (first + f64::from(number)) * tick)
    }

    /// The pixels at both ends.
    pub fn pixels(&self) -> (f64, f64) {
        self.pixels
    }

    /// Where a value is.
    pub fn place(&self, value: f64) -> f64 {
        let ((first, last), (from, to)) = (self.ends, self.pixels);
        from + (value / self.tick - first) / (last - first) * (to - from)
    }

    /// The value of a tick, with as many digits as ticks differ in.
    pub fn show(&self, value: f64) -> String {
        if value.abs() >= 1e7 {
            return format!("{value:.0e}");
        }
        let decimals = (-self.tick.log10().floor()).max(0.0) as usize;
        format!("{value:.decimals$}")
    }
}

/// The distance of ticks, of which about five lie below `most`: 1, 2 or 5 times a power of ten.
fn tick(most: f64) -> f64 {
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
    factor * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!([7.0, 10.0, 11.0, 26.0, 40_000.0].map(tick), [2.0, 2.0, 5.0, 10.0, 10_000.0]);
        let ticks = |axis: Axis| axis.ticks().map(|value| axis.show(value)).collect::<Vec<_>>();
        assert_eq!(ticks(Axis::from_zero(28.0, (0.0, 1.0))), ["0", "10", "20"]);
        assert_eq!(ticks(Axis::from_zero(1.0, (0.0, 1.0))), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(
            ticks(Axis::between_ticks(0.3, 1.1, (0.0, 1.0))),
            ["0.2", "0.4", "0.6", "0.8", "1.0", "1.2"]
        );
        assert_eq!(ticks(Axis::between_ticks(3.0, 3.0, (0.0, 1.0))), ["3", "4"]);
        assert_eq!(Axis::from_zero(5e7, (0.0, 1.0)).show(2e7), "2e7");
    }

    #[test]
    fn places_are_in_proportion() {
        let axis = Axis::between_ticks(0.0, 10.0, (100.0, 0.0));
        assert_eq!([0.0, 5.0, 10.0].map(|value| axis.place(value)), [100.0, 50.0, 0.0]);
    }
}
