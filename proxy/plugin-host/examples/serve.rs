//! A process for one plugin, as the proxy starts it: for this crate's own tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    match interlock_plugin_host::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
