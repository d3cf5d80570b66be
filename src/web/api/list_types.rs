//! `GET /types`: what can be submitted.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::{Answer, Api, access, answer};
use crate::config::{Body, TypePolicy};
use crate::contract::{TaskType, TaskTypeList, TypeBody, TypeDelivery};

/// Lists the configured task types that the token covers, with what their payloads must satisfy.
#[utoipa::path(
    get, path = "/types", operation_id = "listTypes", tag = "tasks",
    responses((status = 200, description = "The task types", body = TaskTypeList))
)]
pub async fn list_types(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let covered =
        api.state.config.task_types.iter().filter(|policy| access::covers(&request, policy.name.as_str()));
    let types = covered.map(|policy| described(&api, policy)).collect();
    answer(StatusCode::OK, &TaskTypeList { types, confirm_above: api.state.config.api.confirm_above }, 1024)
}

fn described(api: &Api, policy: &TypePolicy) -> TaskType {
    TaskType {
        name: policy.name.clone(),
        delivery: if policy.queue.is_some() { TypeDelivery::Queue } else { TypeDelivery::Fanout },
        body: match policy.body {
            Body::Envelope => TypeBody::Envelope,
            Body::Payload => TypeBody::Payload,
        },
        schema: api.state.admission.schema(policy),
        example: api.state.admission.sample(policy),
    }
}
