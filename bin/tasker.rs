//! The executable: reads the command line and hands it to the library.

use std::process::ExitCode;

use tasker::cli::{self, Command};

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code.into(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tasker: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match cli.command {
        Command::Client(command) => runtime.block_on(cli::run(&cli.global, command)).into(),
        server => match runtime.block_on(tasker::app::run(&cli.global, server)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("tasker: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
