//! Asks a running proxy through its admin door, and turns what comes back into an exit code.

use std::path::PathBuf;
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
        self.told(agent().get(&url).call())
    }

    /// The answer to a question with a body.
    pub fn tell(&self, path: &str, body: &Value) -> Result<Value, Code> {
        let url = self.url(path)?;
        self.told(agent().post(&url).send_json(body))
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
                format!("http://{}", loaded.config.server.admin)
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

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}
