//! Threads that begin together, for measurements; one that cannot be made is an error, and not a measurement less.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Has each of `works` prepared and, when all are, done, each on a thread of its own. Gives what they found and how long
/// it took from the beginning of all to the end of the last.
///
/// # Errors
///
/// If the system gives no thread, or one panics.
pub fn together<W: Send, T: Send>(
    works: impl IntoIterator<Item = W>,
    prepare: impl Fn(&mut W) + Sync,
    work: impl Fn(W) -> T + Sync,
) -> Result<(Vec<T>, Duration)> {
    thread::scope(|scope| {
        let (ready, prepared) = channel();
        let (mut gates, mut running) = (Vec::new(), Vec::new());
        let (prepare, work) = (&prepare, &work);
        for mut subject in works {
            let (gate, opened) = channel();
            let ready = ready.clone();
            let body = move || {
                prepare(&mut subject);
                // Nobody waits if another thread could not be made; then the gate is gone, too.
                let _ = ready.send(());
                opened.recv().ok().map(|()| work(subject))
            };
            running.push(thread::Builder::new().spawn_scoped(scope, body).context("cannot start a thread")?);
            gates.push(gate);
        }
        drop(ready);
        prepared.iter().take(gates.len()).for_each(drop);
        let begin = Instant::now();
        for gate in gates {
            // One that is gone has panicked, which its end tells.
            let _ = gate.send(());
        }
        let ends = running.into_iter().map(|thread| thread.join().ok().flatten());
        let found = ends.collect::<Option<Vec<T>>>().context("a measuring thread panicked")?;
        Ok((found, begin.elapsed()))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn none_begins_before_all_are_prepared() {
        let prepared = AtomicUsize::new(0);
        let count = |number: &mut usize| {
            prepared.fetch_add(1, Ordering::SeqCst);
            *number += 1;
        };
        let (found, _) =
            together(0..5_usize, count, |number| (number, prepared.load(Ordering::SeqCst))).unwrap();
        assert_eq!(found, [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
        assert!(together(0..2, |_: &mut usize| (), |number| assert_eq!(number, 0)).is_err());
    }
}
