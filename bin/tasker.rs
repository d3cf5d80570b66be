//! The executable: reads the command line and hands it to the library.

use std::process::ExitCode;

use tasker::{app, cli};

fn main() -> ExitCode {
    app::keep_files_from_children();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code.into(),
    };
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::run(cli)).into(),
        Err(error) => {
            eprintln!("tasker: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
