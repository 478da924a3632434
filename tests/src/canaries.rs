//! Secrets that must never be seen again, and the search for them.
//!
//! Each is searched as it is, in hexadecimal and in Base64 at every alignment.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Everything that must never be seen again.
#[derive(Default)]
pub struct Canaries(Vec<(String, Vec<u8>)>);

impl Canaries {
    /// Those of one secret.
    pub fn of(what: &str, secret: &str) -> Self {
        Self(vec![(what.to_owned(), secret.as_bytes().to_vec())])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more, which is given back.
    pub fn add(&mut self, what: &str, secret: &str) -> String {
        self.0.push((what.to_owned(), secret.as_bytes().to_vec()));
        secret.to_owned()
    }

    /// A card number of its own; the last four digits choose what the issuer does.
    pub fn card(&mut self, ending: &str) -> String {
        let number = format!("490012{:06}{ending}", 734_561 + 1_117 * self.0.len());
        self.add("card number", &number)
    }

    /// A wallet's code; its ending chooses what the shopper does.
    pub fn auth_code(&mut self, ending: &str) -> String {
        let code = format!("28739104{:08}{ending}", 41_730_527 + 1_117 * self.0.len());
        self.add("auth code", &code)
    }

    /// A text of its own.
    pub fn text(&mut self, what: &str) -> String {
        let number = self.0.len() * 7_919 + 104_729;
        let secret = format!("src_{}q{number}Zx9w", what.replace(' ', ""));
        self.add(what, &secret)
    }

    /// What finds them.
    pub fn search(&self) -> Search {
        let mut by_start: HashMap<Vec<u8>, Vec<(String, Vec<u8>)>> = HashMap::new();
        for (what, secret) in &self.0 {
            for form in forms(secret) {
                let start = form[..8].to_vec();
                by_start.entry(start).or_default().push((what.clone(), form));
            }
        }
        Search(by_start)
    }
}

/// Every form of every canary, by its first bytes.
pub struct Search(HashMap<Vec<u8>, Vec<(String, Vec<u8>)>>);

impl Search {
    /// The names of the canaries that a text holds.
    pub fn find(&self, text: &[u8]) -> Vec<&str> {
        let mut found = Vec::new();
        for (at, start) in text.windows(8).enumerate() {
            for (what, form) in self.0.get(start).into_iter().flatten() {
                if text[at..].starts_with(form) && !found.contains(&what.as_str()) {
                    found.push(what.as_str());
                }
            }
        }
        found
    }

    /// The places that hold one.
    pub fn places<'s>(&self, seen: &'s [(String, Vec<u8>)]) -> Vec<&'s str> {
        let holds = seen.iter().filter(|(_, bytes)| !self.find(bytes).is_empty());
        holds.map(|(what, _)| what.as_str()).collect()
    }

    /// Each canary that was seen, with its place and line.
    pub fn leaks(&self, seen: &[(String, Vec<u8>)]) -> Vec<String> {
        let mut leaks: Vec<String> = Vec::new();
        for (place, bytes) in seen {
            if self.find(bytes).is_empty() {
                continue;
            }
            for line in bytes.split(|b| *b == b'\n') {
                for what in self.find(line) {
                    let line = String::from_utf8_lossy(line);
                    let line: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
                    leaks.push(format!("{what} in {place}: {line}"));
                }
            }
        }
        leaks
    }
}

/// A secret as it may be written.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    let mut forms = vec![secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for before in 0..3 {
        // Where the secret begins inside a longer text shifts its digits; the ones at the edges
        // depend on its neighbours and are left out.
        let padded = [vec![0; before], secret.to_vec()].concat();
        let text = base64(&padded);
        let skip = [0, 2, 3][before];
        let whole = (padded.len() * 8 / 6).min(text.len());
        forms.push(text.as_bytes()[skip..whole].to_vec());
        let for_urls = text[skip..whole].replace('+', "-").replace('/', "_");
        forms.push(for_urls.into_bytes());
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let at = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..=group.len() {
            let digit = (bits >> (18 - 6 * n) & 63) as usize;
            text.push(char::from(DIGITS[digit]));
        }
    }
    text
}

/// Every file of a folder, with its path.
pub fn files(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).expect("a folder").map_while(Result::ok) {
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else {
            let bytes = fs::read(entry.path()).expect("a file");
            found.push((entry.path().display().to_string(), bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_knows_every_form_of_a_secret() {
        let canaries = Canaries::of("secret", "4900127345611111").search();
        let secret = "4900127345611111";
        let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
        let mut texts = vec![secret.to_owned(), format!("x{hex}y"), hex.to_uppercase()];
        for before in ["", "a", "ab", "abc", "{\"number\":\""] {
            texts.push(base64(format!("{before}{secret}").as_bytes()));
            texts.push(base64(format!("{before}{secret}\",\"cvv\":1}}").as_bytes()));
        }
        for text in &texts {
            assert_eq!(canaries.find(text.as_bytes()), ["secret"], "{text}");
        }
        assert!(canaries.find(b"4900127345611112").is_empty());
        assert_eq!(base64(b"Man"), "TWFu");
        assert_eq!(base64(b"Ma"), "TWE");
    }
}
