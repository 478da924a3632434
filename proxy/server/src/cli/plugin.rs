//! `interlock plugin`: which plugins there are, what they say of themselves, which may run; and the
//! kit of those who write one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use interlock_kit::scaffold::{self, Auth, Lang, Wanted};
use interlock_kit::{Folder, Options, Program, Ruled};
use interlock_plugin_api::{Manifest, Operation};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::client::{Server, list_of};
use super::status::span;
use super::{ConfigFile, inspection, output, record, reload};
use crate::config;
use interlock_plugin_host::{
    PluginLock, Publisher, Signed, inspect, pin, read_signature, signature_file,
};

/// What can be done with plugins.
#[derive(Subcommand)]
pub enum Command {
    /// Write the hashes of the plugin files that may run, after showing what changed.
    Pin {
        #[command(flatten)]
        config: ConfigFile,
        /// A publisher's public key, PEM: what he signed is his from now on, and nobody else's.
        #[arg(long, value_name = "FILE")]
        publisher: Option<PathBuf>,
        /// Print the changes as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the plugin files, whether they are pinned, and what the running proxy has loaded.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Take up the plugin files as they are now, while payments go on: as `interlock reload`.
    Reload(reload::Wanted),
    /// Write the folder of a new plugin, which compiles and passes `test` as it is.
    New(Fresh),
    /// Judge a plugin: money, mapping, keys, effects, secrets, hostile input, notifications, cost.
    Test(Judged),
    /// Ask a provider's sandbox what a fixture asks, and keep its answers, masked.
    Record(record::Recording),
    /// One check of `test`, in a process of its own.
    #[command(hide = true)]
    Examine,
    /// The process of one plugin, as the proxy starts it.
    #[command(hide = true)]
    Serve,
    /// Sign a plugin file as its publisher; the signature goes beside it, as FILE.sig.
    Sign {
        /// The library.
        file: PathBuf,
        /// The publisher's private key, PEM (ed25519).
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Did this publisher sign this plugin file?
    Verify {
        /// The library.
        file: PathBuf,
        /// The publisher's public key, PEM (ed25519).
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Show what a plugin file says of itself, without running it.
    Inspect {
        /// The library.
        file: PathBuf,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What the new plugin is.
#[derive(clap::Args)]
pub struct Fresh {
    /// Its name: lower case letters, digits and `-`.
    name: String,
    /// What it offers besides `authorize`; absent is everything that the example shows.
    #[arg(long, value_enum, value_delimiter = ',')]
    flows: Option<Vec<Flow>>,
    /// How its provider knows who asks.
    #[arg(long, value_enum, default_value_t = AuthKind::Bearer)]
    auth: AuthKind,
    /// What it is written in.
    #[arg(long, value_enum, default_value_t = LangKind::Rust)]
    lang: LangKind,
    /// The folder in which its own is made.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    into: PathBuf,
    /// Print the files as JSON.
    #[arg(long)]
    json: bool,
}

/// An operation of the example.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Flow {
    /// Take or reserve the amount; always there.
    Authorize,
    /// Take what was reserved.
    Capture,
    /// Release what was reserved.
    Void,
    /// Give money back.
    Refund,
    /// Ask what became of a payment.
    #[value(alias = "status")]
    Inquire,
    /// Ask what became of a capture, void or refund.
    #[value(alias = "refund-status")]
    InquireOperation,
    /// Read what the provider posts to us.
    #[value(aliases = ["webhook", "parse-notification"])]
    Notification,
    /// Ask whether the provider is well.
    Probe,
}

impl Flow {
    fn operation(self) -> Operation {
        match self {
            Self::Authorize => Operation::Authorize,
            Self::Capture => Operation::Capture,
            Self::Void => Operation::Void,
            Self::Refund => Operation::Refund,
            Self::Inquire => Operation::Inquire,
            Self::InquireOperation => Operation::InquireOperation,
            Self::Notification => Operation::ParseNotification,
            Self::Probe => Operation::Probe,
        }
    }
}

/// How a provider knows who asks.
#[derive(Clone, Copy, ValueEnum)]
enum AuthKind {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `Authorization: Basic CREDENTIALS`.
    Basic,
    /// `x-api-key: KEY`.
    Header,
    /// HMAC-SHA256 of the body in a header.
    Mac,
    /// An RSA signature of the body in a header.
    Rsa,
}

/// A language.
#[derive(Clone, Copy, ValueEnum)]
enum LangKind {
    /// Rust.
    Rust,
    /// C.
    C,
}

/// Which plugin is judged, and how.
#[derive(clap::Args)]
pub struct Judged {
    /// The plugin's folder, which is built first, or its library.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The folder of its fixtures; else `fixtures` in or beside the path.
    #[arg(long, value_name = "FOLDER")]
    fixtures: Option<PathBuf>,
    /// Write into the fixtures what the plugin sends and says now, for review, before it is judged.
    #[arg(long)]
    update: bool,
    /// Only these checks or groups of checks.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// A million damaged inputs and a million calls: some minutes.
    #[arg(long)]
    long: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Write the report for build servers (JUnit XML) to this file too.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Runs one of them.
pub fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Pin { config, publisher, json } => pin_all(&config, publisher.as_deref(), json),
        Command::Serve => interlock_plugin_host::serve().map_err(|e| output::error(&e)),
        Command::Sign { file, key } => sign(&file, &key),
        Command::Verify { file, key } => verify(&file, &key),
        Command::List { server } => list(&server),
        Command::Reload(wanted) => return reload::run(&wanted),
        Command::New(fresh) => new(&fresh),
        Command::Test(judged) => test(&judged),
        Command::Record(wanted) => record::run(&wanted),
        Command::Examine => {
            let (mut input, mut out) = (std::io::stdin().lock(), std::io::stdout().lock());
            interlock_kit::child::serve(&mut input, &mut out).map_err(|e| output::error(&e))
        }
        Command::Inspect { file, json } => inspect(&file)
            .map(|found| inspection::show(&found, json))
            .map_err(|e| output::error(&e)),
    };
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn new(fresh: &Fresh) -> Result<(), ()> {
    let operations = match &fresh.flows {
        Some(flows) => flows.iter().map(|flow| flow.operation()).collect(),
        None => scaffold::OPERATIONS.to_vec(),
    };
    let operations: Vec<Operation> =
        operations.into_iter().filter(|op| *op != Operation::Authorize).collect();
    let wanted = Wanted {
        name: fresh.name.clone(),
        operations,
        auth: match fresh.auth {
            AuthKind::Bearer => Auth::Bearer,
            AuthKind::Basic => Auth::Basic,
            AuthKind::Header => Auth::Header,
            AuthKind::Mac => Auth::Mac,
            AuthKind::Rsa => Auth::Rsa,
        },
        lang: match fresh.lang {
            LangKind::Rust => Lang::Rust,
            LangKind::C => Lang::C,
        },
    };
    let files = scaffold::create(&fresh.into, &wanted).map_err(|e| output::error(&e))?;
    let folder = fresh.into.join(&fresh.name);
    if fresh.json {
        output::json(&json!({ "folder": folder, "files": files }));
        return Ok(());
    }
    output::line(format_args!("created {}/", folder.display()));
    for path in files.iter().filter(|path| !path.starts_with("vendor")) {
        let text = std::fs::read_to_string(folder.join(path)).unwrap_or_default();
        output::line(format_args!("  {:<36}{:>4} lines", path.display(), text.lines().count()));
    }
    output::line(format_args!("next: cd {} && interlock plugin test", folder.display()));
    Ok(())
}

fn test(judged: &Judged) -> Result<(), ()> {
    let folder = Folder::find(&judged.path, judged.fixtures.as_deref());
    let folder = folder.map_err(|e| output::error(&e))?;
    if judged.update {
        let changed = interlock_kit::update(&folder).map_err(|e| output::error(&e))?;
        for path in changed.iter().filter(|_| !judged.json) {
            output::line(format_args!("updated {}", path.display()));
        }
    }
    let program = Program {
        path: std::env::current_exe().map_err(|e| output::error(&e))?,
        examine: vec!["plugin".into(), "examine".into()],
        serve: vec!["plugin".into(), "serve".into()],
    };
    let options = Options { long: judged.long, only: judged.only.clone() };
    let progress = |ruled: &Ruled| output::progress(ruled.check.title);
    let report = interlock_kit::examine(&folder, &program, &options, &progress);
    output::progress_ends();
    let report = report.map_err(|e| output::error(&e))?;
    if let Some(path) = &judged.junit {
        let text = report.junit().map_err(|e| output::error(&e))?;
        std::fs::write(path, text).map_err(|e| {
            output::error(&format!("report can't be written, {}: {}", e.kind(), path.display()));
        })?;
    }
    if judged.json {
        output::json(&report.json());
    } else {
        output::line(format_args!("{}", report.text()));
    }
    if report.conforms() { Ok(()) } else { Err(()) }
}

/// A key's text. Its path is named, its content never.
fn key_text(path: &Path) -> Result<Zeroizing<String>, ()> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    text.map_err(|e| output::error(&format!("key can't be read, {}: {}", e.kind(), path.display())))
}

fn bad_key(problem: &str, path: &Path) {
    output::error(&format!("key can't be used, {problem}: {}", path.display()));
}

fn publisher(path: &Path) -> Result<Publisher, ()> {
    Publisher::from_pem(&key_text(path)?).map_err(|problem| bad_key(problem, path))
}

/// What a signature of this file is about.
fn with_signed<T>(file: &Path, then: impl FnOnce(&Signed<'_>) -> Result<T, ()>) -> Result<T, ()> {
    let seen = inspect(file).map_err(|e| output::error(&e))?;
    let Some(signed) = Signed::of(&seen) else {
        output::error(&format!("manifest can't be read from the file: {}", file.display()));
        return Err(());
    };
    then(&signed)
}

fn sign(file: &Path, key: &Path) -> Result<(), ()> {
    let private = key_text(key)?;
    with_signed(file, |signed| {
        let signature = signed.sign(&private).map_err(|problem| bad_key(problem, key))?;
        let beside = signature_file(file);
        std::fs::write(&beside, format!("{}\n", hex::encode(signature))).map_err(|e| {
            let path = beside.display();
            output::error(&format!("signature can't be written, {}: {path}", e.kind()));
        })?;
        let (id, version, path) = (signed.id, signed.version, beside.display());
        output::line(format_args!("signed {id} {version}: {path}"));
        Ok(())
    })
}

fn verify(file: &Path, key: &Path) -> Result<(), ()> {
    let publisher = publisher(key)?;
    with_signed(file, |signed| {
        let signature = read_signature(file).map_err(|problem| {
            output::error(&format!("signature can't be used, {problem}: {}", file.display()));
        })?;
        let (id, version) = (signed.id, signed.version);
        if publisher.signed(signed, &signature) {
            output::line(format_args!("{id} {version} is signed by {}", publisher.to_hex()));
            return Ok(());
        }
        output::error(&format!("{id} {version} is not signed by this key: {}", file.display()));
        Err(())
    })
}

fn pin_all(file: &ConfigFile, by: Option<&Path>, as_json: bool) -> Result<(), ()> {
    let by = by.map(publisher).transpose()?;
    let loaded = config::load(&file.path).map_err(|found| output::findings(&found))?;
    let server = &loaded.config.server;
    let mut lock = if server.plugins_lock.exists() {
        PluginLock::read(&server.plugins_lock).map_err(|e| output::error(&e))?
    } else {
        PluginLock::default()
    };
    let changes = pin(&server.plugins_dir, &mut lock, by).map_err(|e| output::error(&e))?;
    if as_json {
        let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
        output::json(&json!({ "changes": told, "pinned": lock.plugins.len() }));
    } else {
        for change in &changes {
            output::line(format_args!("{change}"));
        }
    }
    if !changes.is_empty() {
        lock.write(&server.plugins_lock).map_err(|e| output::error(&e))?;
    }
    if !as_json {
        let (count, path) = (lock.plugins.len(), server.plugins_lock.display());
        output::line(format_args!("{count} pinned in {path}"));
    }
    Ok(())
}

fn list(server: &Server) -> Result<(), ()> {
    let file = server.config.clone().unwrap_or_else(|| "interlock.toml".into());
    let loaded = config::load_alone(&file).map_err(|found| output::findings(&found))?;
    let here = &loaded.config.server;
    let lock = PluginLock::read(&here.plugins_lock).unwrap_or_default();
    let dir = std::fs::read_dir(&here.plugins_dir).map_err(|e| {
        output::error(&format!("plugins can't be listed, {e}: {}", here.plugins_dir.display()));
    })?;
    let mut paths: Vec<PathBuf> = dir
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "so"))
        .collect();
    paths.sort();
    // Nobody need run for this; where somebody does, the list says what he has loaded.
    let running = server.ask_quietly("plugins").map(|told| list_of(&told, "plugins"));
    let mut rows = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut row = match inspect(&path) {
            Ok(found) => {
                let hash = hex::encode(found.sha256);
                let pinned = lock.file(&name).filter(|l| l.sha256 == hash);
                let state = match pinned.map(|l| (&l.ed25519, l.check_publisher(&here.plugins_dir)))
                {
                    None => "not pinned".to_owned(),
                    Some((None, _)) => "pinned".to_owned(),
                    Some((Some(_), Ok(()))) => "pinned, signed".to_owned(),
                    Some((Some(_), Err(e))) => e.reason.to_string(),
                };
                let mut row = row(&name, found.manifest.as_ref(), &state);
                row["sha256"] = hash.into();
                row
            }
            Err(e) => row(&name, None, &e.to_string()),
        };
        if let Some(running) = &running {
            let loaded = running.iter().filter(|g| g["file"] == name.as_str()).cloned();
            row["loaded"] = loaded.collect::<Vec<Value>>().into();
        }
        rows.push(row);
    }
    if server.json {
        output::json(&json!({ "running": running.is_some(), "plugins": rows }));
        return Ok(());
    }
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
        output::line(format_args!(
            "{:<12} {:<8} {:<20} {}",
            text("name"),
            text("version"),
            text("file"),
            text("state")
        ));
        for generation in list_of(row, "loaded") {
            output::line(format_args!("             {}", loaded_as(row, &generation)));
        }
    }
    if running.is_none() {
        output::line(format_args!("no proxy answers, so nothing is said of what is loaded"));
    }
    Ok(())
}

