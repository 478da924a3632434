//! What shoppers pay with and what they bring back, in memory alone: never journalled, never
//! logged, forgotten when it can't be used any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use interlock_engine::Stamp;
use interlock_plugin_api::{Credential, Details};

/// More payments than this do not wait with a secret in memory; the oldest are forgotten.
const HELD_MAX: usize = 100_000;
/// No secret outlives this, ms: the longest failover deadline is shorter.
const KEPT_MS: u64 = 15 * 60 * 1000;

/// What one payment's shopper pays with.
#[derive(Clone, Debug)]
pub enum Held {
    /// The same for every account.
    One(Credential),
    /// A wallet's token that was not opened yet: no account can use it.
    Sealed(Sealed),
    /// A processor's own token for each account.
    Tokens(BTreeMap<String, Credential>),
    /// One for each accepted method that needs one, by its type and flow.
    Any(BTreeMap<(String, String), Held>),
}

/// A wallet's token as the merchant received it.
#[derive(Clone)]
pub struct Sealed {
    /// The method type of the wallet.
    pub wallet: String,
    /// The token.
    pub token: serde_json::Value,
    /// The account that is to open it, where the merchant names one.
    pub by: Option<String>,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({})", self.wallet)
    }
}

impl Held {
    /// Whether a wallet's token in it is to be opened.
    pub fn is_sealed(&self) -> bool {
        match self {
            Self::Sealed(_) => true,
            Self::Any(several) => several.values().any(Self::is_sealed),
            Self::One(_) | Self::Tokens(_) => false,
        }
    }

    fn of(&self, method: &str, flow: &str, account: &str) -> Option<Credential> {
        match self {
            Self::One(credential) => Some(credential.clone()),
            Self::Sealed(_) => None,
            Self::Tokens(tokens) => tokens.get(account).cloned(),
            Self::Any(held) => {
                let held = held.get(&(method.to_owned(), flow.to_owned()))?;
                held.of(method, flow, account)
            }
        }
    }
}

/// Secrets of open payments.
pub struct Kept<T> {
    held: Mutex<HashMap<String, (T, u64)>>,
}

/// What open payments are paid with.
pub type Credentials = Kept<Held>;

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { held: Mutex::default() }
    }
}

impl Kept<Held> {
    /// The credential of a payment, paid by this method and flow, for one account.
    pub fn get(
        &self,
        payment: &str,
        (method, flow): (&str, &str),
        account: &str,
    ) -> Option<Credential> {
        let all = self.lock();
        let (held, _) = all.get(payment)?;
        held.of(method, flow, account)
    }
}

impl Kept<Details> {
    /// What the shopper of a payment brought back.
    pub fn brought(&self, payment: &str) -> Option<Details> {
        self.lock().get(payment).map(|(details, _)| details.clone())
    }
}

impl<T> Kept<T> {
    /// Keeps a payment's secret until it is forgotten; gives the one that was kept before.
    pub fn replace(&self, payment: &str, held: Option<T>, now: Stamp) -> Option<T> {
        let mut all = self.lock();
        if all.len() >= HELD_MAX {
            all.retain(|_, (_, since)| now.mono_ms.saturating_sub(*since) < KEPT_MS);
        }
        let earlier = match held {
            Some(held) if all.len() < HELD_MAX => {
                all.insert(payment.to_owned(), (held, now.mono_ms))
            }
            _ => all.remove(payment),
        };
        earlier.map(|(held, _)| held)
    }

    /// Whether a payment's secret is in memory.
    pub fn has(&self, payment: &str) -> bool {
        self.lock().contains_key(payment)
    }

    /// Forgets a payment's secret.
    pub fn forget(&self, payment: &str) {
        self.lock().remove(payment);
    }

    /// Forgets what is too old to be used.
    pub fn forget_old(&self, now: Stamp) {
        self.lock().retain(|_, (_, since)| now.mono_ms.saturating_sub(*since) < KEPT_MS);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (T, u64)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
