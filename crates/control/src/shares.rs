//! The shares of leaves that follow from how long a leaf takes each member. Integers only.

use crate::leaf_time::LeafTime;

/// What a share is measured by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) threads: u32,
    pub(crate) leaf_time: Option<LeafTime>,
}

/// Nanoseconds of a leaf where nobody was measured yet: any number does, as only ratios count.
const UNMEASURED: u64 = 1 << 20;

/// Shares of `leaves` leaves such that the last member is ready as early as possible; written to `shares`.
///
/// Only a clear difference of measured speeds counts: otherwise shares follow threads, so that noise moves no leaf.
pub(crate) fn shares(candidates: &[Candidate], leaves: u32, times: &mut Vec<u64>, shares: &mut Vec<u32>) {
    leaf_times(candidates, times);
    shares.clear();
    // The least time in which all leaves are done: how many leaves fit into it grows with it.
    let fits = |time: u64| times.iter().map(|leaf| time / leaf).fold(0u64, u64::saturating_add);
    let (mut below, mut enough) =
        (0, times.iter().min().map_or(0, |least| least.saturating_mul(leaves.into())));
    while below + 1 < enough {
        let middle = below + (enough - below) / 2;
        if fits(middle) >= u64::from(leaves) {
            enough = middle;
        } else {
            below = middle;
        }
    }
    let capped = |leaf: &u64| u32::try_from(enough / leaf).unwrap_or(u32::MAX).min(leaves);
    shares.extend(times.iter().map(capped));
    // More leaves fit than there are: members that would end at the last moment give one back, the last members first.
    let mut surplus = fits(enough).saturating_sub(leaves.into());
    for (share, leaf) in shares.iter_mut().zip(times.iter()).rev() {
        if surplus > 0 && *share > 0 && (enough - 1) / leaf < enough / leaf {
            *share -= 1;
            surplus -= 1;
        }
    }
}

/// Nanoseconds that a leaf takes each candidate.
pub(crate) fn leaf_times(candidates: &[Candidate], times: &mut Vec<u64>) {
    times.clear();
    times.extend(candidates.iter().filter_map(|candidate| {
        candidate.leaf_time.map(|leaf_time| leaf_time.per_thread(candidate.threads).0)
    }));
    times.sort_unstable();
    let typical = match times.len() {
        0 => UNMEASURED,
        measured => times[(measured - 1) / 2].max(1),
    };
    times.clear();
    times.extend(candidates.iter().map(|candidate| {
        let measured = candidate.leaf_time.map(|leaf_time| leaf_time.per_thread(candidate.threads));
        let one_thread = match measured {
            Some((mean, deviation))
                if mean.abs_diff(typical) > deviation.saturating_mul(2).saturating_add(typical / 8) =>
            {
                mean
            }
            _ => typical,
        };
        (one_thread / u64::from(candidate.threads)).max(1)
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(mean: u64) -> Option<LeafTime> {
        Some(LeafTime::exact(mean, 0))
    }

    fn shares_of(candidates: &[(u32, Option<LeafTime>)], leaves: u32) -> Vec<u32> {
        let candidates: Vec<Candidate> =
            candidates.iter().map(|&(threads, leaf_time)| Candidate { threads, leaf_time }).collect();
        let mut result = Vec::new();
        shares(&candidates, leaves, &mut Vec::new(), &mut result);
        result
    }

    /// The best possible end, by trying every assignment.
    fn best_end(times: &[u64], leaves: u32) -> u64 {
        match times {
            [] => {
                if leaves == 0 {
                    0
                } else {
                    u64::MAX
                }
            }
            [first, rest @ ..] => (0..=leaves)
                .map(|own| (first * u64::from(own)).max(best_end(rest, leaves - own)))
                .min()
                .unwrap(),
        }
    }

    #[test]
    fn shares_end_as_early_as_the_best_assignment() {
        let cases: [&[u64]; 6] = [
            &[100, 1000, 100, 100],
            &[1000, 100],
            &[7, 11, 13],
            &[100, 450, 100, 900],
            &[5],
            &[1, 1, 64, 64],
        ];
        for times in cases {
            for leaves in [1, 2, 3, 7, 16] {
                let candidates: Vec<_> = times.iter().map(|time| (1, steady(*time))).collect();
                let shares = shares_of(&candidates, leaves);
                assert_eq!(shares.iter().sum::<u32>(), leaves, "{times:?}");
                let mut actual = Vec::new();
                leaf_times(
                    &candidates
                        .iter()
                        .map(|&(threads, leaf_time)| Candidate { threads, leaf_time })
                        .collect::<Vec<_>>(),
                    &mut actual,
                );
                let end =
                    shares.iter().zip(&actual).map(|(share, time)| u64::from(*share) * time).max().unwrap();
                assert_eq!(end, best_end(&actual, leaves), "{times:?}, {leaves} leaves: {shares:?}");
            }
        }
    }

    #[test]
    fn a_tenth_of_the_speed_gets_nothing_of_sixteen() {
        assert_eq!(
            shares_of(&[(1, steady(10)), (1, steady(100)), (1, steady(10)), (1, steady(10))], 16),
            [6, 0, 5, 5]
        );
        assert_eq!(shares_of(&[(1, steady(100)), (1, steady(10))], 16), [1, 15]);
    }

    #[test]
    fn without_a_clear_difference_shares_follow_threads() {
        assert_eq!(shares_of(&[(1, None); 3], 16), [6, 5, 5]);
        assert_eq!(shares_of(&[(1, None), (3, None)], 16), [4, 12]);
        assert_eq!(shares_of(&[(1, steady(100)), (1, steady(110)), (1, None)], 16), [6, 5, 5]);
        let noisy = Some(LeafTime::exact(200, 60));
        assert_eq!(shares_of(&[(1, steady(100)), (1, noisy)], 16), [8, 8]);
        assert_eq!(shares_of(&[(1, None), (1, None), (1, None)], 2), [1, 1, 0]);
    }

    #[test]
    fn one_outlier_is_not_believed_and_a_lasting_change_is() {
        let mut leaf_time = LeafTime::first(100);
        (0..50).for_each(|_| leaf_time.add(100));
        leaf_time.add(30_000);
        assert_eq!(shares_of(&[(1, steady(100)), (1, Some(leaf_time))], 16), [8, 8]);
        let mut leaf_time = LeafTime::first(100);
        let learned = (0..).take_while(|_| {
            leaf_time.add(1000);
            shares_of(&[(1, steady(100)), (1, Some(leaf_time))], 16) == [8, 8]
        });
        let steps = learned.count();
        assert!((3..20).contains(&steps), "{steps}");
        (0..60).for_each(|_| leaf_time.add(1000));
        assert_eq!(shares_of(&[(1, steady(100)), (1, Some(leaf_time))], 16), [15, 1]);
    }
}
