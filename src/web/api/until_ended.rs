//! A read that waits: for the end of a task, or of a request.

use std::hash::Hash;
use std::pin::pin;
use std::time::Duration;

use actix_web::HttpRequest;
use tokio::time::{Instant, sleep};

use super::problem::Problem;
use super::{Api, access};
use crate::watch::Watch;

/// The longest `wait`. Proxies on the way rarely wait longer than this either.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// What `look` sees when it has ended, when the time is over or when the process stops. A look that fails is
/// only told if it was the last one: the next may succeed.
pub async fn until_ended<K: Eq + Hash + Clone, T>(
    api: &Api,
    request: &HttpRequest,
    wait: Duration,
    watch: &Watch<K>,
    key: &K,
    look: impl AsyncFn() -> Result<T, Problem>,
    has_ended: impl Fn(&T) -> bool,
) -> Result<T, Problem> {
    let _place = api.waits.read(access::token_of(request).as_deref())?;
    let deadline = Instant::now() + wait;
    loop {
        // Arm, then look, then wait: an end between the look and the wait is not missed.
        let mut waiter = watch.subscribe(key.clone());
        access::check_again(api, request)?;
        let over = Instant::now() >= deadline || api.stop.is_cancelled();
        match look().await {
            Ok(seen) if has_ended(&seen) || over => return Ok(seen),
            Err(problem) if over => return Err(problem),
            Ok(_) | Err(_) => {}
        }
        // Another process may have collected the end: look about once a second, out of step with other
        // waiting requests.
        let pause = Duration::from_millis(fastrand::u64(750..1250))
            .min(deadline.saturating_duration_since(Instant::now()));
        let mut pause = pin!(sleep(pause));
        tokio::select! {
            () = waiter.ended() => {}
            () = &mut pause => {}
            () = api.stop.cancelled() => {}
        }
    }
}
