//! A provider's public keys: fetched through its plugin when a step names one that is not there,
//! and again when it has grown old.
//!
//! A key counts at once where the plugin itself makes sure that it comes from the provider. Where
//! the manifest names the holder of its certificate, the chain must lead to an authority that the
//! account trusts: its own `ca`, else the platform's.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use interlock_plugin_api::{Keyring, Manifest, Operation, ProviderKey, WantedKeys};
use interlock_plugin_host::{FetchedKey, MissingKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::Mutex;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{Caller, Ended, about_nothing};
use crate::setup::OpenAccount;

/// A provider gives at most so many keys at once.
const KEYS_MAX: usize = 64;
/// After a fetch that did not bring what was wanted, nothing is fetched for so long: whoever sends
/// us signatures chooses which keys they name.
const REST: Duration = Duration::from_secs(10);

/// When each ring of an account was last asked for in vain.
#[derive(Default)]
pub struct Fetches {
    rings: BTreeMap<String, Mutex<Option<Instant>>>,
}

impl Fetches {
    /// One place for each ring that the manifest declares.
    pub fn new(manifest: &Manifest) -> Self {
        let rings = manifest.keyrings.keys().map(|name| (name.clone(), Mutex::default()));
        Self { rings: rings.collect() }
    }
}

impl Caller {
    /// Fetches a key that a step has missed: true when the step is worth running again. Boxed,
    /// because to fetch it is to run steps.
    pub(super) fn fetch_missing<'a>(
        &'a self,
        account: &'a Arc<OpenAccount>,
        missing: MissingKey,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        if missing.stale {
            let (caller, account) = (self.clone(), Arc::clone(account));
            tokio::spawn(async move { caller.fetch_keys(&account, &missing).await });
            return Box::pin(std::future::ready(false));
        }
        Box::pin(async move { self.fetch_keys(account, &missing).await })
    }

    async fn fetch_keys(&self, account: &Arc<OpenAccount>, missing: &MissingKey) -> bool {
        let Some(place) = account.fetches.rings.get(&missing.ring) else { return false };
        // One at a time; who waited for it finds the key.
        let Ok(mut in_vain) = tokio::time::timeout(account.timeout, place.lock()).await else {
            return false;
        };
        let there = || account.instance.keyrings().has(&missing.ring, &missing.id);
        if !missing.stale && there() {
            return true;
        }
        if in_vain.is_some_and(|at| at.elapsed() < REST) {
            return false;
        }
        let found = match self.ask_for_keys(account, missing).await {
            Ok(count) => {
                let (account, ring) = (&account.name, &missing.ring);
                tracing::info!(account, ring, count, "the provider's public keys are fetched");
                there()
            }
            Err(why) => {
                let (account, ring) = (&account.name, &missing.ring);
                tracing::warn!(account, ring, why, "no public keys of the provider");
                false
            }
        };
        *in_vain = (!found || missing.stale).then(Instant::now);
        found
    }

    /// How many keys were put into the ring.
    async fn ask_for_keys(
        &self,
        account: &Arc<OpenAccount>,
        missing: &MissingKey,
    ) -> Result<usize, String> {
        let ring = account.manifest().keyrings.get(&missing.ring).ok_or("no such ring")?;
        let mut request = about_nothing(account)?;
        let wanted = WantedKeys { ring: missing.ring.clone(), id: Some(missing.id.clone()) };
        request.wanted = Some(wanted);
        let envelope = self.envelope(Operation::FetchKeys, request, None);
        let (ended, _) = self.reads(account, envelope, Vec::new(), Bytes::new()).await?;
        let Ended::Done(done) = ended else { return Err("keys may only be read".into()) };
        if done.keys.is_empty() {
            return Err("the provider gave none".into());
        }
        let mut count = 0;
        for key in done.keys.iter().take(KEYS_MAX) {
            let put = believed(ring, key, &account.authorities).and_then(|read| {
                let put = account.instance.keyrings().put(&missing.ring, &key.id, read);
                put.then_some(()).ok_or("its id is none")
            });
            match put {
                Ok(()) => count += 1,
                Err(why) => {
                    tracing::warn!(account = account.name, why, "a public key is not believed");
                }
            }
        }
        Ok(count)
    }
}

/// The key, if it is to be believed.
fn believed(
    ring: &Keyring,
    key: &ProviderKey,
    authorities: &[CertificateDer<'static>],
) -> Result<FetchedKey, &'static str> {
    if ring.common_names.is_empty() {
        return FetchedKey::read(&key.pem);
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(key.pem.as_bytes()).collect();
    let chain = chain.map_err(|_| "the chain of its certificate is not PEM")?;
    let (leaf, others) = chain.split_first().ok_or("it has no certificate")?;
    let (_, read) =
        x509_parser::parse_x509_certificate(leaf).map_err(|_| "the certificate can't be read")?;
    let mut names = read.subject().iter_common_name();
    let named = names.next().and_then(|name| name.as_str().ok()).zip(Some(names.next()));
    if !named
        .is_some_and(|(name, more)| more.is_none() && ring.common_names.iter().any(|n| n == name))
    {
        return Err("the certificate is of somebody else");
    }
    let anchors: Vec<_> =
        authorities.iter().filter_map(|der| anchor_from_trusted_cert(der).ok()).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the clock is wrong")?;
    let leaf_read = EndEntityCert::try_from(leaf).map_err(|_| "the certificate can't be read")?;
    leaf_read
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            others,
            UnixTime::since_unix_epoch(now),
            KeyUsage::server_auth(),
            None,
            None,
        )
        .map_err(|_| "its certificate leads to no authority that is trusted, or is out of time")?;
    FetchedKey::of_certificate(leaf)
}
