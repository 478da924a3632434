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
use crate::upstream::reason;

/// A provider gives at most so many keys at once.
const KEYS_MAX: usize = 64;
/// After a fetch that did not bring what was wanted, nothing is fetched for so long: whoever sends
/// us signatures chooses which keys they name.
const REST: Duration = Duration::from_secs(10);
/// And for so long when nothing could be asked at all.
const UNREACHED: Duration = Duration::from_secs(1);

/// When each ring of an account was last asked for in vain.
#[derive(Default)]
pub struct Fetches {
    rings: BTreeMap<String, Mutex<Option<InVain>>>,
}

#[derive(Clone, Copy)]
struct InVain {
    at: Instant,
    /// The provider was not heard, so it may well have the key.
    unheard: bool,
}

/// What became of the search for a key that a step has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// It is there now: the step is worth running again.
    Found,
    /// The provider does not give it, or nothing needed to be asked.
    Nowhere,
    /// The provider could not be asked.
    Unheard,
}

impl Fetches {
    /// One place for each ring that the manifest declares.
    pub fn new(manifest: &Manifest) -> Self {
        let rings = manifest.keyrings.keys().map(|name| (name.clone(), Mutex::default()));
        Self { rings: rings.collect() }
    }
}

impl Caller {
    /// Fetches a key that a step has missed. Boxed, because to fetch it is to run steps.
    pub(super) fn fetch_missing<'a>(
        &'a self,
        account: &'a Arc<OpenAccount>,
        missing: MissingKey,
    ) -> Pin<Box<dyn Future<Output = Search> + Send + 'a>> {
        if missing.stale {
            let (caller, account) = (self.clone(), Arc::clone(account));
            tokio::spawn(async move { caller.fetch_keys(&account, &missing).await });
            return Box::pin(std::future::ready(Search::Nowhere));
        }
        Box::pin(async move { self.fetch_keys(account, &missing).await })
    }

    async fn fetch_keys(&self, account: &Arc<OpenAccount>, missing: &MissingKey) -> Search {
        let Some(place) = account.fetches.rings.get(&missing.ring) else { return Search::Nowhere };
        // One at a time; who waited for it finds the key.
        let Ok(mut in_vain) = tokio::time::timeout(account.timeout, place.lock()).await else {
            return Search::Unheard;
        };
        let there = || account.instance.keyrings().has(&missing.ring, &missing.id);
        if !missing.stale && there() {
            return Search::Found;
        }
        if let Some(InVain { at, unheard }) = *in_vain
            && at.elapsed() < if unheard { UNREACHED } else { REST }
        {
            return if unheard { Search::Unheard } else { Search::Nowhere };
        }
        let found = match self.ask_for_keys(account, missing).await {
            Ok(count) => {
                let (account, ring) = (&account.name, &missing.ring);
                tracing::info!(account, ring, count, "the provider's public keys are fetched");
                if there() { Search::Found } else { Search::Nowhere }
            }
            Err(why) => {
                let (account, ring) = (&account.name, &missing.ring);
                tracing::warn!(account, ring, why, "no public keys of the provider");
                let unheard = reason::ALL.contains(&why.as_str());
                if unheard { Search::Unheard } else { Search::Nowhere }
            }
        };
        let asked_in_vain = found != Search::Found || missing.stale;
        *in_vain =
            asked_in_vain.then(|| InVain { at: Instant::now(), unheard: found == Search::Unheard });
        found
    }

    /// How many keys were put into the ring.
    async fn ask_for_keys(
        &self,
        account: &Arc<OpenAccount>,
        missing: &MissingKey,
    ) -> Result<usize, String> {
        let ring = account.manifest().keyrings.get(&missing.ring).ok_or("no such ring")?;
        let mut request = about_nothing(account);
        let wanted = WantedKeys { ring: missing.ring.clone(), id: Some(missing.id.clone()) };
        request.wanted = Some(wanted);
        let envelope = self.envelope(Operation::FetchKeys, request, None);
        let (ended, _) = self.reads(account, envelope, Vec::new(), Bytes::new()).await?;
        let Ended::Done(done, _) = ended else { return Err("keys may only be read".into()) };
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
        IsCa, Issuer, KeyPair, date_time_ymd,
    };

    use super::*;

    /// An RSA key that is published with the source.
    const LEAF: &str = include_str!("../../../kit/src/keys/private.pem");
    const NAME: &str = "signer.provider.example";

    #[test]
    fn a_key_counts_when_its_chain_its_name_and_its_time_are_good() {
        let (ours, theirs) = (authority(), authority());
        let good = leaf(&ours, &[NAME], 2100);
        let read = |pem: &str| believed(&ring(&[NAME]), &key(pem), &anchors(&ours));
        assert!(read(&good).is_ok_and(|key| key.until_ms > Some(4_000_000_000_000)));
        let chain = format!("{good}\n{}", ours.1);
        assert!(read(&chain).is_ok(), "with those that issued it");
        for (pem, why) in [
            (leaf(&theirs, &[NAME], 2100), "no authority"),
            (leaf(&ours, &[NAME], 2001), "no authority"),
            (leaf(&ours, &["somebody.example"], 2100), "somebody else"),
            (leaf(&ours, &[NAME, "somebody.example"], 2100), "somebody else"),
            (leaf(&ours, &[], 2100), "somebody else"),
            ("no certificate".to_owned(), "no certificate"),
        ] {
            let refused = read(&pem).unwrap_err();
            assert!(refused.contains(why), "{why}: {refused}");
        }
        assert!(believed(&ring(&[NAME]), &key(&good), &[]).is_err(), "nobody is trusted");
    }

    #[test]
    fn where_the_plugin_vouches_for_it_a_bare_key_counts() {
        let public = include_str!("../../../kit/src/keys/public.pem");
        assert!(believed(&ring(&[]), &key(public), &[]).is_ok_and(|key| key.until_ms.is_none()));
        assert!(believed(&ring(&[NAME]), &key(public), &[]).is_err());
    }

    type Authority = (Issuer<'static, KeyPair>, String, CertificateDer<'static>);

    fn authority() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        (Issuer::new(params, key), pem, der)
    }

    fn anchors(authority: &Authority) -> Vec<CertificateDer<'static>> {
        vec![authority.2.clone()]
    }

    /// A certificate of the key until the end of a year.
    fn leaf(by: &Authority, names: &[&str], until: i32) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        params.signed_by(&KeyPair::from_pem(LEAF).unwrap(), &by.0).unwrap().pem()
    }

    fn ring(names: &[&str]) -> Keyring {
        let common_names = names.iter().map(|name| (*name).to_owned()).collect();
        Keyring { refresh_ms: 60_000, common_names }
    }

    fn key(pem: &str) -> ProviderKey {
        ProviderKey { id: "k".into(), pem: pem.into() }
    }
}
