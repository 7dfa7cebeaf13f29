//! Draws the faults of a random plan from its seed: the same seed, the same faults.
//!
//! Owns its generator, so that a plan means the same with every release. Reads no clock and does nothing to anybody.

use std::time::Duration;

use super::plan::{Action, Fault, Kind, Way};

/// What a random plan says.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// Mean time from one fault to the next; each is uniform from nothing to twice that.
    pub every: Duration,
    /// The kinds, all as likely; one named twice is twice as likely.
    pub kinds: Vec<Kind>,
    /// When to end.
    pub end: End,
    /// The shortest that a fault lasts.
    pub shortest: Duration,
    /// The longest that a fault lasts; between the two, every order of magnitude is as likely.
    pub longest: Duration,
    /// Mean time until a killed process is started again; each is uniform from nothing to twice that.
    pub restart_after: Duration,
}

/// When a random plan ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After so much time.
    Time(Duration),
    /// After so many faults.
    Faults(u64),
}

impl Drawn {
    /// The faults of a seed, in the order of their times, for that many workers.
    pub fn faults(self, seed: u64, workers: u32) -> impl Iterator<Item = Fault> {
        let (end_time, end_count) = match self.end {
            End::Time(time) => (time, usize::MAX),
            End::Faults(faults) => (Duration::MAX, usize::try_from(faults).unwrap_or(usize::MAX)),
        };
        let mut draw = SplitMix64(seed);
        let mut at = Duration::ZERO;
        std::iter::repeat_with(move || {
            at += draw.up_to_twice(self.every);
            Fault { at, action: self.action(&mut draw, workers) }
        })
        .take_while(move |fault| fault.at <= end_time)
        .take(end_count)
    }

    fn action(&self, draw: &mut SplitMix64, workers: u32) -> Action {
        let kind = self.kinds[draw.below(self.kinds.len() as u64) as usize];
        // Drawn for every kind, so that the faults after this one do not depend on what it is.
        let worker = draw.below(workers.into()) as u32 + 1;
        let hold = self.hold(draw);
        let restart_after = draw.up_to_twice(self.restart_after);
        let factor = 2 + draw.below(9) as u32;
        match kind {
            Kind::Kill => Action::Kill { worker, restart_after },
            Kind::Stop => Action::Stop { worker, hold },
            Kind::Slow => Action::Slow { worker, hold, factor },
            Kind::Cut => Action::Cut { worker, hold, way: Way::Both },
            Kind::CutUp => Action::Cut { worker, hold, way: Way::Up },
            Kind::CutDown => Action::Cut { worker, hold, way: Way::Down },
            Kind::Flap => Action::Flap { worker, hold, every: (hold / 8).max(Duration::from_millis(1)) },
            Kind::Reset => Action::Reset { worker },
            // A worker that joins leaves again, and one that leaves comes back: their number would grow or shrink without end.
            Kind::Join => Action::Join { hold: Some(hold) },
            Kind::Leave => Action::Leave { worker, restart_after: Some(restart_after) },
            Kind::KillCoordinator => Action::KillCoordinator { restart_after },
            Kind::StopCoordinator => Action::StopCoordinator { hold },
        }
    }

    /// Log-uniform: short and long faults find different mistakes.
    fn hold(&self, draw: &mut SplitMix64) -> Duration {
        let (shortest, longest) =
            (self.shortest.as_secs_f64().max(1e-3), self.longest.as_secs_f64().max(1e-3));
        let exponent = shortest.ln() + (longest.ln() - shortest.ln()) * draw.share();
        Duration::from_secs_f64(exponent.exp())
    }
}

/// Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform on `0..n`, up to a bias of n / 2^64.
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// Uniform on 0 to 1, without 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn up_to_twice(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(2.0 * self.share())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(end: End) -> Drawn {
        Drawn {
            every: Duration::from_secs(2),
            kinds: Kind::ALL.to_vec(),
            end,
            shortest: Duration::from_millis(100),
            longest: Duration::from_secs(3),
            restart_after: Duration::from_millis(500),
        }
    }

    #[test]
    fn the_generator_is_the_published_one() {
        // The first outputs for seed 1234567, from the generator's test vectors.
        let mut draw = SplitMix64(1_234_567);
        let found: Vec<u64> = (0..3).map(|_| draw.next()).collect();
        assert_eq!(found, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_one_others() {
        let faults = |seed| drawn(End::Faults(100)).faults(seed, 4).collect::<Vec<_>>();
        assert_eq!(faults(7).len(), 100);
        assert_eq!(faults(7), faults(7));
        assert_ne!(faults(7), faults(8));
        let longer: Vec<_> = drawn(End::Faults(200)).faults(7, 4).take(100).collect();
        assert_eq!(longer, faults(7), "more faults are the same ones and then others");
    }

    #[test]
    fn a_plan_for_a_time_ends_with_it() {
        let faults: Vec<_> = drawn(End::Time(Duration::from_secs(4000))).faults(1, 4).collect();
        assert!((1800..2200).contains(&faults.len()), "one every 2 s on average: {}", faults.len());
        assert!(faults.last().unwrap().at <= Duration::from_secs(4000));
        assert!(faults.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    #[test]
    fn faults_are_spread_over_kinds_workers_and_durations() {
        let faults: Vec<_> = drawn(End::Faults(2000)).faults(1, 4).collect();
        for kind in Kind::ALL {
            let count = faults.iter().filter(|fault| fault.action.kind() == kind).count();
            assert!((110..230).contains(&count), "{kind}: {count}");
        }
        for worker in 1..=4 {
            assert!(faults.iter().any(|fault| fault.action.worker() == Some(worker)), "{worker}");
        }
        assert!(
            faults.iter().all(|fault| fault.action.worker().is_none_or(|worker| (1..=4).contains(&worker)))
        );
        let stops: Vec<Duration> = faults
            .iter()
            .filter(|fault| fault.action.kind() == Kind::Stop)
            .filter_map(|fault| fault.action.lasts())
            .collect();
        // Allowing for the rounding of a logarithm and back.
        let bounds = Duration::from_millis(99)..=Duration::from_millis(3001);
        assert!(stops.iter().all(|hold| bounds.contains(hold)), "{stops:?}");
        // The geometric middle of 0.1 s and 3 s.
        let short = stops.iter().filter(|hold| hold.as_secs_f64() < 0.55).count();
        assert!(short * 3 > stops.len() && short * 3 < stops.len() * 2, "{short} of {}", stops.len());
    }
}
