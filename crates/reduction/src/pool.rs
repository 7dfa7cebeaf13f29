//! Buffers of one length that are used again, so that the steady state allocates nothing.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Free buffers that are kept: more than a step uses. What a stalled disk or peer held up is given back.
const MAX_FREE: usize = 64;

/// Hands out `[f32]` buffers of one length and takes them back when they are dropped.
#[derive(Clone, Debug)]
pub struct Pool {
    length: usize,
    free: Arc<Mutex<Vec<Box<[f32]>>>>,
}

/// A buffer of a [`Pool`], with whatever values its last user left.
#[derive(Debug)]
pub struct Buffer {
    values: Box<[f32]>,
    free: Arc<Mutex<Vec<Box<[f32]>>>>,
}

impl Pool {
    /// A pool of buffers of `length` values, empty at first.
    pub fn new(length: usize) -> Self {
        Self { length, free: Arc::default() }
    }

    /// A free buffer, or a new one if none is free. Its values are unspecified.
    pub fn take(&self) -> Buffer {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let values = free.unwrap_or_else(|| vec![0.0; self.length].into_boxed_slice());
        Buffer { values, free: Arc::clone(&self.free) }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MAX_FREE {
            free.push(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_handed_out_again() {
        let pool = Pool::new(3);
        let mut buffer = pool.take();
        buffer[0] = 7.0;
        let place = buffer.as_ptr();
        drop(buffer);
        let (again, other) = (pool.take(), pool.take());
        assert_eq!(again.as_ptr(), place);
        assert_ne!(other.as_ptr(), place);
        assert_eq!(other.len(), 3);
    }

    #[test]
    fn a_crowd_of_buffers_is_not_kept_for_ever() {
        let pool = Pool::new(3);
        let crowd: Vec<Buffer> = (0..2 * MAX_FREE).map(|_| pool.take()).collect();
        drop(crowd);
        assert_eq!(pool.free.lock().unwrap().len(), MAX_FREE);
    }
}
