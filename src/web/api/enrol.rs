//! `POST /endpoints/{name}/enrolment`: gives a server the broker user of its endpoint, sealed for the holder
//! of the invitation.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpMessage, HttpRequest, web};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::deeds::Particulars;
use super::problem::Problem;
use super::{Answer, Api, answer, deeds, segment};
use crate::contract::{self, EnrolmentTicket, ProblemCode, ProblemItem, SealedIdentity};
use crate::domain::likeness::quoted;
use crate::domain::{EndpointName, SecretHash};
use crate::store::Redeemed;

/// Bytes that the body, a ticket, may have.
const LONGEST_BODY: usize = 4 << 10;
/// Characters that a ticket may have, as in the schema of [`EnrolmentTicket`].
const LONGEST_TICKET: usize = 1024;

/// Gives an invited endpoint its identity, once.
///
/// Needs no token: a server with an invitation has no token yet. The answer is sealed with a key that is
/// derived from the invitation, so neither this API nor anybody on the network can read it.
#[utoipa::path(
    post, path = "/endpoints/{name}/enrolment", operation_id = "enrolEndpoint", tag = "endpoints",
    params(("name" = String, Path, description = "The endpoint")),
    request_body(content = EnrolmentTicket, content_type = "application/json"),
    responses(
        (status = 200, description = "The identity; the ticket is used", body = SealedIdentity),
        (status = 403, description = "`other_endpoint`, `cross_site`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 410, description = "`invitation_over`: the ticket was used, has expired or never existed", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_message`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_wrong_tokens`: too many wrong invitations came from this address", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn enrol(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    // Nobody can tell a right ticket from a wrong one without the database, so an address that has shown too
    // many wrong ones is refused all. The next minute is another chance.
    let peer = deeds::source(&request);
    api.wrong_tickets.may_guess(peer)?;
    // The text of the error is left out: it may repeat the ticket.
    let invalid = |pointer: &str, message: &str| {
        Problem::invalid(ProblemCode::InvalidMessage, vec![ProblemItem::new(pointer, message)])
    };
    let form = |_| invalid("", "expected {\"ticket\": \"TICKET\"}");
    let EnrolmentTicket { ticket } = api.read(&request, payload, LONGEST_BODY, form).await?;
    if !(1..=LONGEST_TICKET).contains(&ticket.chars().count()) {
        return Err(invalid("/ticket", "must have 1 to 1024 characters"));
    }
    let text = segment(&request, 1)?;
    let name: EndpointName = text.parse().map_err(|error| {
        Problem::new(ProblemCode::BadPath, format!("{} is not an endpoint: {error}", quoted(&text)))
    })?;
    let (store, endpoint, now) = (Arc::clone(&api.state.store), name.clone(), api.now()?);
    let hash = SecretHash::of(ticket.as_bytes());
    match api.run(async move { store.redeem(&endpoint, hash, now).await }).await? {
        Redeemed::Sealed(sealed) => {
            tracing::info!(endpoint = %name, "an endpoint has fetched its broker user");
            let actor = Some(format!("endpoint {name}"));
            request.extensions_mut().insert(Particulars { actor, ..Particulars::default() });
            answer(StatusCode::OK, &SealedIdentity { sealed: BASE64_STANDARD.encode(sealed) }, 1024)
        }
        Redeemed::OfAnother => {
            api.wrong_tickets.was_wrong(peer);
            let detail = format!("the invitation is not for {name}: enroll the endpoint that was invited");
            Err(Problem::new(ProblemCode::OtherEndpoint, detail))
        }
        Redeemed::Gone => {
            api.wrong_tickets.was_wrong(peer);
            Err(Problem::new(
                ProblemCode::InvitationOver,
                "there is no such invitation: it was used, or its time is over; `tasker endpoint invite` makes another",
            ))
        }
    }
}
