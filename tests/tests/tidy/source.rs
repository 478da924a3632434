//! A Rust file as the rules see it: its code without comments, texts and test modules.
//!
//! It is a scanner and no parser: it knows where comments, string and character literals begin
//! and end, and blanks them with spaces, so that lines and columns stay where they were.

/// One file, seen three ways; all have the same lines.
pub struct Source {
    /// As written.
    pub text: String,
    /// Without comments and literals.
    pub code: String,
    /// As `code`, and without what is compiled for tests only.
    pub shipping: String,
    /// As `text`, without comments and without what is compiled for tests only.
    pub spoken: String,
}

impl Source {
    pub fn read(text: &str) -> Self {
        let (code, uncommented) = blank(text);
        let mut shipping = code.clone();
        let mut spoken = uncommented;
        for (from, to) in test_items(&code) {
            wipe(&mut shipping, from, to);
            wipe(&mut spoken, from, to);
        }
        Self { text: text.into(), code, shipping, spoken }
    }
}

/// The number of the line that byte `at` lies in, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Where `word` stands in `text` as a word of its own.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let (first, last) = (word.chars().next(), word.chars().last());
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let bound = |edge: Option<char>, beyond: Option<char>| {
            !(edge.is_some_and(is_name) && beyond.is_some_and(is_name))
        };
        bound(first, before) && bound(last, after)
    })
}

/// `text` without comments and literals, and `text` without comments only.
fn blank(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let (mut code, mut spoken) = (bytes.to_vec(), bytes.to_vec());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text.as_bytes()[at..];
        let (end, is_comment) = if rest.starts_with(b"//") {
            (find(bytes, at, b"\n").unwrap_or(bytes.len()), true)
        } else if rest.starts_with(b"/*") {
            (block_comment_end(bytes, at), true)
        } else if let Some(end) = literal_end(bytes, at) {
            (end, false)
        } else {
            at += 1;
            continue;
        };
        for place in at..end {
            if bytes[place] != b'\n' {
                code[place] = b' ';
                if is_comment {
                    spoken[place] = b' ';
                }
            }
        }
        at = end;
    }
    let read = |bytes| String::from_utf8(bytes).expect("whole characters were blanked");
    (read(code), read(spoken))
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes[from..].windows(what.len()).position(|window| window == what).map(|at| from + at)
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Where the literal that begins at `at` ends, if one does.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map_or(b' ', |at| bytes[at]);
    let in_name = before.is_ascii_alphanumeric() || before == b'_';
    match bytes[at] {
        b'"' => Some(quoted_end(bytes, at)),
        b'\'' => char_end(bytes, at),
        b'r' | b'b' | b'c' if !in_name => {
            let mut quote = at + 1;
            if bytes.get(quote) == Some(&b'r') {
                quote += 1;
            }
            let is_raw = bytes[at] == b'r' || quote == at + 2;
            let hashes = bytes[quote..].iter().take_while(|byte| **byte == b'#').count();
            if is_raw && bytes.get(quote + hashes) == Some(&b'"') {
                let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
                let from = quote + hashes + 1;
                return Some(find(bytes, from, &close).map_or(bytes.len(), |at| at + close.len()));
            }
            (bytes.get(at + 1) == Some(&b'"')).then(|| quoted_end(bytes, at + 1))
        }
        _ => None,
    }
}

fn quoted_end(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The end of a character literal; `None` for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        return find(bytes, at + 3, b"'").map(|at| at + 1);
    }
    let text = std::str::from_utf8(&bytes[at + 1..]).ok()?;
    let width = text.chars().next()?.len_utf8();
    (bytes.get(at + 1 + width) == Some(&b'\'')).then_some(at + 2 + width)
}

/// The items that are compiled for tests or for a test kit only, from their attribute to their
/// end.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    let mut items = Vec::new();
    for (at, _) in code.match_indices("#[cfg(") {
        let Some(close) = code[at..].find(")]").map(|end| at + end + 2) else { continue };
        if !is_for_tests(&code[at..close]) || items.last().is_some_and(|(_, to)| at < *to) {
            continue;
        }
        items.push((at, item_end(code, close)));
    }
    items
}

/// Texts are blanked, so a feature shows only as the word; features here are test kits.
fn is_for_tests(attribute: &str) -> bool {
    words(attribute, "not").next().is_none()
        && ["test", "feature"].iter().any(|word| words(attribute, word).next().is_some())
}

fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return from + at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.len()
}

fn wipe(text: &mut String, from: usize, to: usize) {
    let blanked: String = text[from..to]
        .chars()
        .flat_map(|c| if c == '\n' { vec!['\n'] } else { vec![' '; c.len_utf8()] })
        .collect();
    text.replace_range(from..to, &blanked);
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = "let a = \"x.unwrap()\"; // b.unwrap()\n\
                let c = r#\"d\"unwrap()\"#; /* e /* f */ g */\n\
                let h = 'i'; let j: &'static str = b\"k\"; let l = '\\''; m.unwrap();";
    let source = Source::read(text);
    assert_eq!(source.code.len(), text.len());
    assert_eq!(source.code.matches("unwrap").count(), 1);
    assert!(source.code.contains("&'static str"), "{}", source.code);
    assert!(source.spoken.contains("x.unwrap()") && !source.spoken.contains("b.unwrap()"));
    assert_eq!(line_of(&source.code, source.code.find("m.unwrap").unwrap()), 3);
}

#[test]
fn what_is_compiled_for_tests_does_not_ship() {
    let text = "fn a() { one() }\n#[cfg(test)]\nmod tests {\n fn b() { two() }\n}\n\
                #[cfg(feature = \"testkit\")]\npub mod testkit;\n\
                #[cfg(not(test))]\nfn c() { three() }\n\
                #[cfg(test)]\nuse x::{y, z};\nfn d() { four() }\n";
    let shipping = Source::read(text).shipping;
    for (word, ships) in
        [("one", true), ("two", false), ("testkit", false), ("three", true), ("four", true)]
    {
        assert_eq!(words(&shipping, word).next().is_some(), ships, "{word}: {shipping}");
    }
}

#[test]
fn a_word_is_found_only_whole() {
    assert_eq!(words("unsafe_op unsafe un unsafe", "unsafe").count(), 2);
    assert_eq!(words("x.unwrap() y.unwrap_or()", ".unwrap(").count(), 1);
}
