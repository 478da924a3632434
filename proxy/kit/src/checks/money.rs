//! Money: do amounts and currencies arrive as they were given, and are they heard as they were
//! said?

use interlock_plugin_api::{Currency, Effect, Money, Next, Operation, Send, format_units};

use percent_encoding::percent_decode_str;

use super::{Check, Group, Verdict, facts, is_fault, moved, told};
use crate::asking::Asked;
use crate::report::Finding;
use crate::subject::{Stop, Subject};

static GROUP: Group =
    Group { name: "money", about: "exact in every exponent, and heard as it was said" };

pub(super) static CHECKS: &[Check] = &[
    Check {
        name: "amounts-exact",
        group: &GROUP,
        title: "amounts are exact with no, two and three decimals, however long",
        why: "a yen charged as a hundredth, or a dinar as a hundred, is a wrong charge that every \
              status calls a success.",
        fix: "write `r.amount.amount` as it is if the provider counts minor units, else \
              `format_units(r.amount.amount, r.exponent)`; never by a float.",
        run: exact,
    },
    Check {
        name: "parts-are-parts",
        group: &GROUP,
        title: "a part that is captured or refunded is that part",
        why: "a refund of 1.00 that asks for 49.00 gives the whole payment back.",
        fix: "use `r.amount` of the operation, not `r.original.amount`.",
        run: parts,
    },
    Check {
        name: "currency-sent",
        group: &GROUP,
        title: "the currency is sent",
        why: "4900 of another currency is another price.",
        fix: "use `r.amount.currency`.",
        run: currency,
    },
    Check {
        name: "amount-heard",
        group: &GROUP,
        title: "a success carries the amount that the provider said, not the one that was asked",
        why: "the host compares the two to notice that a customer paid 0.01 for an order of \
              49.00; a plugin that echoes the question hides it.",
        fix: "read amount and currency from the answer; leave `amount` out if there is none.",
        run: heard,
    },
];

/// Digits that no scaling, rounding or float leaves as they are.
const AMOUNTS: [i64; 6] = [1, 7, 4_901, 1_234_567, 123_456_789, 123_456_789_012_345];

fn exact(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut seen = 0;
    // An offer that is made without a request is a first step too.
    for stop in paying(s) {
        for currency in currencies(s) {
            let exponent = s.asks.exponent(currency);
            let step = s.asks.manifest.multiples.get(&currency).copied().unwrap_or(1);
            for amount in AMOUNTS {
                let Some(amount) = amount.checked_mul(step) else { continue };
                let mut envelope = stop.envelope.clone();
                envelope.request.amount = Money::new(amount, currency);
                envelope.request.exponent = exponent;
                let at = format!("{}, {amount} minor units of {currency}", stop.at);
                match s.step(&s.one, &envelope, &stop.state, &stop.body) {
                    // Providers have bounds: what is refused charges nobody.
                    Err(e) if is_fault(&e) => {}
                    Err(e) => findings.push(Finding::new(at, e.to_string())),
                    Ok(taken) => {
                        seen += 1;
                        let text = everything(&taken.next, &taken.parts.body);
                        if !says_amount(&text, amount, exponent) {
                            let decimal = format_units(amount, exponent);
                            let what = format!(
                                "neither {amount} nor {decimal} is in the request{}",
                                looks_like(&text, amount)
                            );
                            findings.push(Finding::new(at, what));
                        }
                    }
                }
            }
        }
    }
    if seen == 0 && findings.is_empty() {
        return Verdict::Skipped("no request could be built".into());
    }
    findings.into()
}

