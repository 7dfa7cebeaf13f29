//! How many connections there may be, by the system's limit of descriptors: what is left of it is for files, pages and
//! probes, which no peer can use up.

use rustix::process::{Resource, getrlimit};

/// Strangers on the loop's thread.
pub(super) const MAX_STRANGERS: usize = 64;

/// Connections that wait for their turn; as many workers may start in the same moment.
const MAX_WAITING: usize = 256;

/// Members at once: above what one coordinator can serve, and a bound on its buffers.
const MAX_MEMBERS: usize = 1024;

/// For the page's connections, files and pipes.
const RESERVED: usize = 128;

/// Places for connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// For those that wait for their turn.
    pub waiting: usize,
    /// For members.
    pub members: usize,
}

impl Places {
    /// As many as this process may have.
    pub fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::within(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    fn within(descriptors: usize) -> Self {
        let waiting = (descriptors / 8).clamp(1, MAX_WAITING);
        let members = descriptors.saturating_sub(MAX_STRANGERS + waiting + RESERVED);
        Self { waiting, members: members.clamp(1, MAX_MEMBERS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_descriptors_left_for_the_rest() {
        assert_eq!(Places::within(1 << 20), Places { waiting: 256, members: 1024 });
        assert_eq!(Places::within(1024), Places { waiting: 128, members: 704 });
        assert_eq!(Places::within(300), Places { waiting: 37, members: 71 });
        assert_eq!(Places::within(0), Places { waiting: 1, members: 1 });
    }
}
