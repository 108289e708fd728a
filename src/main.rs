//! The `tidegate` binary: hands the command line to the library and returns its exit code.

use std::process::ExitCode;

/// It needs nothing but a C compiler. It asks the kernel for no huge pages (`no_thp`): they kept whole what quiet HTTP/2 connections have of
/// buffers, 16 KiB more for each of them, and hits were no dearer without.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let exit = tidegate::cli::main(std::env::args_os(), &tidegate::world::World::real());
    ExitCode::from(exit.code())
}
