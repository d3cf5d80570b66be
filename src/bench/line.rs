//! A connection on which a customer makes one submission after the other.
//!
//! The customer's side runs on the processors that are measured. A client that keeps a pool, follows
//! redirects and reads addresses anew for each request takes a tenth of them; this one does what a server
//! sees of any client, and no more.

use std::future::poll_fn;
use std::pin::Pin;

use anyhow::Context;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The connection; it is closed when this is dropped.
pub(super) struct Line {
    sender: SendRequest<String>,
    address: String,
    path: String,
}

impl Line {
    /// Connects to an API at this base URL, to post to this path.
    pub async fn open(url: &str, path: &str) -> anyhow::Result<Self> {
        let address =
            url.strip_prefix("http://").context("the API of the bench speaks plain HTTP")?.to_owned();
        let stream = TcpStream::connect(&address).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Self { sender, address, path: path.to_owned() })
    }

    /// Posts a submission; answers what the API said.
    pub async fn post(&mut self, submission: String) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let request = Request::post(&self.path)
            .header(HOST, &self.address)
            .header(CONTENT_TYPE, "application/json")
            .body(submission)?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        Ok((answer.status(), whole(answer.into_body()).await?))
    }
}

async fn whole(mut body: Incoming) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        bytes.extend(frame?.data_ref().into_iter().flatten());
    }
    Ok(bytes)
}
