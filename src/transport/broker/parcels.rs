//! Messages for the same receivers become one: one publish, one confirm and one acknowledgement serve what is
//! published at the same time.
//!
//! Nothing waits for company. What is given to [`publish`](super::Broker::publish) together goes together,
//! within the bounds of [`envelope`], if all receivers read lists.

use std::collections::VecDeque;

use bytes::Bytes;

use super::envelope::{ITEM_BYTES, ITEMS, LIST_BYTES};
use super::{About, BrokerError, Message, envelope};
use crate::domain::WireVersion;

/// Parcels that are looked at for each message: as many receivers as are sent to by turns.
const OPEN: usize = 16;

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
    fn takes(&self, message: &Message) -> bool {
        let akin = |own: &Message| {
            (&own.to, own.persistent, own.expires_in) == (&message.to, message.persistent, message.expires_in)
        };
        let has_room =
            self.others.len() + 1 < ITEMS && self.bytes + message.body.len() + ITEM_BYTES <= LIST_BYTES;
        has_room
            && self.message.reads >= WireVersion::Two
            && message.reads >= WireVersion::Two
            && akin(&self.message)
    }

    fn closed(self) -> Message {
        let Self { message, others, .. } = self;
        if others.is_empty() {
            return message;
        }
        let body = envelope::list(std::iter::once(&message.body).chain(&others));
        Message { body, about: About::Items(others.len() + 1), ..message }
    }
}

impl Parcels {
    pub(super) fn of(messages: Vec<Message>) -> Self {
        let mut parcels: Vec<Parcel> = Vec::new();
        let (mut places, mut open) =
            (Vec::with_capacity(messages.len()), VecDeque::<usize>::with_capacity(OPEN));
        for message in messages {
            let at = open.iter().copied().find(|at| parcels[*at].takes(&message));
            places.push(at.unwrap_or(parcels.len()));
            match at {
                Some(at) => {
                    parcels[at].bytes += message.body.len() + ITEM_BYTES;
                    parcels[at].others.push(message.body);
                }
                None => {
                    open.truncate(OPEN - 1);
                    open.push_front(parcels.len());
                    parcels.push(Parcel {
                        bytes: message.body.len() + ITEM_BYTES,
                        message,
                        others: Vec::new(),
                    });
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
    use std::time::Duration;

    use super::*;
    use crate::broker::Address;
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
        let messages = vec![
            worker(),
            message(all("worker"), b"b", One),
            persistent,
            message(all("backup"), b"c", Two),
            short,
            worker(),
        ];
        let Parcels { messages, places } = Parcels::of(messages);
        assert_eq!(places, [0, 1, 2, 3, 4, 0]);
        let bodies: Vec<&[u8]> = messages.iter().map(|message| &message.body[..]).collect();
        assert_eq!(
            messages.iter().map(|message| &message.about).filter(|about| **about == About::Items(2)).count(),
            1
        );
        assert_eq!(bodies, [&b"\x1ea\n\x1ea\n"[..], b"b", b"a", b"c", b"a"]);
        let sent = [Ok(()), Ok(()), Ok(()), Ok(()), Err(BrokerError::Closed)];
        assert_eq!(
            results(&places, &sent).iter().map(Result::is_ok).collect::<Vec<_>>(),
            [true, true, true, true, false, true]
        );
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
