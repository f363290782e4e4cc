//! The command line `cofferdam`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cofferdam::cli::main()
}
