//! What a plugin says about itself: capabilities, configuration and the ambiguity contract.
//!
//! The manifest is static text inside the library, read from the file before any of its
//! instructions run and pinned together with them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Contract, Currency, Effect, Operation, SendRule};

/// The version of the manifest's own schema that this build reads.
pub const SCHEMA: u32 = 1;

/// A plugin's description of itself and of its provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The schema of this text: 1, the only one.
    pub schema: u32,
    /// The provider's short name: lower case letters, digits and `-`.
    pub id: String,
    /// The plugin's own version (semantic versioning).
    pub version: String,
    /// The provider's name for people.
    pub name: String,
    /// Whether it takes money or opens wallet tokens.
    pub kind: Kind,
    /// What can be paid with, best first.
    pub methods: Vec<MethodSupport>,
    /// The provider's own exponent of each currency that it takes.
    pub currencies: BTreeMap<Currency, u8>,
    /// Amounts of these currencies must be a multiple (of the provider's minor units).
    #[serde(default)]
    pub multiples: BTreeMap<Currency, i64>,
    /// Customers' countries (ISO 3166-1 alpha-2); empty is everywhere.
    #[serde(default)]
    pub countries: Vec<String>,
    /// What the plugin implements.
    pub operations: Vec<Operation>,
    /// Endpoints by name with their production address; an account may replace the address.
    pub hosts: BTreeMap<String, String>,
    /// Further sites of an endpoint, tried while connecting, for accounts that name no address of
    /// their own for it.
    #[serde(default)]
    pub alternatives: BTreeMap<String, Vec<String>>,
    /// The account's plain settings.
    #[serde(default)]
    pub config: BTreeMap<String, FieldSchema>,
    /// The account's secrets, by the name under which the plugin uses them.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretKind>,
    /// Those of `secrets` that an account may leave out.
    #[serde(default)]
    pub optional_secrets: Vec<String>,
    /// Access tokens that the host fetches, keeps and renews, by the name under which a header
    /// asks for one: `{token:NAME}`.
    #[serde(default)]
    pub tokens: BTreeMap<String, TokenGrant>,
    /// The provider's public keys, which the host fetches through [`Operation::FetchKeys`] and
    /// keeps; [`crate::Host::verify`] names one as `RING/ID`.
    #[serde(default)]
    pub keyrings: BTreeMap<String, Keyring>,
    /// The version of the continuations that this plugin writes.
    #[serde(default)]
    pub state_version: u32,
    /// Older `state_version`s whose continuations it can finish.
    #[serde(default)]
    pub continues: Vec<u32>,
    /// What may be believed of the provider when an answer is lost.
    pub contract: Contract,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] names the field and what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(text)
            .map_err(|e| ManifestError { field: "manifest", problem: e.to_string() })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The method entry that takes this type, flow and credential form, if any.
    pub fn supports(&self, kind: &str, flow: &str, form: CredentialForm) -> Option<&MethodSupport> {
        self.methods.iter().find(|m| m.kind == kind && m.flow == flow && m.credential == form)
    }

    /// Whether the plugin implements an operation.
    pub fn offers(&self, operation: Operation) -> bool {
        self.operations.contains(&operation)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let fail = |field, problem: String| Err(ManifestError { field, problem });
        let named = |id: &str| {
            !id.is_empty()
                && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if self.schema != SCHEMA {
            return fail(
                "schema",
                format!("host reads schema {SCHEMA}, plugin has {}", self.schema),
            );
        }
        if !named(&self.id) {
            return fail("id", format!("must be lower case letters, digits and `-`: {}", self.id));
        }
        if self.kind == Kind::Processor && !self.offers(Operation::Authorize) {
            return fail("operations", "a processor must offer `authorize`".into());
        }
        if let Some((currency, exponent)) = self.currencies.iter().find(|(_, e)| **e > 4) {
            return fail("currencies", format!("exponent over 4: {currency} {exponent}"));
        }
        if let Some((currency, _)) = self.multiples.iter().find(|(_, m)| **m < 1) {
            return fail("multiples", format!("must be at least 1: {currency}"));
        }
        if self.hosts.is_empty() {
            return fail("hosts", "names no endpoint".into());
        }
        if let Some(name) = self.alternatives.keys().find(|name| !self.hosts.contains_key(*name)) {
            return fail("alternatives", format!("no endpoint has this name: {name}"));
        }
        let undeclared = |name: &&String| !self.secrets.contains_key(*name);
        if let Some(name) = self.optional_secrets.iter().find(undeclared) {
            return fail("optional_secrets", format!("no secret has this name: {name}"));
        }
        for (name, grant) in &self.tokens {
            if !self.hosts.contains_key(&grant.endpoint) || !grant.path.starts_with('/') {
                return fail("tokens", format!("names no endpoint and path: {name}"));
            }
            let header = |secret: &String| self.secrets.get(secret) == Some(&SecretKind::Header);
            if !header(&grant.client_id) || !header(&grant.client_secret) {
                return fail("tokens", format!("its secrets are not of kind `header`: {name}"));
            }
        }
        if let Some(name) = self.keyrings.keys().find(|name| name.contains('/')) {
            return fail("keyrings", format!("a name has no `/`: {name}"));
        }
        if !self.keyrings.is_empty() && !self.offers(Operation::FetchKeys) {
            return fail("keyrings", "the operation `fetch_keys` is not offered".into());
        }
        let purposes: Vec<&str> = self.contract.sends.iter().map(|s| s.purpose.as_str()).collect();
        let public = |rule: &SendRule| rule.effect == Effect::Read && rule.method == "GET";
        if let Some(rule) = self.contract.sends.iter().find(|rule| rule.cached && !public(rule)) {
            let problem = format!("only a GET that reads can be cached: {}", rule.purpose);
            return fail("contract.sends", problem);
        }
        if let Some(code) = self.contract.proof_codes.iter().find(|c| proves_a_status(c)) {
            let problem = format!("would prove a bare HTTP status, which proves nothing: {code}");
            return fail("contract.proof_codes", problem);
        }
        if let Some(purpose) = self.contract.moves.keys().find(|m| !purposes.contains(&m.as_str()))
        {
            return fail("contract.moves", format!("no send has this purpose: {purpose}"));
        }
        Ok(())
    }
}

