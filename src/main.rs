//! The program: a server, and the words to look after it.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
