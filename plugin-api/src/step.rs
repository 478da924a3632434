//! What passes between host and plugin in one step: the envelope in, the next move out.
//!
//! Metadata is JSON; HTTP bodies travel beside it as raw bytes, because signatures cover exact
//! bytes. At most [`STEPS_MAX`] steps make one operation.

use core::net::IpAddr;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CaptureMode, CredentialForm, Fact, Money, Period, StatementPart};

/// More steps than this in one operation are a fault of the plugin.
pub const STEPS_MAX: u32 = 8;

/// What a plugin can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Take or reserve the amount, or make an offer that the shopper can pay.
    Authorize,
    /// The shopper came back.
    Continue,
    /// Take (part of) what was authorized.
    Capture,
    /// Release an authorization.
    Void,
    /// Give (part of) the money back.
    Refund,
    /// What became of the payment?
    Inquire,
    /// What became of a capture, void or refund?
    InquireOperation,
    /// End what is not paid.
    Close,
    /// Verify and read what the provider sent us.
    ParseNotification,
    /// Fetch public keys of the provider for one of the manifest's `keyrings`.
    FetchKeys,
    /// Fetch the provider's statement of a day.
    DownloadStatement,
    /// Read a piece of a statement's file.
    ReadStatement,
    /// Is the provider well?
    Probe,
    /// Open a wallet session for a merchant's page.
    StartSession,
    /// Verify and decrypt a wallet token.
    OpenToken,
}

impl Operation {
    /// The word in JSON, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Continue => "continue",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
            Self::Inquire => "inquire",
            Self::InquireOperation => "inquire_operation",
            Self::Close => "close",
            Self::ParseNotification => "parse_notification",
            Self::FetchKeys => "fetch_keys",
            Self::DownloadStatement => "download_statement",
            Self::ReadStatement => "read_statement",
            Self::Probe => "probe",
            Self::StartSession => "start_session",
            Self::OpenToken => "open_token",
        }
    }

    /// Whether the operation may make only `read` sends.
    pub fn reads_only(self) -> bool {
        matches!(
            self,
            Self::Inquire
                | Self::InquireOperation
                | Self::ParseNotification
                | Self::FetchKeys
                | Self::DownloadStatement
                | Self::ReadStatement
                | Self::Probe
                | Self::StartSession
                | Self::OpenToken
        )
    }
}

/// Part 0 of a step: everything but the continuation and the raw body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// What is asked.
    pub op: Operation,
    /// Now, Unix ms: for timestamps of authentication, made anew with every send.
    pub now_ms: i64,
    /// When the operation was first built, Unix ms: for what must stay the same in a re-send.
    pub made_ms: i64,
    /// 32 hexadecimal digits, the same in a re-send.
    pub entropy: String,
    /// The operation's data.
    pub request: Request,
    /// What happened.
    pub event: Event,
}

/// The data of an operation. Amounts are in the provider's minor units.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Our number of this operation, at most 32 of `[0-9A-Za-z]`: the provider's idempotency key.
    pub op_id: String,
    /// The amount of this operation.
    pub amount: Money,
    /// The provider's exponent of the currency.
    pub exponent: u8,
    /// When the money is to be taken.
    pub capture: CaptureMode,
    /// The API's method type.
    pub method: String,
    /// The flow.
    pub flow: String,
    /// What the shopper pays with; absent in a continuation after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
    /// What the shopper reads on the statement or the wallet's page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where the shopper returns to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// Where the provider notifies us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify_url: Option<String>,
    /// Who pays.
    #[serde(default)]
    pub customer: Customer,
    /// Of every operation but authorize: the authorize that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Original>,
    /// Of [`Operation::InquireOperation`]: what is asked about, and the provider's number of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<(Operation, Option<String>)>,
    /// Of a refund: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a continue: what the shopper's browser brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// Of [`Operation::FetchKeys`]: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<WantedKeys>,
    /// Of a statement: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// Of [`Operation::StartSession`]: for which page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionRequest>,
}

/// The page that asks for a wallet's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRequest {
    /// The page's host name, as it is registered at the wallet.
    pub domain: String,
    /// What the wallet's sheet calls the shop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// The address that the wallet gave to the page. It came through a browser: anybody may have
    /// written it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_url: Option<String>,
}

/// Which public keys of the provider are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedKeys {
    /// A name of the manifest's `keyrings`.
    pub ring: String,
    /// The one that something was signed with; absent when all that there are will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What a shopper's browser or app brought back. It is never journalled or logged, and its Debug
/// form is empty.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Details(pub serde_json::Value);

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Details")
    }
}

/// Who pays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// The merchant's own id of the shopper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// ISO 3166-1 alpha-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The address that the shopper's browser or app comes from, as some wallets demand it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
}

/// The authorize that a later operation belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// Our number of it.
    pub op_id: String,
    /// The provider's number, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_ref: Option<String>,
    /// Its amount.
    pub amount: Money,
}

