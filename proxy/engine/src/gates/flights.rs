//! Requests in flight at one account: how many, and for how long.
//!
//! Payments, operations and inquiries have a share each, so that a sick provider's doubts never
//! starve new payments, nor the other way round. The age of what is in flight tells of a hang long
//! before the first time-out does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{Group, lock};
use crate::refusal::Skip;

/// What is in flight at one account, whatever it is configured to bear.
#[derive(Default)]
pub(super) struct Flights {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    /// By number, which is by age: the method, and since when, mono ms.
    payments: BTreeMap<u64, (Arc<str>, u64)>,
    operations: u32,
    inquiries: u32,
}

impl Flights {
    /// How many of a group are in flight.
    pub(super) fn count(&self, group: Group) -> u32 {
        let open = lock(&self.open);
        match group {
            Group::Payments => u32::try_from(open.payments.len()).unwrap_or(u32::MAX),
            Group::Operations => open.operations,
            Group::Inquiries => open.inquiries,
        }
    }

    /// Takes a place until it is dropped, where fewer than `max` are taken.
    pub(super) fn take(
        self: &Arc<Self>,
        (group, max): (Group, u32),
        method: &Arc<str>,
        now_ms: u64,
    ) -> Result<Place, Skip> {
        let mut open = lock(&self.open);
        let number = open.next;
        let count = match group {
            Group::Payments => {
                if open.payments.len() >= max as usize {
                    return Err(Skip::InFlight);
                }
                open.payments.insert(number, (Arc::clone(method), now_ms));
                open.next += 1;
                return Ok(Place { flights: Arc::clone(self), group, number });
            }
            Group::Operations => &mut open.operations,
            Group::Inquiries => &mut open.inquiries,
        };
        if *count >= max {
            return Err(Skip::InFlight);
        }
        *count += 1;
        Ok(Place { flights: Arc::clone(self), group, number })
    }

    /// How many payments of a method have been in flight since `before_ms` or longer, counted up to
    /// `enough`.
    pub(super) fn older(&self, method: &str, before_ms: u64, enough: u32) -> u32 {
        let open = lock(&self.open);
        let old = open.payments.values().take_while(|(_, since)| *since <= before_ms);
        let of_method = old.filter(|(m, _)| **m == *method).take(enough as usize);
        u32::try_from(of_method.count()).unwrap_or(u32::MAX)
    }

    /// Since when the oldest payment has been in flight, mono ms.
    pub(super) fn oldest(&self) -> Option<u64> {
        lock(&self.open).payments.first_key_value().map(|(_, (_, since))| *since)
    }
}

/// A place in flight.
pub(super) struct Place {
    flights: Arc<Flights>,
    group: Group,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.flights.open);
        match self.group {
            Group::Payments => {
                open.payments.remove(&self.number);
            }
            Group::Operations => open.operations -= 1,
            Group::Inquiries => open.inquiries -= 1,
        }
    }
}
