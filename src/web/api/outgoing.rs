//! Answers on their way out: in pieces, and within the memory that all of them together may hold.
//!
//! An answer lies in memory until its client has taken it. One that takes nothing is hung up on by the system
//! after [`super::Limits::write_timeout`]; until then its answer counts here, and where there is no room,
//! others are told to come again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use crate::contract::ProblemCode;

/// Bytes handed to the server at once. It copies them, so a long answer given in one piece would be held
/// twice. Shorter answers are not counted: the number of connections bounds them.
pub const PIECE: usize = 32 << 10;

/// What an answer of unknown length holds at most: a page, and the same as JSON.
const STREAM: usize = 8 << 20;

/// Marks an answer that has no end and sees to its own memory: no room is kept for it, and its length is no
/// time to answer.
#[derive(Debug, Clone, Copy)]
pub struct Endless;

/// The room for all answers together.
#[derive(Debug, Clone)]
pub struct Room {
    free: Arc<Semaphore>,
    total: usize,
    timeout: Duration,
}

/// A part of it.
#[derive(Debug)]
pub struct Share(OwnedSemaphorePermit);

impl Room {
    /// For so many bytes, which an answer waits for no longer than this.
    pub fn new(bytes: usize, timeout: Duration) -> Self {
        let total = bytes.clamp(PIECE, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(total)), total, timeout }
    }

    /// Waits for room for an answer of about so many bytes, before they are read.
    ///
    /// # Errors
    /// [`ProblemCode::Overloaded`] when there is no room in time.
    pub async fn reserve(&self, bytes: usize) -> Result<Share, Problem> {
        let free = self.free.clone().acquire_many_owned(self.permits(bytes));
        tokio::time::timeout(self.timeout, free)
            .await
            .ok()
            .and_then(Result::ok)
            .map(Share)
            .ok_or_else(no_room)
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.total)).unwrap_or(u32::MAX)
    }

    /// The answer in pieces, with room for what it really holds. One with nothing reserved waits for its turn
    /// behind those that reserve; one that needs more than it has reserved does not wait, since two of them
    /// could wait for each other.
    ///
    /// # Errors
    /// When there is no room.
    pub async fn hold(&self, answer: HttpResponse, reserved: Option<Share>) -> Result<HttpResponse, Problem> {
        let (length, size) = match answer.body().size() {
            BodySize::None | BodySize::Sized(0) => return Ok(answer),
            BodySize::Sized(length) => {
                (usize::try_from(length).unwrap_or(usize::MAX), BodySize::Sized(length))
            }
            BodySize::Stream => (STREAM, BodySize::Stream),
        };
        if length <= PIECE {
            return Ok(answer);
        }
        let wanted = self.permits(length) as usize;
        let Share(mut share) = match reserved {
            Some(share) => share,
            None => self.reserve(wanted).await?,
        };
        let held = share.num_permits();
        if held > wanted {
            drop(share.split(held - wanted));
        } else if held < wanted {
            share.merge(
                self.free
                    .clone()
                    .try_acquire_many_owned(self.permits(wanted - held))
                    .map_err(|_| no_room())?,
            );
        }
        Ok(answer.map_body(|_, body| Pieces { rest: Bytes::new(), body, size, _share: share }.boxed()))
    }
}

/// What a client is told that has to wait for others to take their answers.
fn no_room() -> Problem {
    Problem::new(ProblemCode::Overloaded, "too many long answers are under way; ask again").retry_after(5)
}

/// A body that gives out a piece at a time.
struct Pieces {
    rest: Bytes,
    body: BoxBody,
    size: BodySize,
    _share: OwnedSemaphorePermit,
}

impl MessageBody for Pieces {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_next(context)) {
                Some(Ok(bytes)) => self.rest = bytes,
                end => return Poll::Ready(end),
            }
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(self.rest.split_to(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    fn answer(bytes: usize) -> HttpResponse {
        HttpResponse::Ok().body(vec![b'x'; bytes])
    }

    #[tokio::test]
    async fn an_answer_holds_its_room_until_it_is_gone() {
        let room = Room::new(10 * PIECE, Duration::ZERO);
        let reserved = room.reserve(4 * PIECE).await.expect("room");
        let one = room.hold(answer(2 * PIECE), Some(reserved)).await.expect("room");
        assert_eq!(room.free.available_permits(), 8 * PIECE, "what was reserved for nothing is given back");
        let two = room.hold(answer(8 * PIECE), None).await.expect("room");
        assert!(room.hold(answer(PIECE + 1), None).await.is_err());
        assert!(room.hold(answer(PIECE), None).await.is_ok(), "short answers are not counted");
        let mut body = Box::pin(two.into_body());
        let mut pieces = 0;
        while let Some(piece) = poll_fn(|context| body.as_mut().poll_next(context)).await {
            assert!(piece.expect("a piece").len() <= PIECE);
            pieces += 1;
        }
        assert_eq!((pieces, room.free.available_permits()), (8, 0));
        drop((body, one));
        assert_eq!(room.free.available_permits(), 10 * PIECE);
        // One that is longer than all the room can have it all.
        assert!(room.hold(answer(11 * PIECE), None).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_a_reservation_waits_behind_those_with_one() {
        let room = Room::new(10 * PIECE, Duration::from_secs(5));
        let first = room.reserve(10 * PIECE).await.expect("room");
        let second = tokio::spawn({
            let room = room.clone();
            async move { room.reserve(10 * PIECE).await.expect("room") }
        });
        tokio::task::yield_now().await;
        let mut answer = std::pin::pin!(room.hold(answer(2 * PIECE), None));
        assert!(futures::poll!(&mut answer).is_pending());
        drop(first);
        drop(second.await.expect("no panic"));
        assert!(answer.await.is_ok());
        let _all = room.reserve(10 * PIECE).await.expect("room");
        assert!(room.reserve(PIECE).await.is_err(), "nobody waits for ever");
    }
}
