//! The folder in which tests make their temporary ones, below the target folder: a test that is
//! killed cleans nothing, so what it leaves goes with the run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::ground::{Ground, Progress};
use crate::rehearsal::make_folder;

/// The longest path of a socket is 107 bytes, and tests make some: `/.tmpAbCdEf/notify.sock`.
const BYTES_MAX: usize = 107 - 32;

/// One run's folder, removed with it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it, and removes those of runs that were ended before they could. None where the
    /// target folder lies so deep that no socket could be made there.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn make(ground: &Ground, progress: &Progress) -> Result<Option<Self>, String> {
        let all = ground.target.join("scratch");
        let ours = Self(all.join(std::process::id().to_string()));
        if !ours.holds_sockets() {
            let system = std::env::temp_dir();
            progress.say(&format!("temporary files go to {}", system.display()));
            return Ok(None);
        }
        remove_ended(&all);
        make_folder(&ours.0)?;
        Ok(Some(ours))
    }

    fn holds_sockets(&self) -> bool {
        self.0.as_os_str().len() <= BYTES_MAX
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed is tried again by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Each folder has the number of its process.
fn remove_ended(all: &Path) {
    for old in fs::read_dir(all).into_iter().flatten().flatten() {
        if !Path::new("/proc").join(old.file_name()).exists() {
            let _ = fs::remove_dir_all(old.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_run_and_those_of_ended_runs_before() {
        let all = std::env::temp_dir().join(format!("xtask-{}", std::process::id()));
        // No process has a number as large as that.
        let (ended, alive) = (all.join("4194305"), all.join("1"));
        for folder in [&ended, &alive] {
            make_folder(&folder.join("x")).expect("made");
        }
        remove_ended(&all);
        assert!(!ended.exists() && alive.exists());
        drop(Scratch(all.clone()));
        assert!(!all.exists());
    }

    #[test]
    fn a_folder_that_lies_too_deep_for_a_socket_is_not_used() {
        let named = |bytes: usize| Scratch("x".repeat(bytes).into());
        assert!(named(BYTES_MAX).holds_sockets());
        assert!(!named(BYTES_MAX + 1).holds_sockets());
    }
}
