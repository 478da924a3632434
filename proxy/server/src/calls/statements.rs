//! A provider's statement: its parts through the plugin, its file into a file of ours.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use interlock_plugin_api::{
    Effect, Envelope, Event, Operation, Period, Request, StatementFile, StatementPart,
};
use interlock_plugin_host::classify_send;

use super::{Caller, Ended, about_nothing, path_and_query};
use crate::setup::OpenAccount;
use crate::upstream::{Outgoing, Spill};

/// A statement's file may take so long.
const FILE_PATIENCE: Duration = Duration::from_secs(600);
/// And may be so large as it is got, bytes.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// A part of a statement, and what the plugin keeps until the next.
pub struct Part {
    /// What it says.
    pub part: StatementPart,
    /// The continuation.
    pub state: Vec<u8>,
}

impl Caller {
    /// The next part of the statement of a day, from the provider.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn ask_for_statement(
        &self,
        account: &Arc<OpenAccount>,
        date: &str,
        state: Vec<u8>,
    ) -> Result<Part, String> {
        let envelope = self.about_statement(account, Operation::DownloadStatement, date)?;
        self.statement_part(account, envelope, state, Bytes::new()).await
    }

    /// What a piece of a statement's file says. The piece is of whole lines.
    ///
    /// # Errors
    /// Why it can't be read, in words.
    pub async fn read_statement(
        &self,
        account: &Arc<OpenAccount>,
        date: &str,
        state: Vec<u8>,
        piece: Bytes,
        last: bool,
    ) -> Result<Part, String> {
        let mut envelope = self.about_statement(account, Operation::ReadStatement, date)?;
        envelope.event = Event::Piece { last };
        self.statement_part(account, envelope, state, piece).await
    }

    /// Fetches a statement's file, as it is packed, into a new file of ours.
    ///
    /// # Errors
    /// Why it could not be got, in words.
    pub async fn download(
        &self,
        account: &Arc<OpenAccount>,
        file: &StatementFile,
        into: &Path,
    ) -> Result<(), String> {
        let generation = account.instance.generation();
        let op = Operation::DownloadStatement;
        let judged = classify_send(generation.manifest(), op, &file.send, b"");
        let read = judged.is_ok_and(|judged| judged.effect == Effect::Read);
        let endpoint = account.endpoints.get(&file.send.endpoint).filter(|_| read);
        let endpoint = endpoint.ok_or("the plugin names a file that it may not read")?;
        let mut headers = Vec::with_capacity(file.send.headers.len());
        for (name, value) in &file.send.headers {
            let value = account.instance.secrets().substitute(value).map_err(|e| e.to_string())?;
            headers.push((name.clone(), value.to_string()));
        }
        let by = Instant::now() + FILE_PATIENCE;
        let outgoing = Outgoing {
            method: file.send.method.clone(),
            path_and_query: path_and_query(&file.send),
            headers,
            body: Bytes::new(),
            connect_timeout: account.connect_timeout,
            deadline: by,
            last_send_by: by,
            body_limit: 0,
            cut_body: false,
            retry_read: true,
            spill: Some(Spill::into(into, FILE_BYTES_MAX)),
        };
        let answer = self.upstream.send(endpoint, outgoing).await;
        let answer = answer.map_err(|lost| format!("the file did not come: {}", lost.reason))?;
        match answer.status {
            200 => Ok(()),
            status => Err(format!("the file was answered with {status}")),
        }
    }

    fn about_statement(
        &self,
        account: &OpenAccount,
        op: Operation,
        date: &str,
    ) -> Result<Envelope, String> {
        let period = Some(Period { date: date.to_owned() });
        let request = Request { period, ..about_nothing(account) };
        Ok(self.envelope(op, request, None))
    }

    async fn statement_part(
        &self,
        account: &Arc<OpenAccount>,
        envelope: Envelope,
        state: Vec<u8>,
        body: Bytes,
    ) -> Result<Part, String> {
        let (ended, _) = self.reads(account, envelope, state, body).await?;
        let Ended::Done(done, state) = ended else {
            return Err("a statement may only be read".into());
        };
        let part = done.statement.ok_or("the plugin gave no statement")?;
        Ok(Part { part, state })
    }
}
