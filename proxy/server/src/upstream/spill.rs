//! An answer's body that is too long for memory goes into a file.

use std::path::{Path, PathBuf};

use pingora::protocols::http::v1::client::HttpSession;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

use super::answer::lost_in_body;
use super::{Failure, reason};

/// Where a body goes, and how much of it at most.
#[derive(Clone, Debug)]
pub struct Spill {
    path: PathBuf,
    bytes_max: u64,
}

impl Spill {
    /// Into the file at `path`, which is made anew and which only its owner can read.
    pub fn into(path: &Path, bytes_max: u64) -> Self {
        Self { path: path.to_owned(), bytes_max }
    }

    pub(super) async fn take(&self, session: &mut HttpSession) -> Result<(), Failure> {
        let unwritten = |error: std::io::Error| {
            tracing::error!(%error, path = %self.path.display(), "an answer can't be written");
            Failure::maybe_sent(reason::UNREADABLE)
        };
        let mut how = OpenOptions::new();
        how.write(true).create(true).truncate(true).mode(0o600);
        let mut file = how.open(&self.path).await.map_err(unwritten)?;
        let mut bytes = 0;
        while let Some(part) = session.read_body_ref().await.map_err(|e| lost_in_body(&e))? {
            bytes += part.len() as u64;
            if bytes > self.bytes_max {
                return Err(Failure::maybe_sent(reason::ANSWER_TOO_LARGE));
            }
            file.write_all(part).await.map_err(unwritten)?;
        }
        file.flush().await.map_err(unwritten)
    }
}
