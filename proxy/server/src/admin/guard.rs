//! Who may use the operators' door: judged before any of its handlers sees the request.
//!
//! Loopback alone protects from other machines, not from a page in the operator's own browser. So
//! a name in `Host` that is not known is refused (a rebound name leads any page to 127.0.0.1), an
//! `Origin` must be the door itself, and a change must be `application/json`, which no form and no
//! plain cross-origin request can send. With tokens, everything but the probes needs one. Its name
//! goes with the request, so that the trail says which token acted beside who says to have acted.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{HeaderMap, Method, Uri, header};

use crate::access::{Hash, Operator, Role, holder_of};
use crate::config;
use crate::front_door::{Handler, Request, Response};
use crate::merchant_api::Problem;

/// Asked by machines that have no token and may name no host; what they hear helps nobody else.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/startupz"];
/// Sent as a change, because its question is a document; changes nothing.
const QUESTIONS: [&str; 1] = ["/admin/v1/explain"];

/// A handler behind the judgement.
pub struct Guard {
    inner: Arc<dyn Handler>,
    admin: Arc<ArcSwap<config::Admin>>,
}

impl Guard {
    /// Before `inner`, as the configuration says; a reload may put another one there.
    pub fn new(inner: Arc<dyn Handler>, admin: Arc<ArcSwap<config::Admin>>) -> Guard {
        Guard { inner, admin }
    }

    /// The name of the token that let it in, where there are tokens.
    fn judge(&self, request: &Request) -> Result<Option<String>, Problem> {
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        if reads && PROBES.contains(&request.path.as_str()) {
            return Ok(None);
        }
        let admin = self.admin.load();
        let host = one(&request.headers, &header::HOST);
        let known = host.and_then(host_name).is_some_and(|name| knows(&admin.hosts, &name));
        if !known {
            return Err(Problem::forbidden(
                "this name does not lead here: call it by its address, or add the name to \
                 `admin.hosts`",
            ));
        }
        if let Some(origin) = request.headers.get(header::ORIGIN) {
            let origin: Option<Uri> = origin.to_str().ok().and_then(|text| text.parse().ok());
            let authority = origin.as_ref().and_then(Uri::authority).map(|a| a.as_str());
            if authority.is_none() || authority != host {
                return Err(Problem::forbidden("pages of other origins may not call this door"));
            }
        }
        if !reads && !is_json(&request.headers) {
            return Err(Problem::unsupported_media_type());
        }
        if admin.operators.is_empty() {
            return Ok(None);
        }
        let operator = operator(&admin.operators, &request.headers);
        let operator = operator.ok_or_else(Problem::no_token)?;
        let asks = reads || QUESTIONS.contains(&request.path.as_str());
        if !asks && operator.role < Role::Act {
            return Err(Problem::forbidden("this token's role is `look`; a change needs `act`"));
        }
        if !asks {
            let (token, path) = (operator.name.as_str(), request.path.as_str());
            tracing::info!(token, path, request_id = request.request_id, "an operator acts");
        }
        Ok(Some(operator.name.clone()))
    }
}

/// Whose token was shown.
fn operator<'a>(operators: &'a [Operator], headers: &HeaderMap) -> Option<&'a Operator> {
    let told = one(headers, &header::AUTHORIZATION)?;
    let (scheme, token) = told.split_once(' ')?;
    let presented = Hash::of(token.trim().as_bytes());
    let known = operators.iter().map(|operator| (operator, operator.token));
    scheme.eq_ignore_ascii_case("bearer").then(|| holder_of(known, &presented))?
}

/// An address can't be rebound; of names only those that were told lead here.
fn knows(hosts: &[String], name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || bare.parse::<std::net::IpAddr>().is_ok()
        || hosts.iter().any(|host| host == name)
}

#[async_trait]
impl Handler for Guard {
    async fn handle(&self, request: Request) -> Response {
        match self.judge(&request) {
            Ok(token) => self.inner.handle(Request { token, ..request }).await,
            Err(problem) => {
                let (peer, path) = (request.peer, request.path.as_str());
                tracing::warn!(?peer, path, code = problem.code(), "an operator was refused");
                problem.response(&request.path, &request.request_id)
            }
        }
    }
}

