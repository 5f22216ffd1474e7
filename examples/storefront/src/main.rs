//! The program. See the library for what it is made of.

use std::process::ExitCode;

fn main() -> ExitCode {
    storefront::run()
}
