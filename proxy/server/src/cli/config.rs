//! `interlock config`: every value with where it came from, and the schema for editors.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::{ConfigFile, output};
use crate::config::{self, Whence};

/// What can be done with a configuration.
#[derive(Subcommand)]
pub enum Command {
    /// Show every value, defaults filled in and secrets only named.
    Show {
        #[command(flatten)]
        config: ConfigFile,
        /// Say where each value came from.
        #[arg(long)]
        origin: bool,
        /// Say what each value means.
        #[arg(long)]
        explain: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration.
    Schema {
        /// The schema is JSON already; for scripts that always say so.
        #[arg(long)]
        json: bool,
    },
}

/// Runs one of them.
pub fn run(command: Command) -> ExitCode {
    match command {
        Command::Show { config, origin, explain, json } => show(&config, origin, explain, json),
        Command::Schema { json } => schema(json),
    }
}

fn show(file: &ConfigFile, origin: bool, explain: bool, as_json: bool) -> ExitCode {
    let rows = match config::effective(&file.path) {
        Ok(rows) => rows,
        Err(findings) => {
            output::findings(&findings);
            return ExitCode::from(1);
        }
    };
    if as_json {
        output::json(&json!({ "values": rows }));
        return ExitCode::SUCCESS;
    }
    let width = rows.iter().map(|r| r.key.chars().count()).max().unwrap_or(0);
    for row in &rows {
        let value = row.value.as_deref().unwrap_or("none");
        if let (true, Some(meaning)) = (explain, row.meaning) {
            output::line(format_args!("# {meaning}"));
        }
        if origin {
            let from = whence(&row.origin);
            output::line(format_args!("{:<width$}  {value:<28}  {from}", row.key));
        } else {
            output::line(format_args!("{:<width$}  {value}", row.key));
        }
    }
    ExitCode::SUCCESS
}

fn whence(origin: &Whence) -> String {
    match origin {
        Whence::Default => "default".into(),
        Whence::File { file, line } => format!("{file}:{line}"),
        Whence::Env { name, file, line } => format!("env {name}, named in {file}:{line}"),
        Whence::OtherFile { path, file, line } => format!("file {path}, named in {file}:{line}"),
    }
}

fn schema(on_one_line: bool) -> ExitCode {
    match config::schema() {
        Ok(schema) if on_one_line => output::json(&schema),
        Ok(schema) => output::line(format_args!("{schema:#}")),
        Err(why) => {
            output::error(&format!("the schema can't be made: {}", why.join("; ")));
            return ExitCode::from(1);
        }
    }
    ExitCode::SUCCESS
}
