//! A bounded queue that is fair to addresses: each gets its turn, and where the queue is full, the address with the most
//! entries loses its oldest one.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Where a connection comes from, as far as one user is told from another: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subnet(IpAddr);

impl From<IpAddr> for Subnet {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
            v4 => v4,
        })
    }
}

/// The number of an entry, in the order of coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// Entries of at least one address each.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    /// Oldest first; none is empty.
    entries: BTreeMap<Subnet, VecDeque<(Ticket, T)>>,
    length: usize,
    capacity: usize,
    next: Ticket,
    /// Whose turn it was last.
    served: Option<Subnet>,
}

impl<T> FairQueue<T> {
    /// An empty queue for so many entries, at least 1.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a queue without a place");
        Self { entries: BTreeMap::new(), length: 0, capacity, next: Ticket(0), served: None }
    }

    /// Takes an entry in. Where all places are taken, the oldest entry of the address with the most goes, and is returned;
    /// of two such addresses the one whose oldest came first.
    pub fn push(&mut self, subnet: Subnet, entry: T) -> (Ticket, Option<T>) {
        let evicted = if self.length == self.capacity { self.evict() } else { None };
        let ticket = self.next;
        self.next = Ticket(ticket.0 + 1);
        self.entries.entry(subnet).or_default().push_back((ticket, entry));
        self.length += 1;
        (ticket, evicted)
    }

    /// The oldest entry of the address whose turn it is, among those that `may` have one.
    pub fn pop(&mut self, may: impl Fn(Subnet) -> bool) -> Option<(Subnet, T)> {
        let mut subnets = self.entries.keys().copied().filter(|subnet| may(*subnet));
        let first = subnets.next()?;
        let after = self.served.filter(|served| first <= *served);
        let subnet = after.and_then(|served| subnets.find(|subnet| *subnet > served)).unwrap_or(first);
        self.served = Some(subnet);
        self.pop_oldest(subnet).map(|entry| (subnet, entry))
    }

    /// Takes out an entry before its turn; `None` if it is not there any more.
    pub fn remove(&mut self, subnet: Subnet, ticket: Ticket) -> Option<T> {
        let entries = self.entries.get_mut(&subnet)?;
        let index = entries.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, entry) = entries.remove(index)?;
        self.taken_out(subnet);
        Some(entry)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn evict(&mut self) -> Option<T> {
        let oldest = |entries: &VecDeque<(Ticket, T)>| entries.front().map(|(ticket, _)| *ticket);
        let rank = |entries: &VecDeque<(Ticket, T)>| (entries.len(), std::cmp::Reverse(oldest(entries)));
        let (subnet, _) = self.entries.iter().max_by_key(|(_, entries)| rank(entries))?;
        self.pop_oldest(*subnet)
    }

    fn pop_oldest(&mut self, subnet: Subnet) -> Option<T> {
        let (_, entry) = self.entries.get_mut(&subnet)?.pop_front()?;
        self.taken_out(subnet);
        Some(entry)
    }

    fn taken_out(&mut self, subnet: Subnet) {
        self.length -= 1;
        if self.entries.get(&subnet).is_some_and(VecDeque::is_empty) {
            self.entries.remove(&subnet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> Subnet {
        IpAddr::from([10, 0, 0, last]).into()
    }

    fn all<T>(queue: &mut FairQueue<T>) -> Vec<T> {
        std::iter::from_fn(|| queue.pop(|_| true)).map(|(_, entry)| entry).collect()
    }

    #[test]
    fn addresses_take_turns() {
        let mut queue = FairQueue::new(10);
        for entry in ["a1", "a2", "a3"] {
            queue.push(from(1), entry);
        }
        queue.push(from(2), "b1");
        queue.push(from(2), "b2");
        assert_eq!(queue.pop(|subnet| subnet == from(2)), Some((from(2), "b1")));
        assert_eq!(all(&mut queue), ["a1", "b2", "a2", "a3"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_address_with_the_most_loses_its_oldest() {
        let mut queue = FairQueue::new(4);
        for entry in ["b1", "b2"] {
            queue.push(from(2), entry);
        }
        for entry in ["a1", "a2"] {
            assert_eq!(queue.push(from(1), entry).1, None);
        }
        // As many each: the oldest of all goes.
        assert_eq!(queue.push(from(1), "a3").1, Some("b1"));
        for n in 4..100 {
            assert!(queue.push(from(1), "a").1.is_some_and(|evicted| evicted.starts_with('a')), "a{n}");
        }
        assert_eq!(queue.pop(|_| true), Some((from(1), "a")));
        assert_eq!(queue.pop(|_| true), Some((from(2), "b2")));
    }

    #[test]
    fn an_entry_can_leave_before_its_turn_once() {
        let mut queue = FairQueue::new(4);
        let (first, _) = queue.push(from(1), 1);
        let (second, _) = queue.push(from(1), 2);
        assert_eq!(queue.remove(from(1), second), Some(2));
        assert_eq!(queue.remove(from(1), second), None);
        assert_eq!(queue.remove(from(1), first), Some(1));
        assert!(queue.is_empty() && queue.pop(|_| true).is_none());
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let subnet = |text: &str| Subnet::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(subnet("2001:db8::1"), subnet("2001:db8::ffff:2"));
        assert_ne!(subnet("2001:db8::1"), subnet("2001:db8:0:1::1"));
        assert_eq!(subnet("::ffff:10.0.0.1"), subnet("10.0.0.1"));
    }
}
