//! The files of the repository: what Git tracks, or, without Git, what lies there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::source::Source;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").into()
}

/// Paths from the root, with `/`, sorted. A source archive has no Git, so it is walked.
pub fn files() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let mut files = match listed {
        Ok(told) if told.status.success() && !told.stdout.is_empty() => {
            let text = String::from_utf8_lossy(&told.stdout).into_owned();
            text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()
        }
        _ => walked(),
    };
    files.retain(|path| root().join(path).is_file());
    files.sort();
    assert!(files.iter().any(|path| path == "Cargo.toml"), "this is not the repository");
    files
}

/// The Rust files, read.
pub fn rust() -> Vec<(String, Source)> {
    let paths = files().into_iter().filter(|path| path.ends_with(".rs"));
    paths.map(|path| (path.clone(), Source::read(&text(&path)))).collect()
}

/// The text of `path`; bytes that are no UTF-8 are replaced.
pub fn text(path: &str) -> String {
    let bytes = fs::read(root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn walked() -> Vec<String> {
    let mut folders = vec![root()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder can be read").flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if !["target", ".git", "node_modules"].iter().any(|skip| name == *skip) {
                    folders.push(path);
                }
            } else if let Ok(path) = path.strip_prefix(root()) {
                files.push(path.to_string_lossy().into_owned());
            }
        }
    }
    files
}
