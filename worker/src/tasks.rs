//! The tasks of one connection: they end with its membership, whatever state the network left them in.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::rt::Executor;
use tokio::task::JoinSet;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Holds the tasks; its drop ends them.
pub(crate) struct Tasks(Spawner);

/// Starts tasks for a [`Tasks`], until that is dropped.
#[derive(Clone)]
pub(crate) struct Spawner(Arc<Mutex<Option<JoinSet<()>>>>);

impl Default for Tasks {
    fn default() -> Self {
        Self(Spawner(Arc::new(Mutex::new(Some(JoinSet::new())))))
    }
}

impl Tasks {
    /// What starts tasks.
    pub(crate) fn executor(&self) -> Spawner {
        self.0.clone()
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        let tasks = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Outside the lock: a task that ends may start another.
        drop(tasks);
    }
}

impl Executor<Task> for Spawner {
    fn execute(&self, task: Task) {
        if let Some(tasks) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            tasks.spawn(task);
        }
    }
}
