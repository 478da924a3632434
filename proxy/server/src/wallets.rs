//! Wallets: opens their sessions for a merchant's page, and their tokens for a payment.
//!
//! A wallet's plugin moves no money. It verifies and decrypts a token in a process of its own, and
//! what was in it lives in memory alone, like any credential. What a plugin says of a token is
//! held against the payment once more here, before any processor hears of it; that a token is used
//! once is judged where the payment is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use interlock_engine::gates::Group;
use interlock_engine::{Method, Sent, Skip, classify};
use interlock_journal::KeyRow;
use interlock_plugin_api::{
    Class, Credential, CredentialForm, Fact, Kind, Manifest, Money, Opened, Operation,
    SessionRequest, What,
};

use crate::credentials::{Held, Sealed};
use crate::driver::Driver;
use crate::setup::{OpenAccount, Setup};

/// Where the journal keeps what was used once.
const PATH: &str = "/v1/wallets";
/// The longest number of a token.
const TOKEN_ID_MAX: usize = 128;
/// The longest session that is passed on, bytes.
const SESSION_BYTES_MAX: usize = 64 * 1024;

/// Why a wallet gave nothing. Nothing was journalled, and no processor has heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// No account opens this wallet.
    NoAccount,
    /// Several do, and the merchant named none of them, or another one.
    Which(Vec<String>),
    /// The account takes nothing now.
    Skipped(String, Skip),
    /// The token, or what the page asked for, is refused: the plugin's word for it.
    Refused(Class, String),
    /// It could not be judged, or the wallet did not answer.
    Unheard(String),
}

/// What a payment is paid with, once its wallets' tokens are open, and what must be written with
/// it: each token is used once.
pub struct Unsealed {
    /// What can be kept in memory.
    pub held: Held,
    /// The tokens, as keys of the merchant that stand for this payment alone.
    pub once: Vec<KeyRow>,
}

/// Whether a key stands for a wallet's token.
pub fn is_token(row: &KeyRow) -> bool {
    row.path.starts_with(PATH)
}

/// Opens every sealed token among the methods of a payment, which then have the form of what was in
/// it.
///
/// # Errors
/// The first that can't be opened.
pub async fn unseal(
    driver: &Arc<Driver>,
    merchant: &str,
    payment: &str,
    money: Money,
    methods: &mut [Method],
    held: Held,
) -> Result<Unsealed, NotOpened> {
    let mut once = Vec::new();
    let held = match held {
        Held::Sealed(sealed) => {
            let method = methods.first_mut().ok_or(NotOpened::NoAccount)?;
            let opened = open(driver, money, &sealed).await?;
            once.push(used(merchant, payment, &sealed.wallet, &opened.token_id));
            method.form = opened.credential.form();
            Held::One(opened.credential)
        }
        Held::Any(mut several) => {
            for ((kind, flow), held) in &mut several {
                let Held::Sealed(sealed) = held else { continue };
                let opened = open(driver, money, sealed).await?;
                once.push(used(merchant, payment, &sealed.wallet, &opened.token_id));
                let of_it = |m: &&mut Method| m.kind == *kind && m.flow == *flow;
                if let Some(method) = methods.iter_mut().find(of_it) {
                    method.form = opened.credential.form();
                }
                *held = Held::One(opened.credential);
            }
            Held::Any(several)
        }
        other => other,
    };
    Ok(Unsealed { held, once })
}

/// Verifies and decrypts one token.
async fn open(driver: &Arc<Driver>, money: Money, sealed: &Sealed) -> Result<Opened, NotOpened> {
    let setup = driver.setup();
    let offers = (sealed.wallet.as_str(), Operation::OpenToken);
    let account = account_of(&setup, offers, sealed.by.as_deref())?;
    let token = sealed.token.clone();
    let credential = Credential::EncryptedWalletToken { wallet: sealed.wallet.clone(), token };
    let asked = driver.caller().open_token(account, money, credential).await;
    let (opened, facts) = asked.map_err(|why| unheard(account, Operation::OpenToken, &why))?;
    let opened = opened.ok_or_else(|| refused(account, &facts))?;
    let mine = |credential: &Credential| match credential {
        Credential::NetworkToken { source, cryptogram, .. } => {
            *source == sealed.wallet && cryptogram.is_some()
        }
        Credential::Card { source, .. } => *source == sealed.wallet,
        _ => false,
    };
    let id = &opened.token_id;
    let plain = id.bytes().all(|b| b.is_ascii_graphic());
    if !mine(&opened.credential) || id.is_empty() || id.len() > TOKEN_ID_MAX || !plain {
        let why = "the plugin opened the token to what is none";
        return Err(unheard(account, Operation::OpenToken, why));
    }
    match opened.amount {
        Some(shown) if shown != money => {
            Err(NotOpened::Refused(Class::User, "other_amount".to_owned()))
        }
        _ => Ok(opened),
    }
}

