//! Pauses for addresses of members that broke the protocol or sent wrong results: they come again under another name, and
//! each time costs the run something.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::fair_queue::Subnet;

/// The pause after the first conviction; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An address without a conviction for so long begins anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Addresses that are remembered; the one whose pause ends first is forgotten for another.
const MAX_SUBNETS: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Penalty {
    pause: Duration,
    convicted: Instant,
}

impl Penalty {
    fn until(&self) -> Instant {
        self.convicted + self.pause
    }
}

/// What is remembered of addresses.
#[derive(Debug, Default)]
pub(super) struct Penalties(BTreeMap<Subnet, Penalty>);

impl Penalties {
    /// A member from there was at fault.
    pub fn convict(&mut self, subnet: Subnet, now: Instant) {
        let earlier = self.0.get(&subnet).filter(|penalty| now < penalty.convicted + FORGOTTEN_AFTER);
        let pause = earlier.map_or(FIRST_PAUSE, |penalty| (2 * penalty.pause).min(LONGEST_PAUSE));
        if self.0.len() == MAX_SUBNETS
            && !self.0.contains_key(&subnet)
            && let Some(first) =
                self.0.iter().min_by_key(|(_, penalty)| penalty.until()).map(|(subnet, _)| *subnet)
        {
            self.0.remove(&first);
        }
        self.0.insert(subnet, Penalty { pause, convicted: now });
    }

    /// Whether nobody from there is let in now.
    pub fn pauses(&self, subnet: Subnet, now: Instant) -> bool {
        self.0.get(&subnet).is_some_and(|penalty| now < penalty.until())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn from(number: u32) -> Subnet {
        IpAddr::from(number.to_be_bytes()).into()
    }

    #[test]
    fn each_conviction_doubles_the_pause_of_its_address_until_it_is_forgotten() {
        let (mut penalties, start) = (Penalties::default(), Instant::now());
        let mut now = start;
        for pause_ms in [100, 200, 400] {
            penalties.convict(from(1), now);
            assert!(penalties.pauses(from(1), now + Duration::from_millis(pause_ms - 1)));
            now += Duration::from_millis(pause_ms);
            assert!(!penalties.pauses(from(1), now) && !penalties.pauses(from(2), now));
        }
        (0..20).for_each(|_| penalties.convict(from(1), now));
        assert!(!penalties.pauses(from(1), now + LONGEST_PAUSE));
        now += FORGOTTEN_AFTER;
        penalties.convict(from(1), now);
        assert!(!penalties.pauses(from(1), now + FIRST_PAUSE));
    }

    #[test]
    fn no_number_of_addresses_is_remembered_for_ever() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        for number in 0..5000 {
            penalties.convict(from(number), now + Duration::from_millis(number.into()));
        }
        assert_eq!(penalties.0.len(), MAX_SUBNETS);
        assert!(penalties.pauses(from(4999), now + Duration::from_millis(5000)));
    }
}
