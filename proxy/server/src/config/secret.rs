//! Values that must never be seen: how they are kept, and where they come from.
//!
//! A [`Secret`] has no `Display`, its `Debug` says `[secret]`, and its memory is overwritten when
//! it is dropped. The file names it by `${env:NAME}` or `${file:PATH}`, so that the configuration
//! itself can be reviewed, diffed and sent to a colleague.

use std::fmt;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The most that is read from a file that holds a secret, in bytes.
pub const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// A value that is used but never shown.
#[derive(Clone, PartialEq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a value out of sight.
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, for the one place that uses it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether somebody presented this value; takes as long for a near miss as for a far one.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where the value of a secret position stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reference<'a> {
    /// `${env:NAME}`.
    Env(&'a str),
    /// `${file:PATH}`.
    File(&'a str),
    /// The value itself.
    Literal,
    /// It begins like a reference and is none.
    Malformed,
}

impl<'a> Reference<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let Some(inner) = text.strip_prefix("${") else {
            return if text.contains("${") { Self::Malformed } else { Self::Literal };
        };
        let Some(inner) = inner.strip_suffix('}') else { return Self::Malformed };
        match inner.split_once(':') {
            Some(("env", name)) if is_env_name(name) => Self::Env(name),
            Some(("file", path)) if !path.is_empty() && !path.contains(['$', '{', '}', '\n']) => {
                Self::File(path)
            }
            _ => Self::Malformed,
        }
    }

    /// The value behind a reference; a literal is the reader's own business.
    pub(super) fn resolve(&self, base: &Path) -> Result<Secret, SecretError> {
        match self {
            Self::Env(name) => match std::env::var(name) {
                Ok(value) if value.is_empty() => Err(SecretError::Empty),
                Ok(value) => Ok(Secret::new(value)),
                Err(std::env::VarError::NotPresent) => Err(SecretError::NoVariable),
                Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::NotText),
            },
            Self::File(path) => read(&base.join(path)),
            Self::Literal | Self::Malformed => Err(SecretError::NotAReference),
        }
    }
}

/// Why a reference has no value. None of these can hold a part of the value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SecretError {
    NoVariable,
    NoFile(PathBuf, std::io::ErrorKind),
    TooLarge,
    NotText,
    Empty,
    NotAReference,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVariable => f.write_str("the environment variable is not set"),
            Self::NoFile(path, std::io::ErrorKind::NotFound) => {
                write!(f, "there is no file: {}", path.display())
            }
            Self::NoFile(path, kind) => write!(f, "{kind}: {}", path.display()),
            Self::TooLarge => write!(f, "the file is larger than {} KiB", MAX_SECRET_BYTES / 1024),
            Self::NotText => f.write_str("the value is not UTF-8 text"),
            Self::Empty => f.write_str("the value is empty"),
            Self::NotAReference => f.write_str("not `${env:NAME}` or `${file:PATH}`"),
        }
    }
}

fn is_env_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn read(path: &Path) -> Result<Secret, SecretError> {
    use std::io::Read;

    let missing = |e: std::io::Error| SecretError::NoFile(path.to_owned(), e.kind());
    let file = std::fs::File::open(path).map_err(missing)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes).map_err(missing)?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(SecretError::TooLarge);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::NotText)?;
    // Editors and `echo` end a file with one line break that is no part of the value.
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(SecretError::Empty);
    }
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::new("hunter2hunter2".into());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[secret] Some([secret])");
        assert!(secret.matches(b"hunter2hunter2"));
        assert!(!secret.matches(b"hunter2hunter3") && !secret.matches(b"hunter2"));
    }

    #[test]
    fn only_the_two_forms_are_references() {
        assert_eq!(Reference::of("${env:KEY_1}"), Reference::Env("KEY_1"));
        assert_eq!(Reference::of("${file:keys/a.pem}"), Reference::File("keys/a.pem"));
        assert_eq!(Reference::of("plain $ {text}"), Reference::Literal);
        for text in [
            "${KEY}",
            "${env:}",
            "${env:1A}",
            "${env:A",
            "x${env:A}",
            "${file:}",
            "${env:A:-default}",
            "${file:${env:A}/b}",
            "${vault:a}",
        ] {
            assert_eq!(Reference::of(text), Reference::Malformed, "{text}");
        }
    }

    #[test]
    fn a_file_loses_one_line_break_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for (bytes, kept) in [("a b \n", "a b "), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a")] {
            std::fs::write(dir.path().join("s"), bytes).unwrap();
            let secret = Reference::File("s").resolve(dir.path()).unwrap();
            assert_eq!(secret.expose(), kept, "{bytes:?}");
        }
        std::fs::write(dir.path().join("s"), "\n").unwrap();
        assert_eq!(Reference::File("s").resolve(dir.path()).unwrap_err(), SecretError::Empty);
        std::fs::write(dir.path().join("s"), vec![b'a'; 65_537]).unwrap();
        assert_eq!(Reference::File("s").resolve(dir.path()).unwrap_err(), SecretError::TooLarge);
    }
}
