//! Makes the queues of endpoints that may declare nothing.
//!
//! A broker user that can declare or bind can have what is meant for others, so the user of an endpoint can do
//! neither. The API makes its queues when it knocks or joins, and takes them out of the fanout when it leaves.

use super::aside::Subscription;
use super::connection::Session;
use super::feed::QUEUES;
use super::link_error::{LinkError, Scope, within};
use super::topology::{self, Names};

/// Declares and binds the queues of these subscriptions. Answers for each, in order; the outer error costs all.
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
                // Its word about one has ended the channel of all: the others are tried again without it.
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
