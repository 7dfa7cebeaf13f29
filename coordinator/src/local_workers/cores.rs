//! Which cores each local worker computes on, when together they fill the machine.
//!
//! A worker's threads hand work to each other many times in a step, which is cheapest on the same cores, and the system
//! spreads threads that sleep and wake so often badly: two workers may share a core while another has nothing to do.
//! Workers that leave cores free are left to the system. Each worker binds itself to its share.

use std::ops::Range;

use rustix::thread::{CpuSet, sched_getaffinity};

/// The cores that this process may use, in order; none if the system does not say.
pub fn allowed() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect(),
        Err(error) => {
            tracing::debug!("the cores of this process are unknown: {error}");
            Vec::new()
        }
    }
}

/// The share of `worker` (from 0) of the cores, if `workers` of `threads` threads each want at least all of them and
/// none wants all.
pub fn share(cores: &[usize], worker: u32, workers: u32, threads: u32) -> Option<Vec<usize>> {
    let (worker, workers, threads) = (worker as usize, workers as usize, threads as usize);
    if threads >= cores.len() || workers * threads < cores.len() {
        return None;
    }
    let range: Range<usize> = worker * threads..(worker + 1) * threads;
    Some(range.map(|thread| cores[thread % cores.len()]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(cores: &[usize], workers: u32, threads: u32) -> Vec<Option<Vec<usize>>> {
        (0..workers).map(|worker| share(cores, worker, workers, threads)).collect()
    }

    #[test]
    fn workers_that_fill_the_machine_divide_its_cores() {
        assert_eq!(shares(&[0, 1], 2, 1), [Some(vec![0]), Some(vec![1])]);
        assert_eq!(shares(&[4, 6, 7, 9], 2, 2), [Some(vec![4, 6]), Some(vec![7, 9])]);
        let four = [Some(vec![0]), Some(vec![1]), Some(vec![0]), Some(vec![1])];
        assert_eq!(shares(&[0, 1], 4, 1), four, "more workers than cores");
        let uneven = [Some(vec![0, 1]), Some(vec![2, 0])];
        assert_eq!(shares(&[0, 1, 2], 2, 2), uneven);
    }

    #[test]
    fn others_are_left_to_the_system() {
        assert_eq!(shares(&[0, 1], 1, 1), [None], "one core would stay idle");
        assert_eq!(shares(&[0, 1], 2, 2), [None, None], "each uses all cores");
        assert_eq!(shares(&[0], 2, 1), [None, None], "there is nothing to divide");
        assert_eq!(shares(&[], 2, 1), [None, None], "the cores are unknown");
    }

    #[test]
    fn this_process_may_use_at_least_one_core() {
        assert!(!allowed().is_empty());
    }
}
