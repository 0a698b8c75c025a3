//! The thin binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: a container's supervisor must have one thread.
    if let Some(code) = ekiben::run::container::take_over() {
        return code;
    }
    if let Some(code) = ekiben::run::step::take_over() {
        return code;
    }
    if let Some(code) = ekiben::base::python::take_over() {
        return code;
    }
    if let Some(code) = ekiben::bundle::import::bento::take_over() {
        return code;
    }
    ekiben::cli::main()
}
