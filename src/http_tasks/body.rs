//! Reading the body of a response: bounded, and inflated on the way.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::write::GzDecoder;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::room::Place;

/// What is read of a body that nobody wants, to keep its connection.
const DRAIN_BYTES: usize = 64 << 10;
const DRAIN_TIME: Duration = Duration::from_millis(100);
/// From this size on a body keeps the buffer it was read into; smaller ones would keep a much larger buffer
/// alive.
const WORTH_KEEPING: usize = 4096;

/// A body, or its beginning.
pub(super) struct Content {
    pub(super) bytes: Bytes,
    /// Whether there was more; then the connection is of no use any more.
    pub(super) cut: bool,
}

/// Why there is no body.
pub(super) enum Unread {
    Broken(hyper::Error),
    NotGzip(io::Error),
}

/// Reads at most `limit` bytes, and no more than there is place for.
pub(super) async fn read(
    mut body: Incoming,
    limit: usize,
    gzip: bool,
    mut place: Place,
) -> Result<Content, Unread> {
    if gzip {
        return inflate(body, limit, place).await;
    }
    let mut whole = BytesMut::new();
    let mut only = Bytes::new();
    while let Some(data) = frame(&mut body).await? {
        let most = data.len().min(limit - whole.len() - only.len());
        let room = place.grow(most);
        let cut = data.len() > room;
        let data = data.slice(..room);
        if only.is_empty() && whole.is_empty() && data.len() >= WORTH_KEEPING {
            only = data;
        } else {
            if !only.is_empty() {
                whole.extend_from_slice(&std::mem::take(&mut only));
            }
            whole.extend_from_slice(&data);
        }
        if cut {
            return Ok(Content { bytes: place.hold(joined(whole, only)), cut });
        }
    }
    Ok(Content { bytes: place.hold(joined(whole, only)), cut: false })
}

fn joined(whole: BytesMut, only: Bytes) -> Bytes {
    if only.is_empty() { whole.freeze() } else { only }
}

async fn frame(body: &mut Incoming) -> Result<Option<Bytes>, Unread> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
            None => return Ok(None),
            Some(Err(error)) => return Err(Unread::Broken(error)),
            // Trailers are not kept.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn inflate(mut body: Incoming, limit: usize, place: Place) -> Result<Content, Unread> {
    let mut decoder = GzDecoder::new(Bounded { bytes: Vec::new(), limit, place, over: false });
    let mut any = false;
    while let Some(data) = frame(&mut body).await? {
        any = true;
        if let Err(error) = decoder.write_all(&data) {
            return if decoder.get_ref().over { Ok(taken(decoder)) } else { Err(Unread::NotGzip(error)) };
        }
    }
    if any && let Err(error) = decoder.try_finish() {
        return if decoder.get_ref().over { Ok(taken(decoder)) } else { Err(Unread::NotGzip(error)) };
    }
    Ok(taken(decoder))
}

fn taken(mut decoder: GzDecoder<Bounded>) -> Content {
    let nothing = Bounded { bytes: Vec::new(), limit: 0, place: Place::in_room(None), over: true };
    let Bounded { bytes, over, place, .. } = std::mem::replace(decoder.get_mut(), nothing);
    Content { bytes: place.hold(bytes.into()), cut: over }
}

/// Takes so many bytes and then no more, however small they were before they were inflated.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    place: Place,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.place.grow(bytes.len().min(self.limit - self.bytes.len()));
        self.bytes.extend_from_slice(&bytes[..room]);
        if bytes.len() > room {
            self.over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a body that nobody wants. Whether that came to its end, so that the connection can be kept.
pub(super) async fn drain(mut body: Incoming) -> bool {
    let all = async {
        let mut read = 0;
        while let Ok(data) = frame(&mut body).await {
            let Some(data) = data else { return true };
            read += data.len();
            if read > DRAIN_BYTES {
                return false;
            }
        }
        false
    };
    timeout(DRAIN_TIME, all).await.unwrap_or(false)
}
