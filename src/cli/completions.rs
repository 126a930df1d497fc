//! `completions` and `manual`: made from the same definitions as the help.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::{
    exit::Failure,
    file::cannot,
    output::{Output, talk},
};

const NAME: &str = "event-sourcing-cqrs";

/// Print a script that completes words and flags in a shell.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    /// Does it.
    pub(crate) fn run(self, mut command: Command, output: Output) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, NAME, &mut script);
        output.text(&String::from_utf8_lossy(&script))
    }
}

/// Write manual pages, one of the program and one of each word.
#[derive(Debug, Clone, Args)]
pub(crate) struct Manual {
    /// The folder to write them into; it must be there
    folder: PathBuf,
}

impl Manual {
    /// Does it.
    pub(crate) fn run(&self, command: Command) -> Result<(), Failure> {
        clap_mangen::generate_to(command, &self.folder).map_err(|error| cannot("written", &self.folder, &error))?;
        talk(&format!("manual pages are in {}", self.folder.display()));
        Ok(())
    }
}
