//! The binary: everything it does is a command of [`interlock::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    interlock::cli::main()
}
