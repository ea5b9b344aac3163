//! Completions and manual pages, generated from the command line's declarations.

use std::fs::File;
use std::io;
use std::path::Path;

use clap::CommandFactory;

use crate::cli::{Arguments, CompletionsArguments, ManArguments};
use crate::failure::Failure;

/// Prints the completion script for a shell.
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(args: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "dstctl", &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script).map_err(Failure::Output)
}

/// Writes a manual page for dstctl and for each of its commands.
///
/// # Errors
/// A file cannot be written.
pub fn manual(args: &ManArguments) -> Result<(), Failure> {
    let mut command = Arguments::command();
    command.build();
    page(&args.folder, "dstctl", &command)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        page(&args.folder, &format!("dstctl-{}", sub.get_name()), sub)?;
    }
    Ok(())
}

fn page(folder: &Path, name: &str, command: &clap::Command) -> Result<(), Failure> {
    let path = folder.join(format!("{name}.1"));
    let page = clap_mangen::Man::new(command.clone()).title(name);
    File::create(&path)
        .and_then(|mut file| page.render(&mut file))
        .map_err(|error| Failure::File(path.clone(), format!("the page can't be written: {error}")))
}
