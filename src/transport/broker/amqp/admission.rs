//! Declares the queues of restricted endpoints: those whose broker user may not declare anything.
//!
//! A broker user that may declare or bind can get messages that are meant for others, so the user of an
//! endpoint may do neither. The API declares the queues of an endpoint when the endpoint joins or reports
//! that a queue is missing, and takes the queues out of the fanout when the endpoint leaves.

use super::aside::Subscription;
use super::connection::Session;
use super::feed::QUEUES;
use super::link_error::{LinkError, Scope, within};
use super::topology::{self, Names};

/// Declares and binds the queues of these subscriptions. Returns one result for each, in order; the outer
/// error is that of the connection, and concerns all of them.
pub(super) async fn admit(
    session: &Session,
    names: &Names,
    subscriptions: &[Subscription],
) -> Result<Vec<Result<(), LinkError>>, LinkError> {
    let mut results: Vec<Result<(), LinkError>> = subscriptions.iter().map(|_| Ok(())).collect();
    let places: Vec<usize> = (0..subscriptions.len()).collect();
    for some in places.chunks(QUEUES) {
        let mut open = some.to_vec();
        while !open.is_empty() {
            let wanted: Vec<Subscription> = open.iter().map(|place| subscriptions[*place].clone()).collect();
            match admit_all(session, names, &wanted).await {
                Ok(()) => break,
                Err((_, error)) if error.scope() == Scope::Connection || !session.lives() => {
                    return Err(error);
                }
                // The refusal of one queue has closed the channel: try the others again without it.
                Err((place, error)) => results[open.remove(place)] = Err(error),
            }
        }
    }
    Ok(results)
}

/// All of these on one channel, or the place of one to blame.
async fn admit_all(
    session: &Session,
    names: &Names,
    wanted: &[Subscription],
) -> Result<(), (usize, LinkError)> {
    let channel = session.channel().await.map_err(|error| (0, error))?;
    topology::declare_task_queues(&channel, names, wanted).await?;
    topology::declare_control_queues(&channel, names, wanted).await?;
    topology::join_fanout(&channel, names, wanted, &vec![false; wanted.len()]).await?;
    within("closing a channel", channel.close(200, "admitted".into())).await.map_err(|error| (0, error))
}
