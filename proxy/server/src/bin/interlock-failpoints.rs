//! The binary of the tests that kill: `interlock` with failpoints, and one more command that lists
//! them. It is never shipped.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("failpoints") {
        return match interlock::failpoint::armed::list() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    interlock::cli::main()
}
