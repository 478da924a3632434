//! Calls of a wallet: a session for a page, and what is in a token. Neither moves money.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use interlock_plugin_api::{
    Class, Credential, Done, Fact, FaultKind, Money, Opened, Operation, SessionRequest,
};
use interlock_plugin_host::StepError;

use super::{Caller, Ended, about, about_nothing, millis};
use crate::setup::{OpenAccount, iso_exponent};

/// What became of a request for a session.
pub struct Session {
    /// What the page is given; none where the wallet refused, and then a fact says why.
    pub session: Result<Option<String>, String>,
    /// What the wallet said.
    pub facts: Vec<Fact>,
    /// The HTTP status; 0 when nothing was heard.
    pub status: u16,
    /// How long it took, ms.
    pub elapsed_ms: u64,
}

impl Caller {
    /// Opens a session for a merchant's page.
    pub async fn start_session(
        &self,
        account: &Arc<OpenAccount>,
        asked: SessionRequest,
    ) -> Session {
        let begun = Instant::now();
        let mut request = about_nothing(account);
        request.session = Some(asked);
        let envelope = self.envelope(Operation::StartSession, request, None);
        // A step is pure, so it can be asked beforehand whether the page may have this at all.
        let first = account.instance.step(&envelope, b"", b"").await;
        if let Err(StepError::Fault { kind: FaultKind::Input, text }) = first {
            let facts = vec![Fact::declined(Class::User, text)];
            return Session { session: Ok(None), facts, status: 0, elapsed_ms: 0 };
        }
        let heard = self.reads(account, envelope, Vec::new(), Bytes::new()).await;
        let elapsed_ms = millis(begun.elapsed());
        match heard.and_then(|(ended, status)| Ok((done(ended)?, status))) {
            Ok((done, status)) => {
                Session { session: Ok(done.session), facts: done.facts, status, elapsed_ms }
            }
            Err(why) => Session { session: Err(why), facts: Vec::new(), status: 0, elapsed_ms },
        }
    }

    /// Verifies and decrypts a wallet's token for a payment of this amount, in ISO 4217 minor
    /// units: what was in it, or the facts that say why it is refused.
    ///
    /// # Errors
    /// It could not be judged.
    pub async fn open_token(
        &self,
        account: &Arc<OpenAccount>,
        money: Money,
        credential: Credential,
    ) -> Result<(Option<Opened>, Vec<Fact>), String> {
        let mut request = about(account, money, iso_exponent(money.currency).unwrap_or_default());
        request.credential = Some(credential);
        let envelope = self.envelope(Operation::OpenToken, request, None);
        let (ended, _) = self.reads(account, envelope, Vec::new(), Bytes::new()).await?;
        let done = done(ended)?;
        Ok((done.opened, done.facts))
    }
}

fn done(ended: Ended) -> Result<Done, String> {
    match ended {
        Ended::Done(done, _) => Ok(done),
        Ended::Effect(..) => Err("a wallet may only read".into()),
    }
}