/// A shopper's credential. It is never journalled or logged, and its Debug form is empty.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case")]
pub enum Credential {
    /// A code from the wallet's screen.
    AuthCode {
        /// The digits.
        auth_code: String,
    },
    /// The shopper's id inside the wallet's own app.
    OpenId {
        /// The id.
        openid: String,
    },
    /// A decrypted network token.
    NetworkToken {
        /// The device or network account number.
        number: String,
        /// 1 to 12.
        expiry_month: u8,
        /// Four digits.
        expiry_year: u16,
        /// The one-time cryptogram, base64.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cryptogram: Option<String>,
        /// The electronic commerce indicator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        eci: Option<String>,
        /// `apple_pay`, `google_pay` or `network`.
        source: String,
    },
    /// A card number without a cryptogram: the issuer has authenticated nobody yet, so it is taken
    /// with 3-D Secure.
    Card {
        /// The account number.
        number: String,
        /// 1 to 12.
        expiry_month: u8,
        /// Four digits.
        expiry_year: u16,
        /// `google_pay`.
        source: String,
    },
    /// A wallet's token as received: to be opened, or encrypted to this processor.
    EncryptedWalletToken {
        /// `apple_pay` or `google_pay`.
        wallet: String,
        /// The token.
        token: serde_json::Value,
    },
    /// The processor's own stored token.
    AccountToken {
        /// The token.
        token: String,
    },
}

impl Credential {
    /// Its form, which may be journalled.
    pub fn form(&self) -> CredentialForm {
        match self {
            Self::AuthCode { .. } => CredentialForm::AuthCode,
            Self::OpenId { .. } => CredentialForm::OpenId,
            Self::NetworkToken { .. } => CredentialForm::NetworkToken,
            Self::Card { .. } => CredentialForm::Card,
            Self::EncryptedWalletToken { .. } => CredentialForm::EncryptedWalletToken,
            Self::AccountToken { .. } => CredentialForm::AccountToken,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({:?})", self.form())
    }
}

/// What happened since the last step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The operation begins.
    Start,
    /// The provider answered; the raw body is in the body part.
    Response {
        /// The HTTP status.
        status: u16,
        /// Names in lower case.
        headers: Vec<(String, String)>,
    },
    /// No answer came.
    Transport {
        /// What is known about the request.
        outcome: TransportLoss,
        /// A named reason: `connect_refused`, `timeout`, `reset`, ...
        reason: String,
    },
    /// A piece of a statement's file, of whole lines, is in the body part.
    Piece {
        /// Nothing follows it.
        last: bool,
    },
    /// The provider sent us this; the raw body is in the body part.
    Notification {
        /// Names in lower case.
        headers: Vec<(String, String)>,
    },
}

impl Event {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = match self {
            Self::Response { headers, .. } | Self::Notification { headers } => headers,
            Self::Start | Self::Transport { .. } | Self::Piece { .. } => return None,
        };
        headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What the socket knows about a request that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportLoss {
    /// No byte left.
    NotSent,
    /// Some bytes may have arrived.
    MaybeSent,
}

/// Part 0 out: what the plugin wants next.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Next {
    /// Send this; the raw request body is in the body part.
    Send(Send),
    /// The operation is over.
    Done(Done),
}

/// A request for the provider. The endpoint is a name of the manifest's `hosts`, never an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// `GET`, `POST`, ...
    pub method: String,
    /// A name of the manifest's `hosts`.
    pub endpoint: String,
    /// Begins with `/`; the host encodes nothing in it.
    pub path: String,
    /// Pairs that the host percent-encodes.
    #[serde(default)]
    pub query: Vec<(String, String)>,
    /// `{secret:NAME}` in a value is replaced by the host on the wire.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// The end of an operation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// What the provider said; several for a notification.
    pub facts: Vec<Fact>,
    /// Of a notification: its signature was verified. Nothing else of it counts otherwise.
    #[serde(default)]
    pub verified: bool,
    /// Of a notification: the provider's id of it, by which copies are recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Of a notification: what to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
    /// Of [`Operation::FetchKeys`]: what was found, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<ProviderKey>,
    /// Of a statement: a part of it. The continuation is given to the call for the next part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<StatementPart>,
    /// Of [`Operation::StartSession`]: what the page gives to the wallet, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Of [`Operation::OpenToken`]: what was in it. A token that is refused has none, and one fact
    /// says why: `declined`, its class, and a word of the plugin as the provider code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<Opened>,
}

/// What a wallet's token held, once it was verified and decrypted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// What processors can take.
    pub credential: Credential,
    /// The wallet's own number of the token, at most 128 characters: it is used once.
    pub token_id: String,
    /// What the shopper was shown, in ISO 4217 minor units; absent where the token does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
}

/// A public key of the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderKey {
    /// How the provider names it beside a signature: a serial number, an id. No `/`, at most 128
    /// characters.
    pub id: String,
    /// Its certificate (then perhaps those that issued it), or the bare public key. PEM.
    pub pem: String,
}

/// The exact answer that a provider wants for its notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The HTTP status.
    pub status: u16,
    /// The content type.
    pub content_type: String,
    /// The body, byte for byte.
    pub body: String,
}
