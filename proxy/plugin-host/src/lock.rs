//! `plugins.lock`: which plugin files may run, by sha256.
//!
//! Only pinned bytes run. The file is written by `interlock plugin pin` after it has shown what
//! changed, lies beside the configuration and belongs into version control.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::elf::{Inspection, PluginFile};
use super::load_error::{LoadError, LoadReason};
use super::publisher::{Publisher, Signed, read_signature};

/// A lock file has at most this many bytes.
const LOCK_BYTES_MAX: u64 = 1024 * 1024;

/// The content of `plugins.lock`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginLock {
    /// The pinned plugins, by name.
    #[serde(default, rename = "plugin")]
    pub plugins: Vec<LockedPlugin>,
}

/// One pinned plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPlugin {
    /// The id in its manifest.
    pub name: String,
    /// The file's name in the plugin folder.
    pub file: String,
    /// sha256 of the file, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// The plugin's own version.
    pub version: String,
    /// The ABI that it was built for: `major.minor`.
    pub abi: String,
    /// The public key of its publisher, 64 hexadecimal digits: only files that he signed run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ed25519: Option<String>,
}

impl LockedPlugin {
    /// The hash as bytes; `None` when it is not 64 hexadecimal digits.
    pub fn digest(&self) -> Option<[u8; 32]> {
        hex::decode(&self.sha256).ok()?.try_into().ok()
    }

    /// Checks the signature beside the file, where a publisher is pinned. It covers the pinned
    /// hash, so the file itself is not read.
    ///
    /// # Errors
    /// [`LoadReason::Signature`] with the file.
    pub fn check_publisher(&self, dir: &Path) -> Result<(), LoadError> {
        let Some(key) = &self.ed25519 else { return Ok(()) };
        let fail = |problem| LoadReason::Signature(problem).of(&self.file);
        let publisher = Publisher::from_hex(key)
            .ok_or_else(|| fail("`ed25519` has no 64 hexadecimal digits"))?;
        let signature = read_signature(&dir.join(&self.file)).map_err(fail)?;
        let major = self.abi.split('.').next().and_then(|major| major.parse().ok());
        let (Some(abi_major), Some(sha256)) = (major, self.digest()) else {
            return Err(fail("its pin is unreadable"));
        };
        let signed = Signed { abi_major, id: &self.name, version: &self.version, sha256 };
        match publisher.signed(&signed, &signature) {
            true => Ok(()),
            false => Err(fail("it is not the pinned publisher's of this file")),
        }
    }
}

/// What pinning changed in the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A plugin that was not pinned.
    Added(LockedPlugin),
    /// A plugin whose file differs.
    Changed {
        /// As it was pinned.
        from: LockedPlugin,
        /// As it is.
        to: LockedPlugin,
    },
    /// A pinned plugin whose file is gone.
    Removed(LockedPlugin),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(p) => write!(f, "added {} {}: {} {}", p.name, p.version, p.file, p.sha256),
            Self::Changed { from, to } => write!(
                f,
                "changed {} {} to {}: {} {} to {}",
                to.name, from.version, to.version, to.file, from.sha256, to.sha256
            ),
            Self::Removed(p) => write!(f, "removed {} {}: {}", p.name, p.version, p.file),
        }
    }
}

/// A lock file that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockError {
    /// The path.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin lock can't be used, {}: {}", self.problem, self.path)
    }
}

impl std::error::Error for LockError {}

