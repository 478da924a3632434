//! Apple Pay as a wallet: sessions for merchants' pages, and tokens that are verified and opened
//! here, so that any processor can take what is in them.
//!
//! It takes no money. `session` asks Apple for a session, at one of the `gateways` that Apple
//! publishes. A token is read (`token`), its signature is verified (`ber`, `signature`, `chain`),
//! the key that it was encrypted to is found (`keys`), it is decrypted (`cipher`), and what was in
//! it is held against the payment (`inside`). `refusal` has a word for everything that can be wrong
//! with it.

mod account;
mod ber;
mod chain;
mod cipher;
mod gateways;
mod inside;
mod keys;
mod refusal;
mod session;
mod signature;
mod token;

use interlock_plugin_api::{
    Credential, Cx, Done, Event, Fact, Fault, Opened, Provider, Request, Step, StepResult,
    export_provider,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::account::Account;
use crate::refusal::No;
use crate::token::Token;

/// Whatever held a card's number or a key is wiped when it is freed, in whatever library it lay.
#[cfg(feature = "wiping-allocator")]
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

const UNASKED: Fault = Fault::input("this event was not asked for");
const WALLET: &str = "apple_pay";

/// One merchant at Apple.
pub struct ApplePay {
    account: Account,
}

/// What is kept between two steps: whether a session was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "asked", rename_all = "snake_case")]
pub enum State {
    /// Nothing was sent.
    #[default]
    Begun,
    /// Apple is asked for a session.
    Session,
}

impl Provider for ApplePay {
    type State = State;

    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn open(config: &Value) -> Result<Self, Fault> {
        Account::read(config).map(|account| Self { account })
    }

    fn start_session(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        match (s, e) {
            (State::Begun, Event::Start) => {
                let (send, body) = session::ask(&self.account, r)?;
                Ok(Step::send(send, body, State::Session))
            }
            (State::Session, Event::Response { status, .. }) => {
                Ok(Step::end(session::read(*status, cx.body)))
            }
            (State::Session, Event::Transport { reason, .. }) => {
                Ok(Step::done(Fact::unknown(reason.as_str())))
            }
            _ => Err(UNASKED),
        }
    }

    fn open_token(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let (State::Begun, Event::Start) = (s, e) else { return Err(UNASKED) };
        match self.opened(cx, r) {
            Ok(opened) => Ok(Step::end(Done { opened: Some(opened), ..Done::default() })),
            Err(No::Refused(why)) => Ok(Step::done(Fact::declined(why.class(), why.as_str()))),
            Err(No::Fault(fault)) => Err(fault),
        }
    }
}

impl ApplePay {
    fn opened(&self, cx: &Cx<'_>, r: &Request) -> Result<Opened, No> {
        let Some(Credential::EncryptedWalletToken { wallet, token }) = &r.credential else {
            return Err(Fault::input("there is no token to open").into());
        };
        if wallet != WALLET {
            return Err(Fault::input("the token is of another wallet").into());
        }
        let token = Token::read(token)?;
        let signed_ms = signature::verify(cx.host, &self.account.root, &token)?;
        self.account.judge_age(signed_ms, cx.now_ms)?;
        let key = keys::fitting(cx.host, &token)?;
        let text = cipher::open(cx.host, key, &self.account.merchant_id, &token)?;
        inside::read(&text, &token, r.amount)
    }
}

export_provider!(ApplePay);
