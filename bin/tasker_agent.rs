//! The executable for servers that perform tasks and do nothing else: hands the command line to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tasker::cli::agent_main(std::env::args_os())
}
