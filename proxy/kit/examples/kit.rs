//! The kit without the proxy, for its own tests: `kit FOLDER` judges, `kit examine` is the child,
//! `kit serve` the process of one plugin.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use interlock_kit::{Folder, Options, Program};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let first = args.next().unwrap_or_else(|| ".".into());
    if first == "examine" {
        let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
        return match interlock_kit::child::serve(&mut input, &mut output) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if first == "serve" {
        return match interlock_plugin_host::serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    match judged(&first, args.next().as_deref() == Some("--update")) {
        Ok(text) => {
            let _ = writeln!(io::stdout().lock(), "{text}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            let _ = writeln!(io::stderr().lock(), "error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn judged(path: &str, update: bool) -> Result<String, Box<dyn std::error::Error>> {
    let folder = Folder::find(Path::new(path), None)?;
    if update {
        interlock_kit::update(&folder)?;
    }
    let program = Program {
        path: std::env::current_exe()?,
        examine: vec!["examine".into()],
        serve: vec!["serve".into()],
    };
    let report = interlock_kit::examine(&folder, &program, &Options::default(), &|_| {})?;
    Ok(report.text())
}