/// A code that ends in `*` must not swallow the 5xx of an HTTP answer.
fn proves_a_status(code: &str) -> bool {
    code.strip_suffix('*')
        .is_some_and(|prefix| (500..600).any(|status: u16| status.to_string().starts_with(prefix)))
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The field, dotted.
    pub field: &'static str,
    /// What is wrong with it, value last.
    pub problem: String,
}

impl std::fmt::Display for ManifestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "manifest field `{}`: {}", self.field, self.problem)
    }
}

impl std::error::Error for ManifestError {}

/// The two kinds of capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Takes money.
    Processor,
    /// Opens a customer's wallet token; never moves money.
    Wallet,
}

/// One way to pay that a plugin takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodSupport {
    /// The API's method type: `alipay`, `card`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// The flow (`qr`, `barcode`, `redirect`, `wap`, `app`), or `token` where there is none.
    pub flow: String,
    /// What the shopper's credential must be.
    pub credential: CredentialForm,
    /// Automatic, manual, or both.
    pub capture: Vec<CaptureMode>,
    /// Whether the shopper may have to act.
    pub acts: Acts,
    /// Taken only by accounts in whose configuration this boolean is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
}

impl MethodSupport {
    /// Whether an account with these settings takes it.
    ///
    /// ```
    /// use interlock_plugin_api::MethodSupport;
    /// use serde_json::json;
    /// let method: MethodSupport = serde_json::from_value(json!({
    ///     "type": "card", "flow": "token", "credential": "network_token",
    ///     "capture": ["automatic"], "acts": "never", "needs": "opened_here",
    /// }))?;
    /// let taken = |settings: serde_json::Value| method.taken_by(settings.as_object().unwrap());
    /// assert!(taken(json!({ "opened_here": true })));
    /// assert!(!taken(json!({ "opened_here": false })) && !taken(json!({})));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn taken_by(&self, settings: &serde_json::Map<String, serde_json::Value>) -> bool {
        let on = |flag: &String| settings.get(flag).and_then(|value| value.as_bool()) == Some(true);
        self.needs.as_ref().is_none_or(on)
    }
}

/// When an authorize can end in something that a shopper must do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acts {
    /// Always: the answer is an offer.
    Always,
    /// Never.
    Never,
    /// When this boolean of the account's configuration is true.
    If(String),
}

/// When the money is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMode {
    /// With the authorization.
    Automatic,
    /// By a later call.
    Manual,
}

/// The form of a shopper's credential: what decides which processors can take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialForm {
    /// Nothing: the shopper authenticates at the wallet.
    None,
    /// A code from the wallet's screen.
    AuthCode,
    /// The shopper's id inside the wallet's own app.
    OpenId,
    /// A decrypted network token with its one-time cryptogram.
    NetworkToken,
    /// A card number without a cryptogram, to be taken with 3-D Secure.
    Card,
    /// A wallet's token, encrypted to one processor.
    EncryptedWalletToken,
    /// A processor's own stored token.
    AccountToken,
}

/// One plain setting of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldSchema {
    /// `string`, `boolean` or `integer`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Refuse the account without it.
    #[serde(default)]
    pub required: bool,
    /// What it is, for `check` and the docs.
    pub help: String,
}

/// What a secret is, so that the host can check its shape without showing it to the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretKind {
    /// Put into a header by `{secret:NAME}`.
    Header,
    /// A key for [`crate::Host::mac`].
    Mac,
    /// The same, written in hexadecimal: the key is its bytes.
    MacHex,
    /// A PEM private key for RSA signatures.
    RsaPrivate,
    /// A PEM public key (or a certificate with one) for RSA verification.
    RsaPublic,
    /// 32 characters whose bytes are a key for [`crate::Host::unseal`].
    Aead,
    /// A PEM private key on the curve P-256 for [`crate::Host::establish`].
    EcKeyAgreement,
    /// A PEM private RSA key for [`crate::Host::establish`].
    RsaKeyTransport,
}

/// How a token is got: the client credentials grant of RFC 6749, section 4.4, with the client's
/// password in an `Authorization: Basic` header (section 2.3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenGrant {
    /// A name of the manifest's `hosts`.
    pub endpoint: String,
    /// The path of the token endpoint.
    pub path: String,
    /// The secret that is the client's name.
    pub client_id: String,
    /// The secret that is its password.
    pub client_secret: String,
}

/// Public keys that are fetched from the provider. Only RSA keys, each as a PEM certificate or
/// public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyring {
    /// After so long they are fetched again, ms.
    pub refresh_ms: u64,
    /// When given, a key counts only in a certificate whose subject's common name is one of these
    /// and whose chain leads to an authority that the account trusts. Without it the plugin itself
    /// must have made sure that they come from the provider.
    #[serde(default)]
    pub common_names: Vec<String>,
}
