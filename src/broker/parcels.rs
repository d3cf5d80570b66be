//! Messages for the same receivers become one: one publish, one confirm and one acknowledgement serve what is published at the same time.
//!
//! Nothing waits for company. What is given to [`publish`](super::Broker::publish) together goes together, within the bounds of
//! [`envelope`], if all receivers read lists.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::envelope::{ITEM_BYTES, ITEMS, LIST_BYTES};
use super::{Address, BrokerError, Message, envelope};
use crate::domain::WireVersion;

/// What messages must have in common to become one.
type Kinship = (Address, bool, Option<Duration>);

/// Messages as they go out, and in which of them each message is.
pub(super) struct Parcels {
    pub(super) messages: Vec<Message>,
    pub(super) places: Vec<usize>,
}

/// One that may take more.
struct Parcel {
    message: Message,
    others: Vec<Bytes>,
    bytes: usize,
}

impl Parcel {
    fn takes(&self, body: &Bytes) -> bool {
        self.others.len() + 1 < ITEMS && self.bytes + body.len() + ITEM_BYTES <= LIST_BYTES
    }

    fn closed(self) -> Message {
        let Self { message, others, .. } = self;
        if others.is_empty() {
            return message;
        }
        let body = envelope::list(std::iter::once(&message.body).chain(&others));
        Message { body, ..message }
    }
}

impl Parcels {
    pub(super) fn of(messages: Vec<Message>) -> Self {
        let mut parcels: Vec<Parcel> = Vec::with_capacity(messages.len());
        let (mut places, mut last) = (Vec::with_capacity(messages.len()), HashMap::<Kinship, usize>::new());
        let many = messages.len() > 1;
        for message in messages {
            let kinship = (many && message.reads >= WireVersion::Two).then(|| (message.to.clone(), message.persistent, message.expires_in));
            let open = kinship.as_ref().and_then(|kinship| last.get(kinship).copied()).filter(|at| parcels[*at].takes(&message.body));
            places.push(open.unwrap_or(parcels.len()));
            match open {
                Some(at) => {
                    parcels[at].bytes += message.body.len() + ITEM_BYTES;
                    parcels[at].others.push(message.body);
                }
                None => {
                    last.extend(kinship.map(|kinship| (kinship, parcels.len())));
                    parcels.push(Parcel { bytes: message.body.len() + ITEM_BYTES, message, others: Vec::new() });
                }
            }
        }
        Self { messages: parcels.into_iter().map(Parcel::closed).collect(), places }
    }
}

/// What became of each message, by what became of the one that it went in.
pub(super) fn results(places: &[usize], sent: &[Result<(), BrokerError>]) -> Vec<Result<(), BrokerError>> {
    places.iter().map(|at| sent[*at].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(to: Address, body: &'static [u8], reads: WireVersion) -> Message {
        Message { reads, ..Message::new(to, Bytes::from_static(body)) }
    }

    fn all(name: &str) -> Address {
        Address::All(name.parse().expect("a type"))
    }

    #[test]
    fn only_what_is_alike_and_can_be_read_goes_together() {
        use WireVersion::{One, Two};
        let worker = || message(all("worker"), b"a", Two);
        let persistent = Message { persistent: true, ..worker() };
        let short = Message { expires_in: Some(Duration::from_secs(1)), ..worker() };
        let messages = vec![worker(), message(all("worker"), b"b", One), persistent, message(all("backup"), b"c", Two), short, worker()];
        let Parcels { messages, places } = Parcels::of(messages);
        assert_eq!(places, [0, 1, 2, 3, 4, 0]);
        let bodies: Vec<&[u8]> = messages.iter().map(|message| &message.body[..]).collect();
        assert_eq!(bodies, [&b"\x1ea\n\x1ea\n"[..], b"b", b"a", b"c", b"a"]);
        let sent = [Ok(()), Ok(()), Ok(()), Ok(()), Err(BrokerError::Closed)];
        assert_eq!(results(&places, &sent).iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, true, true, false, true]);
        assert_eq!(Parcels::of(vec![worker()]).messages[0].body, "a", "a lone item is no list");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_moved_and_bodies_are_bounded(sizes in proptest::collection::vec(0usize..LIST_BYTES * 2, 0..40), small in 0usize..2200) {
            let sizes = sizes.into_iter().chain(std::iter::repeat_n(1, small));
            let messages: Vec<Message> =
                sizes.map(|size| Message { reads: WireVersion::Two, ..Message::new(Address::Responses, vec![b'x'; size.max(1)].into()) }).collect();
            let Parcels { messages: parcels, places } = Parcels::of(messages.clone());
            let mut items: Vec<_> = parcels.iter().map(|parcel| envelope::items(&parcel.body).into_iter()).collect();
            for (message, place) in messages.iter().zip(&places) {
                prop_assert_eq!(Some(message.body.clone()), items[*place].next());
            }
            prop_assert!(items.iter_mut().all(|items| items.next().is_none()));
            prop_assert!(parcels.iter().all(|parcel| !envelope::is_list(&parcel.body) || parcel.body.len() <= LIST_BYTES));
        }
    }
}
