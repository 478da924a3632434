//! `interlock check`: loads a configuration with its plugins and says everything that is wrong.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::output;
use crate::config::{self, Config, Diagnostic};
use crate::front_door::DoorTls;
use crate::setup::{self, Setup};
use interlock_plugin_host::{Options, PluginHost};

/// A certificate that ends sooner is worth a warning.
const EXPIRY_DAYS: i64 = 14;

/// Exit 0 when it is safe to run, 1 when it is not.
pub fn check(path: &Path, strict: bool, as_json: bool) -> ExitCode {
    let findings = match config::load(path) {
        Ok(loaded) => {
            let mut findings = loaded.warnings;
            findings.extend(certificates(&loaded.config));
            findings.extend(with_plugins(&loaded.config));
            findings
        }
        Err(findings) => findings,
    };
    let errors = findings.iter().filter(|d| d.is_error()).count();
    let warnings = findings.len() - errors;
    if as_json {
        let ok = errors == 0 && (!strict || warnings == 0);
        output::json(&json!({ "ok": ok, "errors": errors, "warnings": warnings,
            "findings": findings }));
    } else {
        output::findings(&findings);
        output::line(format_args!(
            "check  {}, {}",
            count(errors, "error"),
            count(warnings, "warning")
        ));
    }
    if errors > 0 || (strict && warnings > 0) { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

/// Whether the doors' certificates can be used, and for how long.
fn certificates(config: &Config) -> Vec<Diagnostic> {
    let doors = [("server.tls", &config.server.tls), ("admin.tls", &config.admin.tls)];
    let mut findings = Vec::new();
    for (section, options) in doors {
        let Some(options) = options else { continue };
        let tls = match DoorTls::load(options.clone()) {
            Ok(tls) => tls,
            Err(e) => {
                let text = format!("`[{section}]` can't be used, {e}");
                findings.push(Diagnostic::error("C071", text));
                continue;
            }
        };
        for (file, at_s) in tls.expiries() {
            let left_days = (at_s - jiff::Timestamp::now().as_second()) / 86_400;
            if left_days < EXPIRY_DAYS {
                let text =
                    format!("`[{section}]`: the certificate ends in {left_days} days: {file}");
                findings.push(Diagnostic::warning("C072", text));
            }
        }
    }
    findings
}

/// What the plugins say of the accounts and routes.
fn with_plugins(config: &Config) -> Vec<Diagnostic> {
    let host = PluginHost::new(Options { workers: 1, ..Options::default() });
    let mut findings = setup::check(config, &host);
    if !findings.iter().any(Diagnostic::is_error) {
        findings.extend(opened(config, &host));
    }
    findings
}

/// Opens every account as `run` would: a plugin may refuse what its manifest can't describe.
fn opened(config: &Config, host: &PluginHost) -> Vec<Diagnostic> {
    match Setup::load(config, host) {
        Ok(setup) => setup
            .disabled
            .iter()
            .map(|(name, reason)| setup::cant_serve(config, name, "C082", reason))
            .collect(),
        Err(reason) => vec![Diagnostic::error("C083", reason)],
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