/// Who did something: who says so, and the token that was shown for it.
pub fn who(operator: &str, token: Option<&str>) -> String {
    match token {
        Some(token) => format!("{operator} (token {token})"),
        None => operator.to_owned(),
    }
}

fn one<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The name in `Host`, without its port, in lower case.
fn host_name(host: &str) -> Option<String> {
    let authority: http::uri::Authority = host.parse().ok()?;
    Some(authority.host().to_ascii_lowercase())
}

fn is_json(headers: &HeaderMap) -> bool {
    let told = one(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let kind = told.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Open;

    #[async_trait]
    impl Handler for Open {
        async fn handle(&self, _: Request) -> Response {
            Response::text(200, "done")
        }
    }

    async fn ask(admin: &config::Admin, line: &str, headers: &[(&str, &str)]) -> u16 {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            query: None,
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            peer: None,
            client: None,
            token: None,
            request_id: "req_1".to_owned(),
        };
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            request.headers.append(name, value.parse().unwrap());
        }
        Guard::new(Arc::new(Open), Arc::new(ArcSwap::from_pointee(admin.clone())))
            .handle(request)
            .await
            .status
    }

    #[tokio::test]
    async fn a_rebound_name_and_a_foreign_page_are_refused() {
        let admin = config::Admin { hosts: vec!["ops.internal".into()], ..Default::default() };
        for (host, status) in [
            ("127.0.0.1:9700", 200),
            ("[::1]:9700", 200),
            ("localhost:9700", 200),
            ("LOCALHOST", 200),
            ("ops.internal:9700", 200),
            ("evil.example:9700", 403),
            ("127.0.0.1.evil.example", 403),
            ("ops.internal.evil.example", 403),
            ("user@127.0.0.1@evil.example", 403),
            ("", 403),
        ] {
            assert_eq!(
                ask(&admin, "GET /admin/v1/status", &[("host", host)]).await,
                status,
                "{host}"
            );
        }
        assert_eq!(ask(&admin, "GET /metrics", &[]).await, 403, "no name at all");
        assert_eq!(ask(&admin, "GET /readyz", &[]).await, 200, "a probe names nothing");
        let json = ("content-type", "application/json; charset=utf-8");
        let here = ("host", "127.0.0.1:9700");
        for (origin, status) in [
            ("http://127.0.0.1:9700", 200),
            ("http://127.0.0.1:9701", 403),
            ("https://evil.example", 403),
            ("null", 403),
        ] {
            let headers = [here, json, ("origin", origin)];
            assert_eq!(ask(&admin, "POST /x", &headers).await, status, "{origin}");
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
            let headers = [here, ("content-type", kind)];
            assert_eq!(ask(&admin, "POST /x", &headers).await, 415, "{kind}");
        }
        assert_eq!(ask(&admin, "POST /x", &[here]).await, 415, "a form may leave it out");
    }

    #[tokio::test]
    async fn tokens_are_asked_for_and_their_roles_are_kept() {
        let operator = |name: &str, role| Operator {
            name: name.to_owned(),
            token: Hash::of(name.as_bytes()),
            role,
        };
        let admin = config::Admin {
            operators: vec![operator("looker", Role::Look), operator("actor", Role::Act)],
            ..Default::default()
        };
        let (host, json) = (("host", "127.0.0.1"), ("content-type", "application/json"));
        for (token, look, act, question) in [
            (None, 401, 401, 401),
            (Some("Bearer stranger"), 401, 401, 401),
            (Some("Basic looker"), 401, 401, 401),
            (Some("Bearer looker"), 200, 403, 200),
            (Some("bearer actor"), 200, 200, 200),
        ] {
            let mut headers = vec![host, json];
            headers.extend(token.map(|token| ("authorization", token)));
            let status = ask(&admin, "GET /admin/v1/status", &headers).await;
            assert_eq!(status, look, "{token:?}");
            assert_eq!(ask(&admin, "GET /metrics", &headers).await, look, "{token:?}");
            let changed = ask(&admin, "POST /admin/v1/accounts/a/drain", &headers).await;
            assert_eq!(changed, act, "{token:?}");
            let asked = ask(&admin, "POST /admin/v1/explain", &headers).await;
            assert_eq!(asked, question, "{token:?}");
            assert_eq!(ask(&admin, "GET /livez", &headers).await, 200, "probes have no token");
        }
    }
}
