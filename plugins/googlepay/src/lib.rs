//! Google Pay (ECv2, ECv1, ECv2SigningOnly): verifies and decrypts a payment token, and moves no
//! money.
//!
//! Google signs what a shopper chose with keys that it publishes, and encrypts it to the merchant.
//! So the public keys are read first, from Google or, when it can't be asked, from the account;
//! then the token is judged in the order in which it can harm: its form (`token`), who signed it
//! (`roots`, `signatures`), and only then what is sealed in it (`sealed`, `payload`). `refusal`
//! says why not. What can't be judged now is a fault and no verdict. Private keys stay in the host.

mod payload;
mod refusal;
mod roots;
mod sealed;
mod settings;
mod signatures;
mod token;

use interlock_plugin_api::{
    Credential, Cx, Done, Event, Fact, Fault, Provider, Request, Send, Step, StepResult,
    export_provider,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::refusal::Stop;
use crate::roots::Roots;
use crate::settings::Settings;
use crate::token::{Protocol, Token};

/// Every allocation held a card number, for all that is known here: memory is wiped as it is freed.
#[cfg(feature = "wiped-heap")]
#[global_allocator]
static HEAP: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

const UNASKED: Fault = Fault::input("this event was not asked for");
const WALLET: &str = "google_pay";

/// One merchant of Google Pay.
pub struct GooglePay {
    settings: Settings,
}

/// What is kept between two steps. The token comes with every step, so nothing of it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing was sent.
    #[default]
    Begun,
    /// The public keys are asked for.
    Keys,
}

impl Provider for GooglePay {
    type State = State;

    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn open(config: &Value) -> Result<Self, Fault> {
        Settings::read(config).map(|settings| Self { settings })
    }

    fn open_token(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let token = wallet_token(r)?;
        match (s, e) {
            (State::Begun, Event::Start) => {
                let send = Send {
                    method: "GET".into(),
                    endpoint: "keys".into(),
                    path: self.settings.keys_path().into(),
                    query: Vec::new(),
                    headers: vec![("accept".into(), "application/json".into())],
                };
                Ok(Step::send(send, Vec::new(), State::Keys))
            }
            (State::Keys, Event::Response { status, .. }) => {
                let fetched = Some(cx.body).filter(|_| *status == 200).and_then(Roots::fetched);
                self.judge(cx, token, fetched.as_ref())
            }
            (State::Keys, Event::Transport { .. }) => self.judge(cx, token, None),
            _ => Err(UNASKED),
        }
    }
}

impl GooglePay {
    /// What was fetched is the truth, also where it verifies nothing; the account's own keys stand
    /// in only where nothing could be fetched.
    fn judge(&self, cx: &Cx<'_>, token: &Value, fetched: Option<&Roots>) -> StepResult<Self> {
        let roots = fetched.or(self.settings.root_keys.as_ref());
        let roots = roots.ok_or(Fault::internal("the wallet's public keys could not be read"))?;
        match self.opened(cx, token, roots) {
            Ok(done) => Ok(Step::end(done)),
            Err(Stop::Refused(why)) => Ok(Step::done(Fact::declined(why.class(), why.word()))),
            Err(Stop::Fault(fault)) => Err(fault),
        }
    }

    fn opened(&self, cx: &Cx<'_>, token: &Value, roots: &Roots) -> Result<Done, Stop> {
        let token = Token::read(token, &self.settings.protocols)?;
        signatures::check(cx, &token, roots, &self.settings.recipient_id)?;
        let plain = match token.protocol {
            Protocol::EcV2SigningOnly => Zeroizing::new(token.signed_message.into_bytes()),
            Protocol::EcV1 | Protocol::EcV2 => sealed::open(cx.host, &token)?,
        };
        let opened =
            payload::read(&plain, cx.now_ms, self.settings.gateway_merchant_id.as_deref())?;
        Ok(Done { opened: Some(opened), ..Done::default() })
    }
}

fn wallet_token(r: &Request) -> Result<&Value, Fault> {
    match &r.credential {
        Some(Credential::EncryptedWalletToken { wallet, token }) if wallet == WALLET => Ok(token),
        _ => Err(Fault::input("there is no token of this wallet")),
    }
}

export_provider!(GooglePay);
