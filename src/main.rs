//! The thin binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: a container's supervisor must have one thread.
    if let Some(code) = ekiben::container::take_over() {
        return code;
    }
    if let Some(code) = ekiben::python::take_over() {
        return code;
    }
    ekiben::cli::main()
}
