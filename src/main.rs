//! The `tidegate` binary: hands the command line to the library and returns its exit code.

use std::process::ExitCode;

/// By default, since it needs nothing but a C compiler; the fill-and-evict soak decides for good.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let exit = tidegate::cli::main(std::env::args_os(), &tidegate::world::World::real());
    ExitCode::from(exit.code())
}
