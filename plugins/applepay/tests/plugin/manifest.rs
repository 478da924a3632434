//! What the manifest declares: it moves nothing, and names every key that the plugin uses.

use interlock_plugin_api::{CredentialForm, Effect, Kind, Manifest, Operation, Provider};

use crate::ApplePay;

#[test]
fn a_wallet_only_reads() {
    let manifest = Manifest::parse(ApplePay::MANIFEST.as_bytes()).unwrap();
    assert_eq!((manifest.id.as_str(), manifest.kind), ("applepay", Kind::Wallet));
    assert_eq!(manifest.operations, [Operation::StartSession, Operation::OpenToken]);
    let opens: Vec<_> = manifest.methods.iter().map(|m| (m.kind.as_str(), m.credential)).collect();
    assert_eq!(opens, [("apple_pay", CredentialForm::EncryptedWalletToken)]);
    let sends = &manifest.contract.sends;
    assert!(sends.iter().all(|rule| rule.effect == Effect::Read && !rule.cached));
    assert!(manifest.secrets.keys().all(|name| manifest.optional_secrets.contains(name)));
}
