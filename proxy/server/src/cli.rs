//! The command line: one definition for help, commands and exit codes.
//!
//! Exit codes: 0 done · 1 the answer is "no" · 2 wrong usage · 3 the server can't be reached ·
//! 4 the server does not let this caller do it.

mod account;
mod case;
mod check;
mod client;
mod config;
mod explain;
mod inspection;
mod keys;
mod offline;
mod output;
mod papers;
mod payment;
mod plugin;
mod reconcile;
mod record;
mod reload;
mod routing_tests;
mod status;
mod webhook;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::restoration::Told;
use crate::run;

/// A payment routing proxy that never charges twice.
#[derive(Parser)]
#[command(name = "interlock", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the proxy.
    Run {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        backup: Backup,
    },
    /// Take up the configuration and the plugins as they are now, while payments go on.
    Reload(reload::Wanted),
    /// Is this configuration safe to run? Loads it with its plugins.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Warnings count as errors.
        #[arg(long)]
        strict: bool,
        /// Print findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run routing cases from files that end in .routes.toml, without a server.
    Test(routing_tests::Wanted),
    /// One screen of truth: accounts, payments, doubts, the journal.
    Status(status::Look),
    /// Who would be tried for a payment, in which order, and why others not. Sends nothing.
    Explain(Box<explain::Asked>),
    /// Look at accounts; drain, resume, trip or probe them.
    Account {
        #[command(subcommand)]
        command: account::Command,
    },
    /// Look at payments, and settle the ones in doubt.
    Payment {
        #[command(subcommand)]
        command: payment::Command,
    },
    /// Hold a provider's statement of a day against the journal. 0: all matched, 1: not all.
    Reconcile(reconcile::Wanted),
    /// Look at the differences that were found, and close them.
    Case {
        #[command(subcommand)]
        command: case::Command,
    },
    /// Show a configuration's values, or the schema of all configurations.
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// Look at plugins, and pin the files that may run.
    Plugin {
        #[command(subcommand)]
        command: plugin::Command,
    },
    /// Make keys for merchants and operators.
    Merchant {
        #[command(subcommand)]
        command: keys::Merchant,
    },
    /// Look at certificates.
    Tls {
        #[command(subcommand)]
        command: keys::Tls,
    },
    /// Look at what merchants could not be told, and tell it again.
    Webhook {
        #[command(subcommand)]
        command: webhook::Command,
    },
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man {
        /// Write a page for each command into this folder instead.
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
    /// Print the version.
    Version {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Where the configuration is.
#[derive(clap::Args, Clone)]
struct ConfigFile {
    /// The configuration file.
    #[arg(long = "config", value_name = "PATH", default_value = "interlock.toml")]
    #[arg(env = "INTERLOCK_CONFIG")]
    path: PathBuf,
}

/// What is true of the data directory.
#[derive(clap::Args)]
struct Backup {
    /// The journal was put back from a backup: ask the providers what happened since, before any
    /// payment goes on.
    #[arg(long)]
    restored: bool,
    /// When the backup was made (RFC 3339), if the journal's own clock mark is later than that.
    #[arg(long, value_name = "TIME", requires = "restored")]
    backup_of: Option<jiff::Timestamp>,
    /// An account that nobody can ask; you have looked at its dashboard yourself. May be repeated.
    #[arg(long, value_name = "ACCOUNT", requires = "restored")]
    unasked: Vec<String>,
}

impl Backup {
    fn told(self) -> Option<Told> {
        let backup_ms = self.backup_of.map(jiff::Timestamp::as_millisecond);
        self.restored.then_some(Told { backup_ms, unasked: self.unasked })
    }
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { config, backup } => start(&config, backup.told()),
        Command::Check { config, strict, json } => check::check(&config.path, strict, json),
        Command::Reload(wanted) => reload::run(&wanted),
        Command::Test(wanted) => routing_tests::run(&wanted),
        Command::Status(look) => status::run(&look),
        Command::Explain(asked) => explain::run(&asked),
        Command::Account { command } => account::run(command),
        Command::Payment { command } => payment::run(command),
        Command::Reconcile(wanted) => reconcile::run(&wanted),
        Command::Case { command } => case::run(command),
        Command::Config { command } => config::run(command),
        Command::Plugin { command } => plugin::run(command),
        Command::Merchant { command } => keys::merchant(&command),
        Command::Tls { command } => keys::tls(&command),
        Command::Webhook { command } => webhook::run(command),
        Command::Completions { shell } => papers::completions(shell),
        Command::Man { out } => papers::man(out.as_deref()),
        Command::Version { json } => version(json),
    }
}

fn start(file: &ConfigFile, restored: Option<Told>) -> ExitCode {
    let loaded = match crate::config::load(&file.path) {
        Ok(loaded) => loaded,
        Err(findings) => {
            output::findings(&findings);
            return ExitCode::from(1);
        }
    };
    output::warnings(&loaded.warnings);
    match run::run(loaded.config, loaded.path, restored) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(1)
        }
    }
}

fn version(json: bool) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        output::json(&serde_json::json!({ "name": "interlock", "version": version }));
    } else {
        output::line(format_args!("interlock {version}"));
    }
    ExitCode::SUCCESS
}
