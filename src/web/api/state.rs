//! What the interface works with, and what its handlers see of it.

use std::future::Future;
use std::sync::Arc;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpMessage, HttpRequest, web};
use futures::TryStreamExt;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::auditor::Audit;
use super::backstage::Backstage;
use super::body::{self, Limit};
use super::guard::Hosts;
use super::guesses::Guesses;
use super::heard::Heard;
use super::limits::Limits;
use super::outgoing::{self, Room, Share};
use super::probe::Probe;
use super::problem::Problem;
use super::quotas::Quotas;
use super::refusals::Refusals;
use super::route::Routes;
use super::waits::Waits;
use super::whose;
use crate::acceptor::Acceptor;
use crate::admission::Admission;
use crate::broker::SharedBroker;
use crate::clock::Clock;
use crate::config::{Config, Schedule, TypePolicy};
use crate::domain::{RequestToken, TaskType, Timestamp, json_check};
use crate::keyring::Keyring;
use crate::ledger::Ledger;
use crate::live::Live;
use crate::publisher::Publisher;
use crate::queue::Desk;
use crate::request_body::Body;
use crate::requests::Calls;
use crate::sealing::Sealer;
use crate::signing::Approvers;
use crate::store::SharedStore;
use crate::store::farm::Farm;
use crate::telemetry::Metrics;
use crate::watch::Watch;

/// What the interface works with.
#[derive(Clone)]
pub struct ApiState {
    /// What is configured.
    pub config: Arc<Config>,
    /// What the ledger holds.
    pub store: SharedStore,
    /// Moves tasks.
    pub ledger: Ledger,
    /// For cancels, and to say whether it is there.
    pub broker: SharedBroker,
    /// Seals what workers get over HTTP.
    pub sealer: Sealer,
    /// Tells endpoints to stop what was canceled.
    pub publisher: Arc<Publisher>,
    /// Where submissions go.
    pub acceptor: Acceptor,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who waits for which task.
    pub watch: Watch,
    /// Who waits for which request.
    pub requests: Watch<RequestToken>,
    /// Who waits for which rollout.
    pub rollouts: Watch<uuid::Uuid>,
    /// How jobs are performed.
    pub calls: Arc<Calls>,
    /// The ledger's time.
    pub clock: Clock,
    /// Where workers wait for tasks.
    pub desk: Desk,
    /// The render farm.
    pub farm: Farm,
    /// What submissions must satisfy.
    pub admission: Arc<Admission>,
    /// The persons who approve tasks; none where only endpoints know them.
    pub approvers: Option<Arc<Approvers>>,
    /// How long and how much.
    pub limits: Limits,
}

/// What handlers see.
pub struct Api {
    /// What it was started with.
    pub state: ApiState,
    /// Where store and broker are called.
    pub backstage: Backstage,
    /// Ends when the process is to stop.
    pub stop: CancellationToken,
    /// Bytes that are left for bodies.
    pub bodies: Arc<Semaphore>,
    /// Room for long answers.
    pub answers: Room,
    /// Who waits.
    pub waits: Waits,
    /// What goes on, for those who watch.
    pub live: Live,
    /// Whose tokens are good.
    pub keyring: Arc<Keyring>,
    /// The names of this process.
    pub hosts: Hosts,
    /// Endpoints that have been heard of.
    pub heard: Heard,
    /// How the database was last.
    pub probe: Probe,
    /// Writes down what was done.
    pub audit: Arc<Audit>,
    /// What tokens have used.
    pub quotas: Quotas,
    /// Wrong tokens that were shown.
    pub wrong_tokens: Guesses,
    /// Wrong tickets of invitations that were shown.
    pub wrong_tickets: Guesses,
    /// What was refused.
    pub refusals: Refusals,
    /// `Strict-Transport-Security`, where there is TLS.
    pub hsts: Option<HeaderValue>,
    /// Every path.
    pub routes: Routes,
}

impl Api {
    /// Whether it is served over TLS.
    pub fn is_tls(&self) -> bool {
        self.state.config.api.tls.is_some()
    }

    /// The ledger's time.
    pub fn now(&self) -> Result<Timestamp, Problem> {
        match self.state.clock.is_set() {
            true => Ok(self.state.clock.now()),
            false => Err(Problem::database_unavailable("the database has not been asked for the time yet")),
        }
    }

    /// Does work with store or broker to its end, whether or not the client stays to hear of it.
    pub async fn run<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        self.backstage.run(work).await
    }

    /// Waits for room for an answer of about so many bytes, which that answer then has.
    pub async fn room(&self, request: &HttpRequest, bytes: usize) -> Result<(), Problem> {
        if bytes <= outgoing::PIECE {
            return Ok(());
        }
        let share = self.answers.reserve(bytes).await?;
        request.extensions_mut().insert::<Share>(share);
        Ok(())
    }

    /// Gives back the room that a request has reserved, where it waits before there is an answer.
    pub fn leave_room(request: &HttpRequest) {
        request.extensions_mut().remove::<Share>();
    }

    /// The body of a request.
    pub async fn body(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        limit: Limit,
    ) -> Result<Body, Problem> {
        let headers = request.headers();
        // One that says how long it is was counted before. Of another counts what arrives, as it arrives: the
        // client may hang up, which ends this.
        let token = whose::token_of(request).filter(|_| !headers.contains_key(header::CONTENT_LENGTH));
        let payload = payload.inspect_ok(|chunk| {
            if let Some(token) = &token {
                self.quotas.owe(token, chunk.len());
            }
        });
        body::read(headers, payload, limit, self.state.limits.body_timeout, &self.bodies).await
    }

    /// A body of JSON that has this form and no more bytes than these. `invalid` makes the problem of what is
    /// wrong with it.
    pub async fn read<T: DeserializeOwned>(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        bytes: usize,
        invalid: impl FnOnce(String) -> Problem,
    ) -> Result<T, Problem> {
        let body = self.body(request, payload, Limit { bytes, setting: None }).await?;
        serde_json::from_str(body::json(&body)?).map_err(|error| invalid(json_check::in_words(&error)))
    }

    /// The configured schedule of a name.
    pub fn schedule(&self, name: &str) -> Option<&Schedule> {
        self.state.config.schedules.iter().find(|schedule| schedule.name == name)
    }

    /// The configured type of a name.
    pub fn policy(&self, name: &str) -> Option<&TypePolicy> {
        let task_type: TaskType = name.parse().ok()?;
        self.state.config.policy(&task_type)
    }
}
