//! `interlock completions` and `interlock man`: made from the one definition of the commands.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::{Cli, output};

/// Prints a shell's completions.
pub fn completions(shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "interlock", &mut text);
    // A closed pipe is the reader's wish and no error.
    let _ = io::stdout().lock().write_all(&text);
    ExitCode::SUCCESS
}

/// Prints the page of the program, or writes a page for each command into a folder.
pub fn man(folder: Option<&Path>) -> ExitCode {
    let mut program = Cli::command();
    program.build();
    let done = match folder {
        None => page(&program).map(|text| drop(io::stdout().lock().write_all(&text))),
        Some(folder) => std::fs::create_dir_all(folder).and_then(|()| pages(&program, folder)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            output::error(&format!("the pages can't be written: {why}"));
            ExitCode::from(1)
        }
    }
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    Ok(text)
}

fn pages(command: &Command, folder: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    std::fs::write(folder.join(format!("{name}.1")), page(command)?)?;
    command.get_subcommands().try_for_each(|below| pages(below, folder))
}
