//! `interlock payment`: where a customer's money is, and what may safely be done about it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use super::output;
use crate::config;

/// The longest answer that is read from the server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the server is.
#[derive(clap::Args)]
pub struct Server {
    /// The admin address of the running proxy.
    #[arg(long, value_name = "URL", env = "INTERLOCK_ADMIN")]
    admin: Option<String>,
    /// The configuration file, for the admin address.
    #[arg(long, value_name = "PATH", env = "INTERLOCK_CONFIG")]
    config: Option<PathBuf>,
    /// Your token, where the admin door asks for one.
    #[arg(long, value_name = "TOKEN", env = "INTERLOCK_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Certificates to trust in the place of the system's, where the admin door speaks TLS.
    #[arg(long, value_name = "PATH", env = "INTERLOCK_CA")]
    ca: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What can be done with payments.
#[derive(Subcommand)]
pub enum Command {
    /// Show one payment.
    Show {
        /// The payment's id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// What happened to one payment, in order.
    Timeline {
        /// The payment's id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// List payments, newest first.
    List {
        /// Only those whose outcome is unknown.
        #[arg(long)]
        in_doubt: bool,
        /// Only those of this account.
        #[arg(long)]
        account: Option<String>,
        /// Only those with this status.
        #[arg(long)]
        status: Option<String>,
        /// Only those of this order.
        #[arg(long)]
        merchant_ref: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Ask the provider again, now.
    Recheck {
        /// The payment's id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Say what became of a payment in doubt, with evidence. It is written into the timeline.
    Resolve {
        /// The payment's id.
        id: String,
        /// `succeeded`: the money moved; `failed`: none did.
        #[arg(long, value_parser = ["succeeded", "failed"])]
        outcome: String,
        /// The evidence: where you looked and what you saw.
        #[arg(long)]
        reason: String,
        /// The provider's number of the payment; needed when the money moved.
        #[arg(long)]
        provider_ref: Option<String>,
        /// The attempt's or operation's id, when more than one is in doubt.
        #[arg(long)]
        subject: Option<String>,
        /// Who you are.
        #[arg(long, env = "USER")]
        operator: String,
        #[command(flatten)]
        server: Server,
    },
}

/// Runs one of them.
pub fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Show { id, server } => server.get(&format!("payments/{id}"), show),
        Command::Timeline { id, server } => {
            server.get(&format!("payments/{id}/timeline"), timeline)
        }
        Command::List { in_doubt, account, status, merchant_ref, limit, server } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string());
            if in_doubt {
                query.append_pair("in_doubt", "true");
            }
            for (name, value) in
                [("account", account), ("status", status), ("merchant_ref", merchant_ref)]
            {
                if let Some(value) = value {
                    query.append_pair(name, &value);
                }
            }
            server.get(&format!("payments?{}", query.finish()), list)
        }
        Command::Recheck { id, server } => {
            server.post(&format!("payments/{id}/recheck"), &json!({}), |v| {
                let asked = v["asked"].as_bool() == Some(true);
                let told = if asked { "the provider is being asked" } else { "nothing to ask" };
                output::line(format_args!("{}: {told}", v["payment"].as_str().unwrap_or("-")));
            })
        }
        Command::Resolve { id, outcome, reason, provider_ref, subject, operator, server } => {
            let body = json!({
                "outcome": outcome, "reason": reason, "provider_ref": provider_ref,
                "subject": subject, "operator": operator,
            });
            server.post(&format!("payments/{id}/resolve"), &body, show)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

impl Server {
    pub(super) fn get(&self, path: &str, show: impl FnOnce(&Value)) -> Result<(), u8> {
        let url = self.url(path)?;
        let request = self.agent()?.get(&url);
        self.told(self.signed(request).call(), show)
    }

    pub(super) fn post(
        &self,
        path: &str,
        body: &Value,
        show: impl FnOnce(&Value),
    ) -> Result<(), u8> {
        let url = self.url(path)?;
        let request = self.agent()?.post(&url);
        self.told(self.signed(request).send_json(body), show)
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

    fn told(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        show: impl FnOnce(&Value),
    ) -> Result<(), u8> {
        let mut answer = answer.map_err(|e| {
            output::error(&format!("the proxy can't be reached, is it running? {e}"));
            3
        })?;
        let status = answer.status();
        let body: Value = answer.body_mut().read_json().map_err(|e| {
            output::error(&format!("the proxy's answer can't be read: {e}"));
            3
        })?;
        if self.json {
            output::json(&body);
        } else if status.is_success() {
            show(&body);
        }
        if status.is_success() {
            return Ok(());
        }
        if !self.json {
            let text = |key: &str| body[key].as_str().unwrap_or("-").to_owned();
            output::error(&format!("{}: {}", text("title"), text("detail")));
        }
        Err(if matches!(status.as_u16(), 401 | 403) { 4 } else { 1 })
    }

    fn url(&self, path: &str) -> Result<String, u8> {
        let base = match (&self.admin, &self.config) {
            (Some(admin), _) => admin.trim_end_matches('/').to_owned(),
            (None, Some(file)) => {
                let loaded = config::load(file).map_err(|found| {
                    output::findings(&found);
                    1
                })?;
                let scheme = if loaded.config.admin.tls.is_some() { "https" } else { "http" };
                format!("{scheme}://{}", loaded.config.server.admin)
            }
            (None, None) => "http://127.0.0.1:9700".to_owned(),
        };
        Ok(format!("{base}/admin/v1/{path}"))
    }
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

fn show(p: &Value) {
    let text = |key: &str| p[key].as_str().unwrap_or("-").to_owned();
    let number = |key: &str| p[key].as_i64().unwrap_or(0);
    let reason = p["status_reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
    output::line(format_args!("payment   {}", text("id")));
    output::line(format_args!("status    {}{reason}", text("status")));
    output::line(format_args!(
        "amount    {} minor units of {} · captured {} · refunded {}",
        number("amount"),
        text("currency"),
        number("amount_captured"),
        number("amount_refunded")
    ));
    output::line(format_args!("merchant  {} · order {}", text("merchant"), text("merchant_ref")));
    output::line(format_args!("route     {} · failover {}", text("route"), text("failover")));
    for a in list_of(p, "attempts") {
        let of = |key: &str| a[key].as_str().unwrap_or("-").to_owned();
        let why = a["reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
        output::line(format_args!(
            "attempt   {} · {} · {}{why} · our number {} · theirs {}",
            of("id"),
            of("account"),
            of("state"),
            of("op_id"),
            of("provider_ref")
        ));
    }
    for o in list_of(p, "operations") {
        let of = |key: &str| o[key].as_str().unwrap_or("-").to_owned();
        let amount = o["amount"].as_i64().unwrap_or(0);
        output::line(format_args!(
            "{:<9} {} · {amount} · {} · asked by {}",
            of("kind"),
            of("id"),
            of("state"),
            of("origin")
        ));
    }
    if p["in_doubt"].as_bool() == Some(true) {
        let soon = p["next_look_in_ms"].as_i64().unwrap_or(0).max(0) / 1_000;
        output::line(format_args!("in doubt  next look in {soon} s; another account is not tried"));
        for d in list_of(p, "doubts") {
            let of = |key: &str| d[key].as_str().unwrap_or("-").to_owned();
            output::line(format_args!("          {}: {}", of("subject"), of("what")));
        }
    }
}

fn timeline(body: &Value) {
    output::line(format_args!("{:>4}  {:<24}  {:<16}  WHAT", "#", "TIME", "WHO"));
    for e in list_of(body, "data") {
        let of = |key: &str| e[key].as_str().unwrap_or("-").to_owned();
        let why = e["reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
        let seq = e["seq"].as_u64().unwrap_or(0);
        output::line(format_args!(
            "{seq:>4}  {:<24}  {:<16}  {}{why}",
            of("at"),
            of("actor"),
            of("what")
        ));
    }
}

fn list(body: &Value) {
    let rows = list_of(body, "data");
    for p in &rows {
        let text = |key: &str| p[key].as_str().unwrap_or("-").to_owned();
        let reason = p["status_reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
        let amount = p["amount"].as_i64().unwrap_or(0);
        let age = p["age_ms"].as_i64().unwrap_or(0) / 1_000;
        output::line(format_args!(
            "{}  {amount:>10} {}  {:<16}  {:>6} s  {}{reason}",
            text("id"),
            text("currency"),
            text("account"),
            age,
            text("status")
        ));
    }
    if rows.is_empty() {
        output::line(format_args!("no payments"));
    } else if body["has_more"].as_bool() == Some(true) {
        output::line(format_args!("more: raise --limit or narrow the list"));
    }
}

pub(super) fn list_of(value: &Value, key: &str) -> Vec<Value> {
    value[key].as_array().cloned().unwrap_or_default()
}
