//! The threads that read and draw data: one for each core, and where the system gives none, the one that asks.
//!
//! Rayon's own pool panics there.

use std::sync::LazyLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

static POOL: LazyLock<Option<ThreadPool>> = LazyLock::new(|| ThreadPoolBuilder::new().build().ok());

/// Does `work`, whose parallel iterators take all cores.
pub(crate) fn on_all_cores<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match &*POOL {
        Some(pool) => pool.install(work),
        None => alone(work),
    }
}

/// Does `work` on this thread, and no other.
fn alone<R>(work: impl FnOnce() -> R) -> R {
    // A pool of this thread, which keeps parallel iterators from rayon's own. The second time the thread has one already.
    let own = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    let result = work();
    drop(own);
    result
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rayon::prelude::*;

    use super::*;

    #[test]
    fn alone_means_on_this_thread_as_often_as_one_likes() {
        for _ in 0..3 {
            let here = thread::current().id();
            let threads: Vec<_> =
                alone(|| (0..100).into_par_iter().map(|_| thread::current().id()).collect());
            assert!(threads.iter().all(|thread| *thread == here));
        }
    }
}
