//! The binary `dure`.

use std::process::ExitCode;

fn main() -> ExitCode {
    dure_cli::main()
}
