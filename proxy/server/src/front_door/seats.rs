//! How many connections each client address has open.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use tokio::sync::OwnedSemaphorePermit;

/// Connections open by address; an address without any is not kept.
#[derive(Default)]
pub(super) struct ByAddress {
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A place for one connection; free again when it is dropped.
pub(super) struct Seat {
    _all: OwnedSemaphorePermit,
    _own: Option<OwnSeat>,
}

/// A place among those of one address.
pub(super) struct OwnSeat {
    by_address: Arc<ByAddress>,
    address: IpAddr,
}

impl Seat {
    pub(super) fn new(all: OwnedSemaphorePermit, own: Option<OwnSeat>) -> Seat {
        Seat { _all: all, _own: own }
    }
}

impl ByAddress {
    /// A place, when fewer than `limit` are taken.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, limit: usize) -> Option<OwnSeat> {
        let mut open = self.open.lock().expect("nothing panics while it is held");
        let taken = open.get(&address).copied().unwrap_or(0);
        if taken >= limit {
            return None;
        }
        open.insert(address, taken + 1);
        Some(OwnSeat { by_address: Arc::clone(self), address })
    }
}

impl Drop for OwnSeat {
    fn drop(&mut self) {
        let mut open = self.by_address.open.lock().expect("nothing panics while it is held");
        match open.get_mut(&self.address) {
            Some(taken) if *taken > 1 => *taken -= 1,
            _ => drop(open.remove(&self.address)),
        }
    }
}

/// Who is counted as one client. One customer owns at least a /64 of IPv6, and could otherwise
/// call from each of its numbers.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_places_and_gives_them_back() {
        let by_address = Arc::new(ByAddress::default());
        let at = |text: &str| network_of(text.parse().expect("an address"));
        let first = by_address.take(at("192.0.2.1"), 2);
        let second = by_address.take(at("::ffff:192.0.2.1"), 2);
        assert!(first.is_some() && second.is_some());
        assert!(by_address.take(at("192.0.2.1"), 2).is_none(), "both are taken");
        let others = [by_address.take(at("192.0.2.2"), 1), by_address.take(at("2001:db8::1"), 1)];
        assert!(others.iter().all(Option::is_some));
        assert!(by_address.take(at("2001:db8::ffff"), 1).is_none(), "one /64 is one client");
        drop((first, others));
        assert!(by_address.take(at("192.0.2.1"), 2).is_some());
        drop(second);
        assert!(by_address.open.lock().expect("free").is_empty(), "nobody is remembered");
    }
}
