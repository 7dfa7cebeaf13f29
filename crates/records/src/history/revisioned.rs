//! A value and how often it has changed, so that a reader of an older one is told of the new one once.

/// A value with a revision number: 0 until it is first changed.
#[derive(Debug, Default)]
pub struct Revisioned<T> {
    value: T,
    revision: u64,
}

impl<T> Revisioned<T> {
    /// The value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// Puts another value in its place.
    pub fn set(&mut self, value: T) {
        *self.change() = value;
    }

    /// The value, to be changed: every call counts as a change.
    pub fn change(&mut self) -> &mut T {
        self.revision += 1;
        &mut self.value
    }

    /// The value if its revision is not the one that is `known`, which it is then.
    pub fn news(&self, known: &mut u64) -> Option<&T> {
        let is_new = *known != self.revision;
        *known = self.revision;
        is_new.then_some(&self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_to_each() {
        let mut slot = Revisioned::<u32>::default();
        let (mut early, mut late) = (0, 0);
        assert_eq!(slot.news(&mut early), None);
        slot.set(7);
        assert_eq!(slot.news(&mut early), Some(&7));
        assert_eq!(slot.news(&mut early), None);
        *slot.change() += 1;
        assert_eq!((slot.news(&mut early), slot.news(&mut late)), (Some(&8), Some(&8)));
        assert_eq!(*slot.get(), 8);
    }
}
