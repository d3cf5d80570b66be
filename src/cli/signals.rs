//! When a person or a supervisor wants the process to end.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Completes at SIGTERM or SIGINT, or when a part of the process has died; answers whether it was asked for. A second
/// signal ends the process at once, for those who cannot wait.
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn told_to_stop(died: &CancellationToken) -> std::io::Result<bool> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let asked = tokio::select! {
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
        () = died.cancelled() => false,
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(asked)
}
