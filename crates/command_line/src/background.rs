//! Work that may hang, on threads of its own: one that hangs is left behind, and ends with the process.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Does `work` on a thread of its own; here, if the system has none.
pub fn in_background<T, W>(name: &str, work: W) -> impl Future<Output = T> + use<T, W>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    spawn(name, move || {
        // Whoever asked for it may no longer wait.
        let _ = sender.send(work());
    });
    async move {
        match receiver.await {
            Ok(done) => done,
            // The thread panicked, and has reported that: there is no result.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Does `work` on a thread of its own; here, if the system has none.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    let work = Arc::new(Mutex::new(Some(work)));
    let take = |work: &Mutex<Option<_>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let theirs = Arc::clone(&work);
    let thread = std::thread::Builder::new().name(name.to_string());
    let spawned = thread.spawn(move || {
        if let Some(work) = take(&theirs) {
            work();
        }
    });
    if spawned.is_err()
        && let Some(work) = take(&work)
    {
        work();
    }
}
