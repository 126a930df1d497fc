//! The program: a server, and the words to look after it.

#[cfg(feature = "http")]
mod bootstrap;
mod cli;
mod shutdown;

fn main() -> std::process::ExitCode {
    cli::main()
}
