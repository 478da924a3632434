//! Where Apple takes requests for sessions: the hosts that Apple publishes, and nowhere else.
//!
//! The address that the wallet gives to a page passes through a browser, so it may be anybody's.
//! A request to it carries the merchant's identity, and its answer goes back to the page: an
//! address that is not exactly one of these is refused.

const SCHEME: &str = "https://";
const DOMAIN: &str = ".apple.com";
/// The one that needs no address of a page; it is called `gateway` in the manifest.
const GLOBAL: &str = "apple-pay-gateway";
pub(crate) const GATEWAY: &str = "gateway";
/// The others are called by their own names.
const NAMED: [&str; 19] = [
    "apple-pay-gateway-cert",
    "apple-pay-gateway-nc-pod1",
    "apple-pay-gateway-nc-pod2",
    "apple-pay-gateway-nc-pod3",
    "apple-pay-gateway-nc-pod4",
    "apple-pay-gateway-nc-pod5",
    "apple-pay-gateway-pr-pod1",
    "apple-pay-gateway-pr-pod2",
    "apple-pay-gateway-pr-pod3",
    "apple-pay-gateway-pr-pod4",
    "apple-pay-gateway-pr-pod5",
    "cn-apple-pay-gateway",
    "cn-apple-pay-gateway-cert",
    "cn-apple-pay-gateway-sh-pod1",
    "cn-apple-pay-gateway-sh-pod2",
    "cn-apple-pay-gateway-sh-pod3",
    "cn-apple-pay-gateway-tj-pod1",
    "cn-apple-pay-gateway-tj-pod2",
    "cn-apple-pay-gateway-tj-pod3",
];
pub(crate) const SESSION_PATH: &str = "/paymentservices/paymentSession";
const PATHS: [&str; 2] = [SESSION_PATH, "/paymentservices/startSession"];

/// Endpoint and path of an address that the wallet gave to a page. Whole texts are compared, so
/// there is no port, user, query or spelling to think of.
pub(crate) fn of(url: &str) -> Option<(&'static str, &'static str)> {
    let address = url.strip_prefix(SCHEME)?;
    let (host, path) = address.split_at(address.find('/')?);
    let path = PATHS.into_iter().find(|known| *known == path)?;
    let name = host.strip_suffix(DOMAIN)?;
    if name == GLOBAL {
        return Some((GATEWAY, path));
    }
    NAMED.into_iter().find(|known| *known == name).map(|name| (name, path))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use interlock_plugin_api::Manifest;

    use super::*;

    #[test]
    fn the_manifest_names_these_hosts_and_paths() {
        let manifest = Manifest::parse(include_bytes!("../manifest.json")).unwrap();
        let own = [(GATEWAY, GLOBAL)].into_iter().chain(NAMED.map(|name| (name, name)));
        let own: BTreeMap<String, String> =
            own.map(|(name, host)| (name.into(), format!("{SCHEME}{host}{DOMAIN}"))).collect();
        assert_eq!(manifest.hosts, own);
        let paths: Vec<&str> = manifest.contract.sends.iter().map(|s| s.path.as_str()).collect();
        assert_eq!(paths, PATHS);
    }

    #[test]
    fn an_address_of_apple_is_an_endpoint() {
        let global = "https://apple-pay-gateway.apple.com/paymentservices/paymentSession";
        assert_eq!(of(global), Some((GATEWAY, SESSION_PATH)));
        for name in NAMED {
            let url = format!("https://{name}.apple.com/paymentservices/startSession");
            assert_eq!(of(&url), Some((name, PATHS[1])));
        }
    }

    #[test]
    fn every_other_address_is_refused() {
        let path = SESSION_PATH;
        for host in [
            "http://apple-pay-gateway.apple.com",
            "HTTPS://apple-pay-gateway.apple.com",
            "https://APPLE-PAY-GATEWAY.apple.com",
            "https://apple-pay-gateway.apple.com:443",
            "https://apple-pay-gateway.apple.com:8443",
            "https://apple-pay-gateway.apple.com.",
            "https://apple-pay-gateway.apple.com.attacker.example",
            "https://apple-pay-gateway.apple.com@attacker.example",
            "https://attacker.example@apple-pay-gateway.apple.com",
            "https://attacker.example#apple-pay-gateway.apple.com",
            "https://attacker.example\\apple-pay-gateway.apple.com",
            "https://apple-pay-gateway.attacker.example",
            "https://apple-pay-gateway-nc-pod6.apple.com",
            "https://gateway.apple.com",
            "https://.apple.com",
            "https://127.0.0.1",
            "https://[::1]",
            "https:///apple-pay-gateway.apple.com",
            "https://apple-pay-gateway.\u{430}pple.com",
            " https://apple-pay-gateway.apple.com",
            "//apple-pay-gateway.apple.com",
            "",
        ] {
            assert_eq!(of(&format!("{host}{path}")), None, "{host}");
        }
        for path in [
            "",
            "/",
            "/paymentservices/paymentSession/",
            "/paymentservices/paymentSession?a=b",
            "/paymentservices/paymentSession#a",
            "/paymentservices/../paymentservices/paymentSession",
            "/paymentservices//paymentSession",
            "/paymentservices/paymentsession",
            "/paymentservices/%70aymentSession",
            "/paymentSession",
            "/paymentservices/paymentSession\r\nhost: attacker.example",
        ] {
            assert_eq!(of(&format!("https://apple-pay-gateway.apple.com{path}")), None, "{path}");
        }
    }
}
