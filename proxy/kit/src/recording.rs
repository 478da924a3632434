//! A provider's answer on its way into a fixture: with the kit's numbers in the place of ours, and
//! without what nobody should find in a file.

use std::fmt::Write;

use crate::fixture::Fixture;

/// Headers that change with every answer and say nothing of it.
const DROPPED: [&str; 14] = [
    "age",
    "alt-svc",
    "cf-cache-status",
    "cf-ray",
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "vary",
    "via",
];
const MASK: &str = "***";

/// What must not stand in a fixture, and what stands there instead.
#[derive(Default)]
pub struct Mask {
    pairs: Vec<(String, String)>,
}

impl Mask {
    /// Puts `instead` wherever `text` stands.
    pub fn replace(&mut self, text: &str, instead: &str) {
        if !text.is_empty() {
            self.pairs.push((text.to_owned(), instead.to_owned()));
        }
    }

    /// Hides a secret.
    pub fn hide(&mut self, secret: &str) {
        self.replace(secret, MASK);
    }

    fn text(&self, text: &str) -> String {
        let replaced = self.pairs.iter().fold(text.to_owned(), |t, (from, to)| t.replace(from, to));
        without_cards(&replaced)
    }
}

/// A recorded answer.
pub struct Recorded {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its raw body.
    pub body: Vec<u8>,
}

impl Recorded {
    /// As a fixture shows it; `None` when its body is no text.
    pub fn shown(&self, mask: &Mask) -> Option<String> {
        let body = std::str::from_utf8(&self.body).ok()?;
        let mut text = format!("HTTP/1.1 {}\n", self.status);
        for (name, value) in &self.headers {
            let name = name.to_ascii_lowercase();
            if !DROPPED.contains(&name.as_str()) {
                let _ = writeln!(text, "{name}: {}", mask.text(value));
            }
        }
        let body = mask.text(body);
        let body = body.trim_end_matches(['\n', '\r']);
        if !body.is_empty() {
            let _ = write!(text, "\n{body}");
        }
        Some(text.trim_end().to_owned())
    }
}

/// The example with these answers in the place of its own.
///
/// # Errors
/// The number of the answer whose body is no text.
pub fn recorded(fixture: &Fixture, answers: &[Recorded], mask: &Mask) -> Result<Fixture, usize> {
    let shown: Result<Vec<String>, usize> =
        answers.iter().enumerate().map(|(n, answer)| answer.shown(mask).ok_or(n + 1)).collect();
    Ok(fixture.with_answers(&shown?))
}

/// Digits that could be a card's number become one that no issuer gives out.
fn without_cards(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut digits = String::new();
    for c in text.chars().map(Some).chain([None]) {
        match c.filter(char::is_ascii_digit) {
            Some(digit) => digits.push(digit),
            None => {
                out.push_str(if is_card(&digits) { "4000007000000016" } else { &digits });
                digits.clear();
                out.extend(c);
            }
        }
    }
    out
}

/// 13 to 19 digits with a good check digit (ISO/IEC 7812-1).
fn is_card(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(n, b)| {
            let digit = u32::from(b - b'0');
            let twice = digit * 2;
            match n % 2 {
                1 if twice > 9 => twice - 9,
                1 => twice,
                _ => digit,
            }
        })
        .sum();
    (13..=19).contains(&digits.len()) && sum % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_without_what_nobody_should_find_in_a_file() {
        let fixture = Fixture::parse(
            "a.http".into(),
            "# About.\n### authorize\n{}\n\n### sends pay\nx\n\n### answers\nHTTP/1.1 500\n",
        )
        .expect("readable");
        let mut mask = Mask::default();
        mask.hide("sk_live_1");
        mask.replace("ourNumber", "KIT1");
        let answer = Recorded {
            status: 201,
            headers: vec![
                ("Date".into(), "now".into()),
                ("X-Echo".into(), "Bearer sk_live_1".into()),
                ("Content-Type".into(), "application/json".into()),
            ],
            body: b"{\"ref\":\"ourNumber\",\"card\":\"4111111111111111\",\
                \"id\":\"4111111111111112\"}\n"
                .to_vec(),
        };
        let text = recorded(&fixture, &[answer], &mask).expect("text").to_string();
        let shown = "### authorize\n{}\n\n### answers\nHTTP/1.1 201\nx-echo: Bearer ***\n\
            content-type: application/json\n\n\
            {\"ref\":\"KIT1\",\"card\":\"4000007000000016\",\"id\":\"4111111111111112\"}\n";
        assert_eq!(text, format!("# About.\n{shown}"));
    }

    #[test]
    fn what_is_no_text_is_told() {
        let fixture = Fixture::parse("a.http".into(), "### probe\n").expect("readable");
        let answer = Recorded { status: 200, headers: Vec::new(), body: vec![0xff] };
        assert_eq!(recorded(&fixture, &[answer], &Mask::default()).err(), Some(1));
    }
}
