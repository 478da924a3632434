//! The command line: one definition for help, commands and exit codes.
//!
//! Exit codes: 0 done · 1 the answer is "no" · 2 wrong usage · 3 the server can't be reached
//! · 4 the server refused who asks.

mod account;
mod check;
mod keys;
mod output;
mod payment;
mod plugin;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config;
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
    },
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

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { config } => start(&config),
        Command::Check { config, strict, json } => check::check(&config.path, strict, json),
        Command::Account { command } => account::run(command),
        Command::Payment { command } => payment::run(command),
        Command::Plugin { command } => plugin::run(command),
        Command::Merchant { command } => keys::merchant(&command),
        Command::Tls { command } => keys::tls(&command),
        Command::Version { json } => version(json),
    }
}

fn start(file: &ConfigFile) -> ExitCode {
    let loaded = match config::load(&file.path) {
        Ok(loaded) => loaded,
        Err(findings) => {
            output::findings(&findings);
            return ExitCode::from(1);
        }
    };
    output::warnings(&loaded.warnings);
    match run::run(loaded.config) {
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
