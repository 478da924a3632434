//! The trait that a plugin author implements.
//!
//! The whole life of a plugin: the host reads [`Provider::MANIFEST`] from the file; calls
//! [`Provider::open`] once with the account's configuration; then calls the operations from any
//! thread, any number at once. Each call is one step of one operation: it gets what happened since
//! the last step and gives back either a request to send or the facts that end the operation. The
//! state between two steps is bytes that the host keeps; a plugin keeps nothing.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Event, Fact, Next, Request, Send as Request_, StatementPart, step};

/// A provider, as a pure translator of its protocol.
pub trait Provider: Sized + std::marker::Send + Sync + 'static {
    /// What is kept between two steps of an operation. Journalled: never put a credential in it.
    type State: Serialize + DeserializeOwned + Default;

    /// The [`crate::Manifest`] as JSON.
    const MANIFEST: &'static str;

    /// Reads the account's configuration.
    ///
    /// # Errors
    /// A [`Fault`] of kind [`FaultKind::Config`] that names the field.
    fn open(config: &serde_json::Value) -> Result<Self, Fault>;

    /// Takes or reserves the amount, or makes an offer.
    ///
    /// # Errors
    /// Every operation may fail with a [`Fault`]; what that means for the money is the host's to
    /// decide, from what was sent before.
    fn authorize(&self, cx: &Cx<'_>, r: &Request, s: Self::State, e: &Event) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// The shopper came back.
    ///
    /// # Errors
    /// As [`Provider::authorize`].
    fn resume(&self, cx: &Cx<'_>, r: &Request, s: Self::State, e: &Event) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// Takes (part of) what was authorized.
    ///
    /// # Errors
    /// As [`Provider::authorize`].
    fn capture(&self, cx: &Cx<'_>, r: &Request, s: Self::State, e: &Event) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// Releases an authorization.
    ///
    /// # Errors
    /// As [`Provider::authorize`].
    fn void(&self, cx: &Cx<'_>, r: &Request, s: Self::State, e: &Event) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// Gives (part of) the money back.
    ///
    /// # Errors
    /// As [`Provider::authorize`].
    fn refund(&self, cx: &Cx<'_>, r: &Request, s: Self::State, e: &Event) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// Asks what became of a payment.
    ///
    /// # Errors
    /// As [`Provider::authorize`].
    fn inquire(&self, cx: &Cx<'_>, r: &Request, s: Self::State, e: &Event) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// Asks what became of a capture, void or refund (`r.target`).
    ///
    /// # Errors
    /// As [`Provider::authorize`].
    fn inquire_operation(
        &self,
        cx: &Cx<'_>,
        r: &Request,
        s: Self::State,
        e: &Event,
    ) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// Ends what is not paid.
    ///
    /// # Errors
    /// As [`Provider::authorize`].
    fn close(&self, cx: &Cx<'_>, r: &Request, s: Self::State, e: &Event) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// Verifies and reads a notification; must end in a [`crate::Done`] with `verified` set.
    ///
    /// # Errors
    /// As [`Provider::authorize`].
    fn parse_notification(&self, cx: &Cx<'_>, s: Self::State, e: &Event) -> StepResult<Self> {
        let _ = (cx, s, e);
        Err(Fault::UNSUPPORTED)
    }
    /// Fetches public keys of the provider (`r.wanted`); must end in a [`crate::Done`] with `keys`.
    ///
    /// # Errors
    /// As [`Provider::authorize`].
    fn fetch_keys(&self, cx: &Cx<'_>, r: &Request, s: Self::State, e: &Event) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// Fetches the provider's statement of a day (`r.period`); must end in a [`crate::Done`] with
    /// `statement`. Asked for the next part it is given the continuation and [`Event::Start`].
    ///
    /// # Errors
    /// As [`Provider::authorize`].
    fn download_statement(
        &self,
        cx: &Cx<'_>,
        r: &Request,
        s: Self::State,
        e: &Event,
    ) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// Reads a piece of a statement's file, of at most 64 KiB and of whole lines
    /// ([`Event::Piece`], the piece is `cx.body`); ends in a [`crate::Done`] with `statement` each
    /// time, and sends nothing.
    ///
    /// # Errors
    /// As [`Provider::authorize`]; a file that is no statement of this provider is of kind
    /// [`FaultKind::Input`].
    fn read_statement(
        &self,
        cx: &Cx<'_>,
        r: &Request,
        s: Self::State,
        e: &Event,
    ) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// Opens a wallet's session for a merchant's page (`r.session`); must end in a [`crate::Done`]
    /// with `session`. May only read.
    ///
    /// # Errors
    /// As [`Provider::authorize`]; what the page asked for and must not get is of kind
    /// [`FaultKind::Input`].
    fn start_session(
        &self,
        cx: &Cx<'_>,
        r: &Request,
        s: Self::State,
        e: &Event,
    ) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// Verifies and decrypts a wallet's token (`r.credential`); must end in a [`crate::Done`] with
    /// `opened`, or with one fact that says why not. May only read. Its `now_ms` is the moment at
    /// which the token arrived, and `r.amount` is what the payment is for.
    ///
    /// # Errors
    /// As [`Provider::authorize`].
    fn open_token(&self, cx: &Cx<'_>, r: &Request, s: Self::State, e: &Event) -> StepResult<Self> {
        unsupported::<Self>(cx, r, s, e)
    }
    /// Asks whether the provider is well.
    ///
    /// # Errors
    /// As [`Provider::authorize`].
    fn probe(&self, cx: &Cx<'_>, s: Self::State, e: &Event) -> StepResult<Self> {
        let _ = (cx, s, e);
        Err(Fault::UNSUPPORTED)
    }
}

fn unsupported<P: Provider>(_: &Cx<'_>, _: &Request, _: P::State, _: &Event) -> StepResult<P> {
    Err(Fault::UNSUPPORTED)
}

/// The outcome of one step.
pub type StepResult<P> = Result<Step<<P as Provider>::State>, Fault>;

/// What a step wants next, the state to keep, and the raw body of the request.
pub struct Step<S> {
    /// A request, or the end.
    pub next: Next,
    /// What to remember until the next step; `None` keeps nothing.
    pub state: Option<S>,
    /// The request's body, byte for byte.
    pub body: Vec<u8>,
}

/// The body may hold a card number, so only its length is shown.
impl<S> std::fmt::Debug for Step<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.next {
            Next::Send(_) => "send",
            Next::Done(_) => "done",
        };
        write!(f, "Step({kind}, {} bytes)", self.body.len())
    }
}

impl<S> Step<S> {
    /// Sends a request and remembers `state` until the answer.
    pub fn send(request: Request_, body: Vec<u8>, state: S) -> Self {
        Self { next: Next::Send(request), state: Some(state), body }
    }

    /// Ends the operation with one fact.
    pub fn done(fact: Fact) -> Self {
        Self::facts(vec![fact])
    }

    /// Ends the operation with several facts.
    pub fn facts(facts: Vec<Fact>) -> Self {
        Self::end(step::Done { facts, ..step::Done::default() })
    }

    /// Ends a call for a statement with a part of it; the next call is given `state`.
    pub fn part(part: StatementPart, state: S) -> Self {
        let done = step::Done { statement: Some(part), ..step::Done::default() };
        Self { state: Some(state), ..Self::end(done) }
    }

    /// Ends the operation.
    pub fn end(done: step::Done) -> Self {
        Self { next: Next::Done(done), state: None, body: Vec::new() }
    }
}

/// What a step may use besides its arguments.
pub struct Cx<'a> {
    /// Now, Unix ms: for the timestamps of authentication.
    pub now_ms: i64,
    /// When the operation was first built, Unix ms: for what a re-send must repeat.
    pub made_ms: i64,
    /// 32 hexadecimal digits, the same in a re-send.
    pub entropy: &'a str,
    /// The raw body of the answer or the notification.
    pub body: &'a [u8],
    /// Where the provider notifies us, if it can reach us; some sign it.
    pub notify_url: Option<&'a str>,
    /// The host's services.
    pub host: &'a dyn Host,
}

/// What the host does for a plugin. Keys are used by name; they never cross the boundary.
pub trait Host {
    /// HMAC-SHA256 of `data` under the secret named `key`.
    ///
    /// # Errors
    /// [`HostError`] when there is no such secret, or it is of another kind.
    fn mac(&self, key: &str, data: &[u8]) -> Result<Vec<u8>, HostError>;
    /// A signature of `data`; `algorithm` is `rsa-sha256-pkcs1`.
    ///
    /// # Errors
    /// As [`Host::mac`].
    fn sign(&self, key: &str, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, HostError>;
    /// Whether `signature` is one of `data`; `algorithm` is `rsa-sha256-pkcs1`, `hmac-sha256`
    /// (compared in constant time), `ecdsa-sha256` or `ecdsa-sha384` (on P-256 or P-384, as the
    /// key is; DER). `key` names a secret, or a key of a keyring as `RING/ID`, or is itself a
    /// public key or certificate in PEM, as it must be for ECDSA.
    ///
    /// A key of a keyring that is not there verifies nothing: `Ok(false)`. The host then fetches it
    /// and runs the same step once more.
    ///
    /// # Errors
    /// As [`Host::mac`]; a signature that does not verify is `Ok(false)`.
    fn verify(
        &self,
        key: &str,
        algorithm: &str,
        data: &[u8],
        signature: &[u8],
    ) -> Result<bool, HostError>;
    /// Opens what the provider sealed under the secret named `key`; `None` when it was not sealed
    /// so, or was changed since.
    ///
    /// # Errors
    /// As [`Host::mac`].
    fn unseal(&self, key: &str, sealed: &Sealed<'_>) -> Result<Option<Vec<u8>>, HostError> {
        let _ = (key, sealed);
        Err(HostError::Unsupported)
    }
    /// The public half of the private key named `key`, as SubjectPublicKeyInfo (RFC 5280), DER.
    ///
    /// # Errors
    /// As [`Host::mac`].
    fn public_key(&self, key: &str) -> Result<Vec<u8>, HostError> {
        let _ = key;
        Err(HostError::Unsupported)
    }
    /// The secret that a peer established with the private key named `key`; `None` when `peer` is
    /// nothing that a peer would have sent. `algorithm` is `ecdh-p256` (NIST SP 800-56A; `peer` is
    /// an uncompressed point of 65 bytes, the secret 32) or `rsa-oaep-sha256` (RFC 8017, MGF1 with
    /// SHA-256; `peer` is the encrypted key). Let nobody choose `peer`: verify its signature first.
    ///
    /// # Errors
    /// As [`Host::mac`].
    fn establish(
        &self,
        key: &str,
        algorithm: &str,
        peer: &[u8],
    ) -> Result<Option<Vec<u8>>, HostError> {
        let _ = (key, algorithm, peer);
        Err(HostError::Unsupported)
    }
}

/// Something encrypted and authenticated (AEAD, RFC 5116).
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'a> {
    /// `aes-256-gcm` is the only one.
    pub algorithm: &'a str,
    /// 12 bytes.
    pub nonce: &'a [u8],
    /// What was authenticated beside it.
    pub associated: &'a [u8],
    /// The ciphertext with its 16-byte tag behind it.
    pub ciphertext: &'a [u8],
}

/// A service that the host could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// The account has no secret of that name.
    NoSuchKey,
    /// The algorithm is not known, or the key is of another kind.
    Unsupported,
    /// The host failed.
    Failed,
}

impl From<HostError> for Fault {
    fn from(error: HostError) -> Self {
        match error {
            HostError::NoSuchKey => {
                Fault::config("the account lacks a secret that the plugin uses")
            }
            HostError::Unsupported => Fault::internal("the host does not offer this algorithm"),
            HostError::Failed => Fault::internal("the host could not use the key"),
        }
    }
}

/// Why a step produced nothing. Only fixed text: an error can't contain request data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose fault.
    pub kind: FaultKind,
    /// Lower case, no full stop.
    pub text: &'static str,
}

impl Fault {
    /// The operation is not implemented.
    pub const UNSUPPORTED: Self =
        Self { kind: FaultKind::Unsupported, text: "the plugin does not offer this operation" };

    /// The request or the answer can't be used.
    pub const fn input(text: &'static str) -> Self {
        Self { kind: FaultKind::Input, text }
    }
    /// The account's configuration can't be used.
    pub const fn config(text: &'static str) -> Self {
        Self { kind: FaultKind::Config, text }
    }
    /// The plugin itself failed.
    pub const fn internal(text: &'static str) -> Self {
        Self { kind: FaultKind::Internal, text }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text)
    }
}

/// The kinds of fault; each is one return code of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Bad input.
    Input,
    /// Not implemented.
    Unsupported,
    /// Bad configuration.
    Config,
    /// More than fits.
    Limit,
    /// The plugin's own failure.
    Internal,
}
