//! `cargo xtask bench`: what a request costs in CPU, latency and memory, beside the proxies that
//! everybody knows.
//!
//! Figures of one machine at one hour mean little: neighbours move them by half. So every round
//! measures every contender, in a rotated order, and what is told is the median over the rounds of
//! the ratio to another contender *of the same round*. Contenders share one core, the generator
//! and the provider have another. Nothing here is a test: a slow hour must not fail a build.

mod contenders;
mod load;
mod memory;
mod overload;
mod plot;
mod process;
mod report;
mod rounds;
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// What is measured.
#[derive(Parser, Clone, Debug)]
pub struct Wish {
    /// Three short rounds: an order of magnitude in about a minute.
    #[arg(long)]
    quick: bool,
    /// The root of the repository.
    #[arg(long)]
    root: PathBuf,
    /// Where cargo builds.
    #[arg(long)]
    target: PathBuf,
    /// How many rounds, in place of 3 or 21.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long memory is watched under load, s; in place of 20 or 600.
    #[arg(long)]
    soak: Option<u64>,
    /// Only the rounds, of these contenders: `native`, `payment,tmpfs`, ...; or only `overload`.
    #[arg(long, value_delimiter = ',', conflicts_with = "json")]
    only: Vec<String>,
    /// Print the figures as one line of JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let wish = Wish::parse();
    let measured = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| format!("no runtime: {why}"))
        .and_then(|runtime| runtime.block_on(measure(&wish)));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(wish: &Wish) -> Result<(), String> {
    process::pin_to(process::LOAD_CPU);
    process::many_files();
    let provider = upstream::open().await?;
    let field = contenders::Field::find(wish, provider)?;
    if wish.only == ["overload"] {
        println!("{}", report::of_overload(&overload::run(wish, &field).await?));
        return Ok(());
    }
    let rounds = rounds::run(wish, &field).await?;
    if !wish.only.is_empty() {
        println!("{}", report::of_rounds(&field, &rounds));
        return Ok(());
    }
    let memory = memory::run(wish, &field).await?;
    let overload = overload::run(wish, &field).await?;
    report::write(wish, &field, &rounds, &memory, &overload)
}
