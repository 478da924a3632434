//! Another program's verdict on the tokens that these tests are made of: `openssl cms -verify`.
//!
//! A maker and a reader by the same hands could share a mistake. Without the program nothing is
//! judged here.

use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wallet_tokens::apple::{Defect, Made};

use crate::{keys, made};

/// Whether OpenSSL takes the signature; nothing where there is no OpenSSL.
fn verifies(made: &Made) -> Option<bool> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let signature = STANDARD.decode(made.token["signature"].as_str().unwrap()).unwrap();
    let mut program = Command::new("openssl");
    program.args(["cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any"]);
    program.args(["-attime", &(made.signed_ms / 1_000).to_string(), "-in"]);
    program.arg(file("signature", &signature)).arg("-content").arg(file("content", &made.content));
    program.arg("-CAfile").arg(file("root.pem", keys().authority.root_pem().as_bytes()));
    program.arg("-out").arg(folder.path().join("out"));
    let ended = program.stdout(Stdio::null()).stderr(Stdio::null()).status();
    ended.ok().map(|status| status.success())
}

#[test]
fn openssl_takes_the_good_ones_and_refuses_a_broken_chain() {
    for key in [&keys().ec, &keys().rsa] {
        let Some(good) = verifies(&made(key, None)) else { return };
        assert!(good);
        for defect in [
            Defect::WrongRoot,
            Defect::BrokenChain,
            Defect::ExpiredLeaf,
            Defect::MissingIntermediate,
            Defect::FlippedSignature,
            Defect::IntermediateNoAuthority,
        ] {
            assert_eq!(verifies(&made(key, Some(defect))), Some(false), "{defect}");
        }
    }
}
