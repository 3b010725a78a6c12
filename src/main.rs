//! The `bypath` command. Everything it does lives in the library; see [`bypath::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    bypath::cli::main()
}
