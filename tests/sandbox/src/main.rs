//! The `interlock-sandbox` program: starts the fakes of a configuration file, or makes demo keys.
//!
//! When everything listens it prints one line of JSON with the addresses, so that a harness can
//! use port 0 and wait for that line.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use interlock_sandbox::keys::KeyError;
use interlock_sandbox::{Config, Sandbox, apple_pay, google_pay, keys, paypal};

#[derive(Parser)]
#[command(about = "Stateful fakes of payment providers, with a ledger and a fault dial")]
struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Where the control plane listens, before what the file says
    #[arg(long, value_name = "ADDRESS")]
    control: Option<SocketAddr>,
    /// The seed of the fault dial's chance, before what the file says
    #[arg(long)]
    seed: Option<u64>,
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Make fresh RSA-2048 pairs in DIR/NAME for each account; pairs that exist stay
    Keys {
        /// Where to
        dir: PathBuf,
        /// The accounts
        #[arg(default_value = "alipay-main")]
        names: Vec<String>,
        /// Make what signs PayPal's webhooks instead, and webhook_ca.pem to trust
        #[arg(long)]
        webhooks: bool,
        /// Make what an Apple Pay account needs instead: certificates, identity, keys of tokens
        #[arg(long, conflicts_with_all = ["webhooks", "google_pay"])]
        apple_pay: bool,
        /// Make the keys of a Google Pay instead: Google's own, and the merchant's
        #[arg(long, conflicts_with = "webhooks")]
        google_pay: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.task {
        Some(Task::Keys { dir, names, webhooks, apple_pay, google_pay }) => {
            let write: fn(&Path) -> Result<usize, KeyError> = match (webhooks, apple_pay) {
                (true, _) => paypal::write_webhook_keys,
                (_, true) => apple_pay::write_keys,
                _ if google_pay => google_pay::write_google_pay_keys,
                _ => keys::write_account_keys,
            };
            make_keys(&dir, &names, write)
        }
        None => serve(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Nothing can be done about a standard error that is closed.
            let _ = writeln!(std::io::stderr(), "interlock-sandbox: {why}");
            ExitCode::FAILURE
        }
    }
}

fn make_keys(
    dir: &Path,
    names: &[String],
    write: fn(&Path) -> Result<usize, KeyError>,
) -> Result<(), String> {
    for name in names {
        write(&dir.join(name)).map_err(|why| why.to_string())?;
    }
    Ok(())
}

fn serve(arguments: Arguments) -> Result<(), String> {
    let path = arguments.config.ok_or("--config FILE.toml is missing")?;
    let mut config = Config::load(&path).map_err(|why| why.to_string())?;
    if let Some(listen) = arguments.control {
        config.control.listen = listen;
    }
    if let Some(seed) = arguments.seed {
        config.control.seed = seed;
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|why| why.to_string())?;
    runtime.block_on(async {
        let sandbox = Sandbox::start(config).await.map_err(|why| why.to_string())?;
        let line = serde_json::json!({
            "control": sandbox.control(), "accounts": sandbox.accounts(),
        });
        let mut out = std::io::stdout();
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|why| why.to_string())?;
        tokio::select! {
            () = sandbox.serve() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(())
    })
}
