//! The thin binary of the operator.

use std::process::ExitCode;

fn main() -> ExitCode {
    ekiben::operator::main()
}
