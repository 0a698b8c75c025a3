//! The thin binary: first of all whatever this program was started anew for, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(exit) = ekiben::container::take_over() {
        return exit;
    }
    ekiben::cli::main()
}