impl PluginLock {
    /// Reads and checks a lock file.
    ///
    /// # Errors
    /// [`LockError`] for a file that can't be read, is not of this shape, pins a name or file
    /// twice, or names a file outside the plugin folder.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let fail = |problem: String| LockError { path: path.display().to_string(), problem };
        let size = fs::metadata(path).map_err(|e| fail(e.kind().to_string()))?.len();
        if size > LOCK_BYTES_MAX {
            return Err(fail(format!("it has more than {LOCK_BYTES_MAX} bytes")));
        }
        let text = fs::read_to_string(path).map_err(|e| fail(e.kind().to_string()))?;
        let lock: Self = toml::from_str(&text).map_err(|e| fail(one_line(e.message())))?;
        lock.check().map_err(fail)?;
        Ok(lock)
    }

    /// Writes the lock so that a crash leaves either the old or the new one.
    ///
    /// # Errors
    /// [`LockError`] when the folder can't be written.
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let fail = |problem: String| LockError { path: path.display().to_string(), problem };
        self.check().map_err(fail)?;
        let text = toml::to_string(self).map_err(|e| fail(e.to_string()))?;
        replace(path, text.as_bytes()).map_err(|e| fail(e.kind().to_string()))
    }

    /// The pin of a plugin by its name.
    pub fn plugin(&self, name: &str) -> Option<&LockedPlugin> {
        self.plugins.iter().find(|p| p.name == name)
    }

    /// The pin of a file of the plugin folder.
    pub fn file(&self, file: &str) -> Option<&LockedPlugin> {
        self.plugins.iter().find(|p| p.file == file)
    }

    fn check(&self) -> Result<(), String> {
        let (mut names, mut files) = (BTreeMap::new(), BTreeMap::new());
        for plugin in &self.plugins {
            let keyless = |key: &String| Publisher::from_hex(key).is_none();
            if plugin.ed25519.as_ref().is_some_and(keyless) {
                return Err(format!("`ed25519` is not 64 hexadecimal digits, {}", plugin.name));
            }
            if plugin.digest().is_none() {
                return Err(format!("`sha256` is not 64 hexadecimal digits, {}", plugin.name));
            }
            let inside = !plugin.file.is_empty()
                && Path::new(&plugin.file).file_name() == Some(plugin.file.as_ref());
            if !inside {
                return Err(format!("`file` is not a file of the plugin folder, {}", plugin.file));
            }
            if names.insert(&plugin.name, ()).is_some() {
                return Err(format!("`name` is pinned twice, {}", plugin.name));
            }
            if files.insert(&plugin.file, ()).is_some() {
                return Err(format!("`file` is pinned twice, {}", plugin.file));
            }
        }
        Ok(())
    }
}

/// Makes `lock` agree with the libraries (`*.so`) of a folder and says what changed. The caller
/// shows the changes and writes the lock. A plugin whose publisher is pinned stays his; those that
/// `publisher` signed become his.
///
/// # Errors
/// The first file that could not be loaded, or that its pinned publisher did not sign; then the
/// lock is left as it was.
pub fn pin(
    dir: &Path,
    lock: &mut PluginLock,
    publisher: Option<Publisher>,
) -> Result<Vec<Change>, LoadError> {
    let mut found: BTreeMap<String, LockedPlugin> = BTreeMap::new();
    for path in libraries(dir)? {
        let inspection = PluginFile::read(&path)?.inspect()?;
        let mut plugin = locked(&inspection)?;
        plugin.ed25519 = lock.plugin(&plugin.name).and_then(|old| old.ed25519.clone());
        if let Some(publisher) = publisher {
            let his = LockedPlugin { ed25519: Some(publisher.to_hex()), ..plugin.clone() };
            if his.check_publisher(dir).is_ok() {
                plugin = his;
            }
        }
        plugin.check_publisher(dir)?;
        if found.contains_key(&plugin.name) {
            return Err(LoadReason::Twice { id: plugin.name }.of(&plugin.file));
        }
        found.insert(plugin.name.clone(), plugin);
    }
    let mut changes = Vec::new();
    for new in found.values() {
        match lock.plugin(&new.name) {
            None => changes.push(Change::Added(new.clone())),
            Some(old) if old == new => {}
            Some(old) => changes.push(Change::Changed { from: old.clone(), to: new.clone() }),
        }
    }
    let gone = lock.plugins.iter().filter(|old| !found.contains_key(&old.name));
    changes.extend(gone.cloned().map(Change::Removed));
    lock.plugins = found.into_values().collect();
    Ok(changes)
}

fn libraries(dir: &Path) -> Result<Vec<std::path::PathBuf>, LoadError> {
    let fail = |e: std::io::Error| LoadReason::Unreadable(e.kind()).of(&dir.display().to_string());
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == "so") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn locked(inspection: &Inspection) -> Result<LockedPlugin, LoadError> {
    let Some(manifest) = &inspection.manifest else {
        let problem = "it is unreadable without loading".to_owned();
        return Err(LoadReason::Descriptor { field: "manifest", problem }.of(&inspection.file));
    };
    Ok(LockedPlugin {
        name: manifest.id.clone(),
        file: inspection.file.clone(),
        sha256: hex::encode(inspection.sha256),
        version: manifest.version.clone(),
        abi: format!("{}.{}", inspection.abi.0, inspection.abi.1),
        ed25519: None,
    })
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
