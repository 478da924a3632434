//! `interlock plugin record`: asks a provider's sandbox what a fixture asks, and keeps the answers.
//!
//! It uses an account of a configuration, with its real credentials. It asks nobody at the address
//! that the manifest calls production, and sends nothing that may move money without `--yes`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use interlock_kit::fixture::Fixture;
use interlock_kit::recording::{Mask, Recorded, recorded};
use interlock_kit::{Asking, OP_ID};
use interlock_plugin_api::{Effect, Event, Next, STEPS_MAX};
use interlock_plugin_host::{Options, PluginHost, classify_send};
use serde_json::{Value, json};

use super::{ConfigFile, output};
use crate::calls::Caller;
use crate::config;
use crate::node::NodeClock;
use crate::setup::{self, OpenAccount};
use crate::upstream::{Upstream, UpstreamOptions};

/// What is recorded.
#[derive(clap::Args)]
pub struct Recording {
    /// The fixture: its question is asked, its answers are replaced.
    file: PathBuf,
    /// The account that asks, pointed at its provider's sandbox.
    #[arg(long)]
    account: String,
    #[command(flatten)]
    config: ConfigFile,
    /// Send what may move money, too.
    #[arg(long)]
    yes: bool,
    /// Print what was recorded as JSON.
    #[arg(long)]
    json: bool,
}

/// Records one fixture.
pub fn run(wanted: &Recording) -> Result<(), ()> {
    let told = record(wanted).map_err(|e| output::error(&e))?;
    if wanted.json {
        output::json(&json!({ "fixture": wanted.file, "exchanges": told }));
        return Ok(());
    }
    for exchange in &told {
        let text = |key: &str| exchange[key].as_str().unwrap_or_default().to_owned();
        let status = &exchange["status"];
        output::line(format_args!("{} {} {status}", text("method"), text("path")));
    }
    output::line(format_args!("recorded {}", wanted.file.display()));
    output::line(format_args!("next: interlock plugin test --update, and review the difference"));
    Ok(())
}

fn record(wanted: &Recording) -> Result<Vec<Value>, String> {
    let loaded = config::load(&wanted.config.path).map_err(|found| {
        output::findings(&found);
        "the configuration can't be used".to_owned()
    })?;
    let config = &loaded.config;
    let account = config.accounts.get(&wanted.account);
    let account = account.ok_or(format!("account is not defined: {}", wanted.account))?;
    let lock = setup::locked(config)?;
    let host = PluginHost::new(Options { workers: 1, ..Options::default() });
    let generation = setup::load(config, account, &lock, &host)?;
    let open = setup::open_account(config, account, &generation, None)?;
    not_production(&open)?;
    let text = std::fs::read_to_string(&wanted.file);
    let text =
        text.map_err(|e| format!("can't be read, {}: {}", e.kind(), wanted.file.display()))?;
    let fixture = Fixture::parse(wanted.file.clone(), &text).map_err(|e| e.to_string())?;
    let folder = wanted.file.parent().unwrap_or(std::path::Path::new("."));
    let kit_account = interlock_kit::Account::read(folder).map_err(|e| e.to_string())?;
    let asking = Asking { manifest: open.manifest().clone(), account: kit_account };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("no runtime, {}", e.kind()))?;
    let mut mask = Mask::default();
    account.secrets.values().for_each(|secret| mask.hide(secret.expose()));
    let (answers, told) =
        runtime.block_on(asked(&open, &asking, &fixture, wanted.yes, &mut mask))?;
    let new = recorded(&fixture, &answers, &mask)
        .map_err(|n| format!("answer {n} is no text, which a fixture can't hold"))?;
    std::fs::write(&wanted.file, new.to_string())
        .map_err(|e| format!("can't be written, {}: {}", e.kind(), wanted.file.display()))?;
    Ok(told)
}

/// Real money is never asked for.
fn not_production(open: &OpenAccount) -> Result<(), String> {
    let bare = |url: &str| url.trim_end_matches('/').to_ascii_lowercase();
    let real = open.manifest().hosts.iter().find(|(name, production)| {
        open.addresses.get(*name).is_none_or(|address| bare(address) == bare(production))
    });
    match real {
        None => Ok(()),
        Some((name, address)) => Err(format!(
            "account `{}` stands at the provider's production address, {address}; give it the \
             sandbox's: [accounts.{}] endpoints = {{ {name} = \"https://...\" }}",
            open.name, open.name
        )),
    }
}

async fn asked(
    open: &OpenAccount,
    asking: &Asking,
    fixture: &Fixture,
    yes: bool,
    mask: &mut Mask,
) -> Result<(Vec<Recorded>, Vec<Value>), String> {
    let asked = asking.of_fixture(fixture);
    let mut envelope = asked.ok_or("its JSON makes no request that the proxy could send")?.envelope;
    if !matches!(envelope.event, Event::Start) {
        return Err("a notification can't be asked for; write what the provider posted".into());
    }
    // The provider remembers numbers, so each recording has its own.
    let number = ulid::Ulid::generate().to_string();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    envelope.now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    envelope.made_ms = envelope.now_ms;
    if envelope.request.op_id == OP_ID {
        envelope.request.op_id.clone_from(&number);
        mask.replace(&number, OP_ID);
    }
    let caller =
        Caller::new(Upstream::new(UpstreamOptions::default()), Arc::new(NodeClock::new(0)));
    let (mut state, mut body) = (Vec::new(), Vec::new());
    let (mut answers, mut told) = (Vec::new(), Vec::new());
    for _ in 0..STEPS_MAX {
        let step = open.instance.step(&envelope, &state, &body).await.map_err(|e| e.to_string())?;
        let Next::Send(send) = step.next else { return Ok((answers, told)) };
        let what = classify_send(open.manifest(), envelope.op, &send, &step.body);
        let what = what.map_err(|e| format!("{} {}: {e}", send.method, send.path))?;
        if what.effect != Effect::Read && !yes {
            return Err(format!(
                "{} {} may move money at {}; if that is a sandbox, say --yes",
                send.method,
                send.path,
                open.addresses.get(&send.endpoint).map_or("an unknown address", String::as_str)
            ));
        }
        let until = Instant::now() + Duration::from_secs(60);
        let answer = caller.exchange(open, &send, step.body, until, false).await;
        let answer = answer.map_err(|(_, reason, _)| format!("no answer came, {reason}"))?;
        let path = send.path.clone();
        told.push(json!({ "method": send.method, "path": path, "status": answer.status }));
        let headers = answer.headers;
        answers.push(Recorded {
            status: answer.status,
            headers: headers.clone(),
            body: answer.body.to_vec(),
        });
        envelope.event = Event::Response { status: answer.status, headers };
        (state, body) = (step.state, answer.body.to_vec());
    }
    Err(format!("after {STEPS_MAX} steps the plugin still wants to send"))
}