/// Where each payment is asked for: by its first request that is more than a read, which may come
/// after one (a wallet's token becomes the provider's own), or by an offer that is made without.
fn paying(s: &Subject) -> Vec<Stop> {
    let asks = |stop: &Stop| match &stop.taken.next {
        Next::Send(send) => {
            let judged = s.judge(stop.envelope.op, send, &stop.taken.parts.body);
            judged.is_ok_and(|classified| classified.effect != Effect::Read)
        }
        Next::Done(_) => false,
    };
    // What ends later than at once ends a read, and asks for nothing.
    let begins = |stop: &Stop| asks(stop) || matches!(stop.taken.next, Next::Done(_));
    let first = |asked: Asked| {
        let Asked { at, envelope, body } = asked;
        let taken = s.step(&s.one, &envelope, &[], &body).ok()?;
        Some(Stop { at, envelope, state: Vec::new(), body, taken })
    };
    let begun = s.asked().into_iter().filter(|asked| asked.envelope.op == Operation::Authorize);
    let mut all: Vec<Stop> = begun.filter_map(first).filter(begins).collect();
    for walk in s.walks().into_iter().filter(|walk| walk.op() == Operation::Authorize) {
        let later = walk.stops.into_iter().enumerate().find(|(_, stop)| asks(stop));
        all.extend(later.filter(|(n, _)| *n > 0).map(|(_, stop)| stop));
    }
    all
}

/// One currency of each exponent.
fn currencies(s: &Subject) -> Vec<Currency> {
    let mut found: Vec<(u8, Currency)> = Vec::new();
    for (currency, exponent) in &s.asks.manifest.currencies {
        if !found.iter().any(|(e, _)| e == exponent) {
            found.push((*exponent, *currency));
        }
    }
    found.into_iter().map(|(_, currency)| currency).collect()
}

/// All text of a request, or of an offer.
fn everything(next: &Next, body: &[u8]) -> String {
    let meta = match next {
        Next::Send(send) => sent(send),
        Next::Done(done) => plain(&serde_json::to_string(&done.facts).unwrap_or_default()),
    };
    format!("{meta}\n{}", plain(&String::from_utf8_lossy(body)))
}

fn sent(send: &Send) -> String {
    let query: Vec<String> = send.query.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let headers: Vec<String> = send.headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    plain(&format!("{}?{}\n{}", send.path, query.join("&"), headers.join("\n")))
}

/// The text without the escapes of forms (an order in a form in an order has two) and of JSON.
fn plain(text: &str) -> String {
    let once = percent_decode_str(text).decode_utf8_lossy().into_owned();
    let twice = percent_decode_str(&once).decode_utf8_lossy();
    twice.replace("\\\"", "\"")
}

/// Whether a number stands somewhere by itself.
fn stands(text: &str, number: &str) -> bool {
    text.match_indices(number).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let mut after = text[at + number.len()..].chars();
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let next = after.next();
        let point = next == Some('.') && digit(after.next());
        !digit(before) && before != Some('.') && !digit(next) && !point
    })
}

fn says_amount(text: &str, amount: i64, exponent: u8) -> bool {
    stands(text, &format_units(amount, exponent)) || stands(text, &amount.to_string())
}

/// What the request has instead, if it is a scaling that is often made.
fn looks_like(text: &str, amount: i64) -> String {
    let scaled = [(100, "divided by 100"), (10, "divided by 10"), (1000, "divided by 1000")];
    for (factor, word) in scaled {
        if amount >= factor && stands(text, &(amount / factor).to_string()) {
            return format!("; {} is, which is {word}", amount / factor);
        }
    }
    for (factor, word) in [(100, "times 100"), (10, "times 10"), (1000, "times 1000")] {
        if let Some(more) = amount.checked_mul(factor).filter(|m| stands(text, &m.to_string())) {
            return format!("; {more} is, which is {word}");
        }
    }
    String::new()
}

fn parts(s: &Subject, _: bool) -> Verdict {
    const PART: i64 = 1_307;
    let mut findings = Vec::new();
    let mut seen = 0;
    for stop in s.moves() {
        if !matches!(stop.envelope.op, Operation::Capture | Operation::Refund) {
            continue;
        }
        let mut envelope = stop.envelope.clone();
        let exponent = envelope.request.exponent;
        let currency = envelope.request.amount.currency;
        let step = s.asks.manifest.multiples.get(&currency).copied().unwrap_or(1);
        envelope.request.amount.amount = PART * step;
        let Ok(part) = s.step(&s.one, &envelope, &stop.state, &stop.body) else { continue };
        let whole = everything(&stop.taken.next, &stop.taken.parts.body);
        let part = everything(&part.next, &part.parts.body);
        // A provider that is told no amount gives all back; then a part is refused before.
        let tells = says_amount(&whole, stop.envelope.request.amount.amount, exponent);
        seen += usize::from(tells);
        if !says_amount(&part, PART * step, exponent) {
            let whole = stop.envelope.request.original.as_ref().map(|o| o.amount.amount);
            let instead = whole.filter(|amount| says_amount(&part, *amount, exponent));
            let instead = instead.map(|a| format!("; the payment's {a} is")).unwrap_or_default();
            let what = format!("{} minor units are not in the request{instead}", PART * step);
            findings.push(Finding::new(&stop.at, what));
        }
    }
    if seen == 0 && findings.is_empty() {
        return Verdict::Skipped("no capture or refund could be built".into());
    }
    findings.into()
}

