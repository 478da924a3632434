//! Gets a statement's parts: from the provider, or out of a file, through the plugin.
//!
//! A file is unpacked twice: once to know that it is whole, and only then to hear its lines. So a
//! file that was cut short or changed on its way has told nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use interlock_journal::Health;
use interlock_plugin_api::{StatementFile, StatementPart};
use tokio::sync::mpsc;

use super::unpack::{Piece, check, pieces};
use crate::driver::Driver;
use crate::setup::OpenAccount;

/// Pieces of a file that wait for being read.
const PIECES_AHEAD: usize = 4;
/// Parts of one statement at most.
const PARTS_MAX: usize = 100_000;
/// How often the room on the disk is looked at while a file comes.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Who hears a statement.
#[async_trait]
pub trait Hears: Send {
    /// So many bytes of its file are about to be read.
    fn bytes(&mut self, count: usize);

    /// A part of it.
    ///
    /// # Errors
    /// Why no more is to be heard.
    async fn part(&mut self, part: StatementPart) -> Result<(), String>;
}

/// Reads statements.
#[derive(Clone)]
pub struct Reader {
    driver: Arc<Driver>,
    /// Where files are while they are read.
    folder: PathBuf,
}

impl Reader {
    /// A reader; what an earlier process left of its files is removed.
    pub fn new(driver: Arc<Driver>, data: &Path) -> Self {
        let folder = data.join("statements");
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "old statements can't be removed");
        }
        Self { driver, folder }
    }

    /// Reads a provider's own statement of a day to its end; `id` names its file.
    ///
    /// # Errors
    /// Why it was not read to its end, in words.
    pub async fn provider(
        &self,
        account: &Arc<OpenAccount>,
        (date, id): (&str, &str),
        heard_by: &mut dyn Hears,
    ) -> Result<(), String> {
        let mut state = Vec::new();
        for _ in 0..PARTS_MAX {
            let caller = self.driver.caller();
            let asked = caller.ask_for_statement(account, date, state).await?;
            let (mut part, next) = (asked.part, asked.state);
            let (more, file) = (part.more, part.file.take());
            heard_by.part(part).await?;
            if let Some(file) = file {
                self.file(account, (date, id), &file, heard_by).await?;
            }
            if !more {
                return Ok(());
            }
            state = next;
        }
        Err(format!("the statement has more than {PARTS_MAX} parts"))
    }

    /// One piece of a file; the continuation for the next.
    ///
    /// # Errors
    /// Why it can't be read, in words.
    pub async fn piece(
        &self,
        account: &Arc<OpenAccount>,
        date: &str,
        (state, piece, last): (Vec<u8>, Bytes, bool),
        heard_by: &mut dyn Hears,
    ) -> Result<Vec<u8>, String> {
        heard_by.bytes(piece.len());
        let caller = self.driver.caller();
        let read = caller.read_statement(account, date, state, piece, last).await?;
        heard_by.part(read.part).await?;
        Ok(read.state)
    }

    /// Gets a file, and reads it as it is unpacked.
    async fn file(
        &self,
        account: &Arc<OpenAccount>,
        (date, id): (&str, &str),
        file: &StatementFile,
        heard_by: &mut dyn Hears,
    ) -> Result<(), String> {
        std::fs::create_dir_all(&self.folder).map_err(|e| e.to_string())?;
        let path = Removed(self.folder.join(id));
        self.get(account, file, &path.0).await?;
        let (give, mut unpacked) = mpsc::channel::<Piece>(PIECES_AHEAD);
        let (at, packing, sha1) = (path.0.clone(), file.packing, file.sha1.clone());
        let unpacking = tokio::task::spawn_blocking(move || {
            check(&at, packing, sha1.as_deref())?;
            pieces(&at, packing, &mut |piece| {
                give.blocking_send(piece).map_err(|_| "it could not be read".to_owned())
            })
        });
        let mut state = Vec::new();
        let mut failed = None;
        while let Some(Piece { bytes, last }) = unpacked.recv().await {
            let piece = (state, bytes.into(), last);
            match self.piece(account, date, piece, heard_by).await {
                Ok(next) => state = next,
                Err(why) => {
                    failed = Some(why);
                    break;
                }
            }
        }
        drop(unpacked);
        let ended = unpacking.await.map_err(|e| e.to_string())?;
        failed.map_or(ended, Err)
    }

    /// A statement can be had again tomorrow: it never takes the room that outcomes need.
    async fn get(
        &self,
        account: &Arc<OpenAccount>,
        file: &StatementFile,
        into: &Path,
    ) -> Result<(), String> {
        let full = async {
            while self.driver.store.health() == Health::Writable {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = full => Err("the disk has no room for the statement's file".to_owned()),
            got = self.driver.caller().download(account, file, into) => got,
        }
    }
}

/// A file that is gone when it is not used any more.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a statement can't be removed");
        }
    }
}