/// `generation 3, 1.0.0: serves acme-eu in a process of its own, for 2 min; calls 40`.
fn loaded_as(row: &Value, generation: &Value) -> String {
    let names = |key: &str| {
        let names = list_of(generation, key);
        names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let (serves, tries) = (names("accounts"), names("canary_accounts"));
    let what = match (generation["quarantine"].as_str(), serves.as_str(), tries.as_str()) {
        (Some(why), ..) => format!("in quarantine, {why}"),
        (None, "", "") => "replaced, finishes what it began".to_owned(),
        (None, "", tries) => format!("tried out for {tries}"),
        (None, serves, _) => format!("serves {serves}"),
    };
    let home = match generation["isolation"].as_str() {
        Some("process") => " in a process of its own",
        _ => "",
    };
    let other = match generation["sha256"] == row["sha256"] {
        true => "",
        false => "; the file is another one now: `interlock reload`",
    };
    let since = span(generation["loaded_ms"].as_u64());
    let version = generation["version"].as_str().unwrap_or("-");
    format!(
        "generation {}, {version}: {what}{home}, for {since}; calls {}{other}",
        generation["generation"], generation["calls"]
    )
}

fn row(file: &str, manifest: Option<&Manifest>, state: &str) -> Value {
    json!({
        "name": manifest.map(|m| m.id.as_str()), "version": manifest.map(|m| m.version.as_str()),
        "file": file, "state": state,
    })
}