fn currency(s: &Subject, _: bool) -> Verdict {
    if s.asks.manifest.currencies.len() < 2 {
        return Verdict::Skipped("the provider takes one currency only".into());
    }
    let mut findings = Vec::new();
    for stop in paying(s) {
        for currency in currencies(s) {
            let mut envelope = stop.envelope.clone();
            let step = s.asks.manifest.multiples.get(&currency).copied().unwrap_or(1);
            envelope.request.amount = Money::new(4_900 * step, currency);
            envelope.request.exponent = s.asks.exponent(currency);
            let Ok(taken) = s.step(&s.one, &envelope, &stop.state, &stop.body) else { continue };
            let text = everything(&taken.next, &taken.parts.body).to_ascii_uppercase();
            if !text.contains(currency.as_str()) {
                let what = format!("{currency} is nowhere in the request");
                findings.push(Finding::new(&stop.at, what));
            }
        }
    }
    findings.into()
}

fn heard(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut seen = 0;
    for walk in s.walks() {
        for (before, stop) in walk.answers() {
            let Some(fact) = facts(&stop.taken).iter().find(|fact| moved(fact)) else { continue };
            let Some(asked) = fact.amount else { continue };
            let exponent = stop.envelope.request.exponent;
            let other = asked.amount + 1_100;
            let Some(body) = with_amount(&stop.body, asked.amount, other, exponent) else {
                continue;
            };
            seen += 1;
            let state = &before.taken.parts.state;
            let Ok(taken) = s.step(&s.one, &stop.envelope, state, &body) else { continue };
            for fact in facts(&taken).iter().filter(|fact| moved(fact)) {
                if fact.amount.is_none_or(|amount| amount.amount == asked.amount) {
                    let what = format!(
                        "the answer said {other} instead of {}, and the plugin says: {}",
                        asked.amount,
                        told(fact)
                    );
                    findings.push(Finding::new(&stop.at, what));
                }
            }
        }
    }
    if seen == 0 {
        return Verdict::Skipped("no answer of the examples has an amount that is read".into());
    }
    findings.into()
}

/// The body with every stand of an amount replaced by another; `None` where it has none.
fn with_amount(body: &[u8], from: i64, to: i64, exponent: u8) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?;
    let forms = [
        (format_units(from, exponent), format_units(to, exponent)),
        (from.to_string(), to.to_string()),
    ];
    let (from, to) = forms.into_iter().find(|(from, _)| stands(text, from))?;
    Some(text.replace(&from, &to).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_only_where_it_stands_alone() {
        for (text, number, found) in [
            ("{\"amount\":4900}", "4900", true),
            ("{\"amount\":49000}", "4900", false),
            ("{\"amount\":14900}", "4900", false),
            ("amount=49.00&x", "49.00", true),
            ("amount=49.005", "49.00", false),
            ("amount=49.00", "49", false),
            ("costs 49.", "49", true),
            ("0.4900", "4900", false),
        ] {
            assert_eq!(stands(text, number), found, "{number} in {text}");
        }
    }

    #[test]
    fn a_wrong_scale_is_named() {
        assert_eq!(looks_like("{\"a\":12345}", 1_234_567), "; 12345 is, which is divided by 100");
        assert_eq!(looks_like("{\"a\":490100}", 4_901), "; 490100 is, which is times 100");
        assert_eq!(looks_like("{}", 4_901), "");
    }
}
