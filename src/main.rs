//! The program: a server, and the words to look after it.

#[cfg(feature = "http")]
mod bootstrap;
mod cli;
mod shutdown;

/// Commands are many small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
