//! The binary: everything it does is a command of [`interlock::cli`].

use std::process::ExitCode;

/// Payments are made of small pieces, and idle connections must cost little.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    interlock::cli::main()
}
