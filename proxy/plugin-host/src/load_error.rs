//! Why a plugin file was refused, with the file and the field that differs.
//!
//! A refused plugin disables its provider and nothing else, so the message is all that an operator
//! has: it names the field, what the host needs, what the file has, and the file last.

use std::fmt;
use std::io::ErrorKind;

use interlock_plugin_api::{ManifestError, abi};

/// A plugin file that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The file's name, without its folder.
    pub file: String,
    /// What is wrong with it.
    pub reason: LoadReason,
}

/// What is wrong with a plugin file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadReason {
    /// The file can't be opened or read.
    Unreadable(ErrorKind),
    /// The path is not one of a regular file.
    NotAFile,
    /// More bytes than a plugin may have.
    TooLarge {
        /// The cap, bytes.
        max: u64,
    },
    /// The bytes are not the pinned ones.
    WrongHash {
        /// sha256 in `plugins.lock`, hexadecimal.
        pinned: String,
        /// sha256 of the file, hexadecimal.
        found: String,
    },
    /// Its publisher's signature.
    Signature(&'static str),
    /// A field of the ELF file.
    Elf {
        /// The field's name in the ELF specification.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The library exports no descriptor of any ABI.
    NoEntry,
    /// The library exports a descriptor of another ABI.
    Abi {
        /// The ABI's major version that it was built for.
        built_for: u32,
    },
    /// A field of the descriptor.
    Descriptor {
        /// The field's name in `interlock_plugin.h`.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The manifest inside the library.
    Manifest(ManifestError),
    /// Two files have a manifest of the same id.
    Twice {
        /// The id.
        id: String,
    },
    /// The system refused to map the bytes.
    Mapping(String),
    /// The dynamic linker refused the library.
    Linker(String),
    /// The library's own start-up code did not end.
    TimedOut {
        /// The limit, ms.
        limit_ms: u64,
    },
    /// The worker pool takes no work.
    Busy,
    /// So many generations still have work.
    TooMany {
        /// The cap.
        max: usize,
    },
    /// So many libraries were mapped by this process, which keeps them all.
    TooManyLibraries {
        /// The cap.
        max: usize,
    },
}

impl LoadReason {
    /// The word for logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::NotAFile => "not_a_file",
            Self::TooLarge { .. } => "too_large",
            Self::WrongHash { .. } => "wrong_hash",
            Self::Signature(_) => "bad_signature",
            Self::Elf { .. } => "bad_elf",
            Self::NoEntry => "no_entry",
            Self::Abi { .. } => "wrong_abi",
            Self::Descriptor { .. } => "bad_descriptor",
            Self::Manifest(_) => "bad_manifest",
            Self::Twice { .. } => "twice",
            Self::Mapping(_) => "not_mapped",
            Self::Linker(_) => "not_linked",
            Self::TimedOut { .. } => "timed_out",
            Self::Busy => "busy",
            Self::TooMany { .. } => "too_many_generations",
            Self::TooManyLibraries { .. } => "too_many_libraries",
        }
    }

    pub(super) fn elf(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Elf { field, problem: problem.into() }
    }

    pub(super) fn of(self, file: &str) -> LoadError {
        LoadError { file: file.to_owned(), reason: self }
    }
}

impl fmt::Display for LoadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(kind) => write!(f, "plugin file can't be read, {kind}"),
            Self::NotAFile => write!(f, "plugin path is not a regular file"),
            Self::TooLarge { max } => write!(f, "plugin file has more than {max} bytes"),
            Self::WrongHash { pinned, found } => {
                write!(f, "plugin's sha256 is not the pinned one, ")?;
                write!(f, "{pinned} is pinned, found {found}")
            }
            Self::Signature(problem) => {
                write!(f, "plugin's signature can't be used, {problem}")
            }
            Self::Elf { field, problem } => {
                write!(f, "plugin's ELF field `{field}` can't be used, {problem}")
            }
            Self::NoEntry => write!(f, "plugin exports no `{}`", abi::ENTRY),
            Self::Abi { built_for } => {
                let ours = abi::ABI_MAJOR;
                write!(f, "plugin was built for ABI {built_for}, host speaks {ours}")
            }
            Self::Descriptor { field, problem } => {
                write!(f, "plugin's descriptor field `{field}` can't be used, {problem}")
            }
            Self::Manifest(error) => write!(f, "plugin can't be used, {error}"),
            Self::Twice { id } => write!(f, "plugin has the id of another file, {id}"),
            Self::Mapping(problem) => write!(f, "plugin can't be mapped, {problem}"),
            Self::Linker(problem) => write!(f, "plugin can't be linked, {problem}"),
            Self::TimedOut { limit_ms } => {
                write!(f, "plugin's start-up code did not end within {limit_ms} ms")
            }
            Self::Busy => write!(f, "plugin can't be loaded, the worker pool takes no work"),
            Self::TooMany { max } => {
                write!(f, "plugin can't be loaded, {max} generations still have work, try later")
            }
            Self::TooManyLibraries { max } => {
                write!(f, "plugin can't be loaded, this process has mapped {max}, restart it first")
            }
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.file)
    }
}

impl std::error::Error for LoadError {}
