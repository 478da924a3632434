//! A plugin's folder: how its library is built, and where its fixtures are.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Where a plugin and its examples are.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The library.
    pub library: PathBuf,
    /// The folder of its fixtures.
    pub fixtures: PathBuf,
}

/// A folder that holds no plugin, or one that can't be built.
#[derive(Debug)]
pub struct FolderError {
    /// What is wrong, and perhaps what to do.
    pub problem: String,
    /// Which folder or file.
    pub path: PathBuf,
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem, self.path.display())
    }
}

impl std::error::Error for FolderError {}

impl Folder {
    /// Finds a plugin: a library as it is, or a folder whose library is built first, by Cargo or by
    /// make. What the builder says goes to standard error.
    ///
    /// # Errors
    /// [`FolderError`]; nothing was run but the builder.
    pub fn find(path: &Path, fixtures: Option<&Path>) -> Result<Self, FolderError> {
        let fail = |problem: &str| FolderError { problem: problem.into(), path: path.into() };
        if path.is_file() {
            let beside = path.parent().unwrap_or(Path::new(".")).join("fixtures");
            let fixtures = fixtures.map_or(beside, Path::to_path_buf);
            return Ok(Self { library: path.into(), fixtures });
        }
        if !path.is_dir() {
            return Err(fail("there is no such folder or library"));
        }
        let library = if path.join("Cargo.toml").is_file() {
            built_by_cargo(path)?
        } else if path.join("Makefile").is_file() {
            built_by_make(path)?
        } else {
            return Err(fail(
                "no plugin is here, it has no Cargo.toml and no Makefile; \
                 `interlock plugin new NAME` makes one",
            ));
        };
        let fixtures = fixtures.map_or_else(|| path.join("fixtures"), Path::to_path_buf);
        Ok(Self { library, fixtures })
    }
}

/// Builds with Cargo, which says itself where the library went.
fn built_by_cargo(folder: &Path) -> Result<PathBuf, FolderError> {
    let fail = |problem: String| FolderError { problem, path: folder.into() };
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--lib", "--message-format=json-render-diagnostics"]);
    let built = cargo.current_dir(folder).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let built = built.map_err(|e| fail(format!("cargo can't be run, {}", e.kind())))?;
    if !built.status.success() {
        return Err(fail("the plugin does not compile".into()));
    }
    let text = String::from_utf8_lossy(&built.stdout);
    let manifest = folder.join("Cargo.toml");
    let manifest = fs::canonicalize(&manifest).unwrap_or(manifest);
    let mut libraries = text.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let ours = message["manifest_path"].as_str().map(Path::new) == Some(&manifest);
        let files = message["filenames"].as_array().filter(|_| ours)?;
        let mut files = files.iter().filter_map(Value::as_str);
        files.find(|file| file.ends_with(".so")).map(PathBuf::from)
    });
    libraries.next_back().ok_or_else(|| {
        fail("no library came of it; Cargo.toml needs `[lib] crate-type = [\"cdylib\"]`".into())
    })
}

/// Builds with make; the newest library in the folder is it.
fn built_by_make(folder: &Path) -> Result<PathBuf, FolderError> {
    let fail = |problem: String| FolderError { problem, path: folder.into() };
    let made = Command::new("make").current_dir(folder).stdin(Stdio::null()).output();
    let made = made.map_err(|e| fail(format!("make can't be run, {}", e.kind())))?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        return Err(fail(format!("the plugin does not compile\n{said}")));
    }
    let files = fs::read_dir(folder).map_err(|e| fail(e.kind().to_string()))?.flatten();
    let mut libraries: Vec<PathBuf> = files.map(|file| file.path()).collect();
    libraries.retain(|path| path.extension().is_some_and(|ending| ending == "so"));
    libraries.sort_by_key(|path| fs::metadata(path).and_then(|m| m.modified()).ok());
    libraries.pop().ok_or_else(|| fail("make made no *.so".into()))
}