/// Opens a session of a wallet for a merchant's page: what the page gives to the wallet.
///
/// # Errors
/// See [`NotOpened`].
pub async fn start_session(
    driver: &Arc<Driver>,
    wallet: &str,
    asked: SessionRequest,
    by: Option<&str>,
) -> Result<String, NotOpened> {
    let setup = driver.setup();
    let account = account_of(&setup, (wallet, Operation::StartSession), by)?;
    let name = account.name.as_str();
    let now = driver.clock.now();
    let reserved = setup.gates.reserve(name, wallet, Group::Payments, now);
    let place = reserved.map_err(|skip| {
        driver.metrics.skipped(name, skip.as_str());
        NotOpened::Skipped(name.to_owned(), skip)
    })?;
    let asked = driver.caller().start_session(account, asked).await;
    let now = driver.clock.now();
    if asked.status == 0 && asked.session.is_ok() {
        // The page may not have it, so the wallet was not asked.
        place.cancel(now);
        return Err(refused(account, &asked.facts));
    }
    let verdict = match asked.status {
        0 => classify::lost(Sent::Maybe, false),
        status => classify::answered(status, &asked.facts).0,
    };
    setup.recent.began(name, now.mono_ms);
    driver.metrics.exchanged(name, Operation::StartSession.as_str(), asked.elapsed_ms);
    setup.recent.ended(name, now.mono_ms, verdict, asked.elapsed_ms);
    place.settle(now, verdict, asked.elapsed_ms);
    match asked.session {
        Ok(Some(session)) if session.len() <= SESSION_BYTES_MAX => Ok(session),
        Ok(Some(_)) => Err(unheard(account, Operation::StartSession, "the session is too large")),
        Ok(None) => Err(refused(account, &asked.facts)),
        Err(why) => Err(unheard(account, Operation::StartSession, &why)),
    }
}

/// Whether some account opens tokens.
pub fn are_opened(setup: &Setup) -> bool {
    !opened_here(setup.open.values().map(|open| open.manifest())).is_empty()
}

/// The method types whose tokens some account opens.
pub fn opened_here<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> BTreeSet<String> {
    manifests
        .filter(|manifest| manifest.kind == Kind::Wallet && manifest.offers(Operation::OpenToken))
        .flat_map(|manifest| manifest.methods.iter().map(|method| method.kind.clone()))
        .collect()
}

/// The one account that does this for a wallet.
fn account_of<'s>(
    setup: &'s Setup,
    (wallet, operation): (&str, Operation),
    by: Option<&str>,
) -> Result<&'s Arc<OpenAccount>, NotOpened> {
    let able = |account: &&Arc<OpenAccount>| {
        let manifest = account.manifest();
        let form = CredentialForm::EncryptedWalletToken;
        manifest.kind == Kind::Wallet
            && manifest.offers(operation)
            && manifest.methods.iter().any(|m| m.kind == wallet && m.credential == form)
    };
    let all: Vec<&Arc<OpenAccount>> = setup.open.values().filter(able).collect();
    let named = |account: &&&Arc<OpenAccount>| by.is_none_or(|by| account.name == by);
    let mut fitting = all.iter().filter(named);
    match (fitting.next(), fitting.next()) {
        (Some(account), None) => Ok(account),
        _ if all.is_empty() => Err(NotOpened::NoAccount),
        _ => Err(NotOpened::Which(all.iter().map(|account| account.name.clone()).collect())),
    }
}

/// A token as a key of its merchant.
fn used(merchant: &str, payment: &str, wallet: &str, token_id: &str) -> KeyRow {
    KeyRow {
        merchant: merchant.to_owned(),
        path: format!("{PATH}/{wallet}"),
        key: token_id.to_owned(),
        payment: payment.to_owned(),
        ..KeyRow::default()
    }
}

fn refused(account: &OpenAccount, facts: &[Fact]) -> NotOpened {
    let declined = facts.iter().find(|fact| fact.what == What::Declined);
    match declined.and_then(|fact| Some((fact.class?, fact.provider_code.clone()?))) {
        Some((class, word)) => {
            tracing::info!(account = account.name, word, "a wallet's token or session was refused");
            NotOpened::Refused(class, word)
        }
        None => {
            let word = facts.iter().find_map(|fact| fact.provider_code.as_deref());
            unheard(account, Operation::OpenToken, word.unwrap_or("the plugin gave no reason"))
        }
    }
}

fn unheard(account: &OpenAccount, operation: Operation, why: &str) -> NotOpened {
    let operation = operation.as_str();
    tracing::warn!(account = account.name, operation, why, "a wallet gave nothing");
    NotOpened::Unheard(account.name.clone())
}
