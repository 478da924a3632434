//! Finds what is wrong between the parts of a configuration, each of which is right by itself.

use super::diagnostic::Diagnostic;
use super::reader::Sink;
use super::words::format_duration;
use super::{Config, Failover, Match, Route, doors};

/// Reports everything that needs more than one section to be seen.
pub(super) fn run(config: &Config, sink: &Sink) {
    for finding in doors::keys_are_different(config.merchants.values()) {
        sink.push(finding);
    }
    for (at, route) in config.routes.iter().enumerate() {
        let earlier = &config.routes[..at];
        if let Some(same) = earlier.iter().find(|e| e.name == route.name) {
            let text = format!("route `{}` is defined twice", route.name);
            let finding = Diagnostic::error("C015", text).label("second definition");
            let finding = finding.note(format!("the first is in line {}", same.origin.line()));
            sink.push(route.origin.point(finding, "name"));
        } else if let Some(all) = earlier.iter().find(|e| covers(&e.matches, &route.matches)) {
            let text = format!("route `{}` is never reached", route.name);
            let finding = Diagnostic::error("C020", text)
                .label(format!("route `{}` takes all of its payments", all.name))
                .help("move it up, narrow the earlier route, or remove it")
                .note(format!(
                    "`{}` is in line {}; the first match wins",
                    all.name,
                    all.origin.line()
                ));
            sink.push(route.origin.point(finding, "name"));
        }
        one_route(route, sink);
    }
    drain_waits_for_calls(config, sink);
}

fn one_route(route: &Route, sink: &Sink) {
    if let ([only], true) = (&route.candidates[..], route.failover != Failover::None) {
        let text = format!("route `{}` has one candidate, so it cannot fail over", route.name);
        let finding = Diagnostic::warning("C031", text)
            .label(format!("only `{}`", only.to))
            .help("add a second candidate, or write `failover = \"none\"` to say that it is meant");
        sink.push(route.origin.point(finding, "candidates"));
    }
    let bounded = route.matches.amount_min.is_some() || route.matches.amount_max.is_some();
    if bounded && route.matches.currency.len() != 1 {
        let text = format!("route `{}` compares amounts of different currencies", route.name);
        let finding = Diagnostic::warning("C035", text)
            .help("match one currency in the same route")
            .note("5000 is 50.00 EUR, and it is 5000 JPY");
        sink.push(route.origin.point(finding, "match"));
    }
}

fn drain_waits_for_calls(config: &Config, sink: &Sink) {
    let drain = config.server.drain_ms;
    let Some(slowest) = config.accounts.values().max_by_key(|a| a.timeout_ms) else { return };
    if slowest.timeout_ms >= drain {
        let text = format!(
            "a shutdown does not wait for calls of account `{}`: its timeout is {}, `drain` is {}",
            slowest.name,
            format_duration(slowest.timeout_ms),
            format_duration(drain)
        );
        let finding = Diagnostic::warning("C034", text)
            .help("make `drain` longer than the longest timeout")
            .note("a call that is cut leaves a payment in doubt until the next start");
        sink.push(slowest.origin.point(finding, "timeout"));
    }
}

/// Whether every payment that `later` takes is taken by `earlier`.
fn covers(earlier: &Match, later: &Match) -> bool {
    fn all<T: PartialEq>(earlier: &[T], later: &[T]) -> bool {
        earlier.is_empty() || (!later.is_empty() && later.iter().all(|x| earlier.contains(x)))
    }
    let lowest = earlier.amount_min.unwrap_or(0) <= later.amount_min.unwrap_or(0);
    let highest = earlier.amount_max.unwrap_or(i64::MAX) >= later.amount_max.unwrap_or(i64::MAX);
    let metadata = earlier.metadata.iter().all(|(k, v)| later.metadata.get(k) == Some(v));
    all(&earlier.method, &later.method)
        && all(&earlier.flow, &later.flow)
        && all(&earlier.currency, &later.currency)
        && all(&earlier.country, &later.country)
        && all(&earlier.merchant, &later.merchant)
        && lowest
        && highest
        && metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_route_covers_a_narrower_one_and_not_the_other_way_round() {
        let any = Match::default();
        let cards = Match { method: vec!["card".into()], ..Match::default() };
        let small = Match { amount_max: Some(1_000), ..cards.clone() };
        let tagged =
            Match { metadata: [("shop".to_owned(), "a".to_owned())].into(), ..Match::default() };
        assert!(covers(&any, &cards) && covers(&cards, &small) && covers(&any, &tagged));
        assert!(covers(&any, &any));
        assert!(!covers(&cards, &any) && !covers(&small, &cards) && !covers(&tagged, &any));
    }
}
