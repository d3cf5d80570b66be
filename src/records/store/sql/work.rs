//! What an operation does, and where its outcome goes.

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::Conn;
use crate::store::fault::Fault;
use crate::store::{Result, StoreError};

/// What an operation does on a connection; called again from the top when others were in the way.
pub(in crate::store) trait Work<T>:
    for<'c> Fn(&'c mut Conn<'c>) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static
{
}

impl<T, F> Work<T> for F where
    F: for<'c> Fn(&'c mut Conn<'c>) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static
{
}

/// An operation whose outcome its caller keeps. Sessions, tries and the writer know only these: they are
/// compiled once, and not for each type of outcome.
pub(in crate::store) type Deed = Arc<dyn Work<()>>;

/// Where the outcome of a [`Deed`] is found.
pub(in crate::store) struct Outcome<T>(Arc<Mutex<Option<T>>>);

/// The deed that does this work.
pub(in crate::store) fn deed<T: Send + 'static>(work: impl Work<T>) -> (Deed, Outcome<T>) {
    let place = Arc::new(Mutex::new(None));
    let outcome = Outcome(place.clone());
    let deed: Deed = Arc::new(move |conn: &mut Conn<'_>| {
        let (working, place) = (work(conn), place.clone());
        async move {
            let value = working.await?;
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            Ok(())
        }
        .boxed()
    });
    (deed, outcome)
}

impl<T: Send + 'static> Outcome<T> {
    /// What comes of the deed when it is done.
    pub fn of<'a>(self, done: BoxFuture<'a, Result<()>>) -> BoxFuture<'a, Result<T>> {
        async move {
            done.await?;
            let value = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            value.ok_or_else(|| StoreError::Statement { reason: "the operation was not done".to_owned() })
        }
        .boxed()
    }
}
