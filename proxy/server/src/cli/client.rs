//! Asks a running proxy through its admin door, and turns what comes back into an exit code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::output;
use crate::config;

/// The longest answer that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the server is.
#[derive(clap::Args)]
pub struct Server {
    /// The admin address of the running proxy.
    #[arg(long, value_name = "URL", env = "INTERLOCK_ADMIN")]
    admin: Option<String>,
    /// The configuration file, for the admin address.
    #[arg(long, value_name = "PATH", env = "INTERLOCK_CONFIG")]
    pub config: Option<PathBuf>,
    /// Your token, where the admin door asks for one.
    #[arg(long, value_name = "TOKEN", env = "INTERLOCK_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Certificates to trust in the place of the system's, where the admin door speaks TLS.
    #[arg(long, value_name = "PATH", env = "INTERLOCK_CA")]
    ca: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The exit code of a command that did not do what it was asked.
pub type Code = u8;

/// The answer is "no".
pub const NO: Code = 1;
/// The server can't be reached.
pub const UNREACHED: Code = 3;
/// The server does not let this caller do that.
pub const REFUSED: Code = 4;

impl Server {
    /// Asks, and shows the answer.
    pub fn get(&self, path: &str, show: impl FnOnce(&Value)) -> Result<(), Code> {
        self.show(&self.ask(path)?, show);
        Ok(())
    }

    /// Asks for something to be done, and shows the answer.
    pub fn post(&self, path: &str, body: &Value, show: impl FnOnce(&Value)) -> Result<(), Code> {
        self.show(&self.tell(path, body)?, show);
        Ok(())
    }

    /// The answer to a question.
    pub fn ask(&self, path: &str) -> Result<Value, Code> {
        let url = self.url(path)?;
        let request = self.agent()?.get(&url);
        self.told(self.signed(request).call())
    }

    /// The answer to a question that may stay without one.
    pub fn ask_quietly(&self, path: &str) -> Option<Value> {
        let url = self.url(path).ok()?;
        let request = self.agent().ok()?.get(&url);
        let mut answer = self.signed(request).call().ok()?;
        answer.status().is_success().then(|| answer.body_mut().read_json().ok())?
    }

    /// The answer to a question with a body.
    pub fn tell(&self, path: &str, body: &Value) -> Result<Value, Code> {
        let url = self.url(path)?;
        let request = self.agent()?.post(&url);
        self.told(self.signed(request).send_json(body))
    }

    fn signed<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn agent(&self) -> Result<ureq::Agent, u8> {
        let roots = trusted(self.ca.as_deref()).map_err(|why| {
            output::error(&why);
            1
        })?;
        let tls = ureq::tls::TlsConfig::builder().root_certs(roots).build();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .tls_config(tls);
        Ok(config.build().into())
    }

    fn show(&self, body: &Value, show: impl FnOnce(&Value)) {
        if self.json { output::json(body) } else { show(body) }
    }

    /// What was answered; a problem is shown here.
    fn told(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, Code> {
        let mut answer = answer.map_err(|e| {
            output::error(&format!("the proxy can't be reached, is it running? {e}"));
            UNREACHED
        })?;
        let status = answer.status();
        let body: Value = answer.body_mut().read_json().map_err(|e| {
            output::error(&format!("the proxy's answer can't be read: {e}"));
            UNREACHED
        })?;
        if status.is_success() {
            return Ok(body);
        }
        if self.json {
            output::json(&body);
        } else {
            let text = |key: &str| body[key].as_str().unwrap_or("-").to_owned();
            if let Some(found) = body["rendered"].as_str().filter(|found| !found.is_empty()) {
                output::found(found);
            }
            output::error(&format!("{}: {}", text("title"), text("detail")));
        }
        Err(if matches!(status.as_u16(), 401 | 403) { REFUSED } else { NO })
    }

    fn url(&self, path: &str) -> Result<String, Code> {
        let base = match (&self.admin, &self.config) {
            (Some(admin), _) => admin.trim_end_matches('/').to_owned(),
            (None, Some(file)) => {
                // The address is wanted, not the secrets: who may look need not be able to pay.
                let loaded = config::load_alone(file).map_err(|found| {
                    output::findings(&found);
                    NO
                })?;
                let scheme = if loaded.config.admin.tls.is_some() { "https" } else { "http" };
                format!("{scheme}://{}", loaded.config.server.admin)
            }
            (None, None) => "http://127.0.0.1:9700".to_owned(),
        };
        Ok(format!("{base}/admin/v1/{path}"))
    }
}

/// The items of a list, or none.
pub fn list_of(value: &Value, key: &str) -> Vec<Value> {
    value[key].as_array().cloned().unwrap_or_default()
}

/// Whose certificates are believed: those of a file, or the system's.
fn trusted(ca: Option<&Path>) -> Result<ureq::tls::RootCerts, String> {
    use ureq::tls::{Certificate, PemItem, parse_pem};

    // The cryptography of the server serves the command line, too.
    pingora::tls::install_default_crypto_provider();
    let certificates: Vec<Certificate<'static>> = match ca {
        Some(path) => {
            let told =
                |why: String| format!("certificates can't be read, {why}: {}", path.display());
            let pem = std::fs::read(path).map_err(|e| told(e.kind().to_string()))?;
            let items: Result<Vec<_>, _> = parse_pem(&pem).collect();
            let items = items.map_err(|e| told(e.to_string()))?;
            let certificate = |item| match item {
                PemItem::Certificate(certificate) => Some(certificate),
                _ => None,
            };
            items.into_iter().filter_map(certificate).collect()
        }
        None => {
            let system = pingora::tls::load_native_certs().unwrap_or_default();
            system.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect()
        }
    };
    Ok(ureq::tls::RootCerts::new_with_certs(&certificates))
}
