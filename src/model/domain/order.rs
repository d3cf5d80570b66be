//! Orders: what persons have signed, so that an API process alone cannot have it run.
//!
//! An order travels as the payload of a task, byte for byte, so it takes every way that a payload takes:
//! submissions, schedules, requests, rollouts. It names itself, and an endpoint performs it once, whichever
//! task brings it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{EnvironmentName, Json, KeyId, Recipients, Signature, TaskType, Timestamp, json_check};

/// What persons have signed, beside the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Names it.
    pub id: Uuid,
    /// The installation that it is for.
    pub environment: EnvironmentName,
    /// The type of the tasks that may bring it.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Until when it may be begun.
    #[serde(rename = "until_ms", with = "super::seal::in_millis")]
    pub not_after: Timestamp,
    /// The endpoints that may perform it.
    pub to: Recipients,
    /// Who has signed it.
    pub signatures: Vec<OrderSignature>,
}

/// The signature of one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderSignature {
    /// The key.
    pub by: KeyId,
    /// The signature.
    #[serde(rename = "sig", with = "super::seal::base64_bytes")]
    pub signature: Signature,
}

/// The payload of a task that brings an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ordered {
    /// The order.
    pub order: Order,
    /// What the handler gets.
    pub payload: Json,
}

impl Order {
    /// Signatures of one order at most.
    pub const SIGNATURES: usize = 16;
}

impl Ordered {
    /// Whether a payload has an order, whatever that is worth: one without was never signed.
    pub fn is_in(payload: &Json) -> bool {
        #[derive(Deserialize)]
        struct Peek {
            order: Option<serde::de::IgnoredAny>,
        }
        serde_json::from_str::<Peek>(payload.get()).is_ok_and(|peek| peek.order.is_some())
    }

    /// The order in a payload.
    ///
    /// # Errors
    /// Why there is none, without anything of the payload: it may be a secret that somebody forgot to sign.
    pub fn read(payload: &Json) -> Result<Self, String> {
        let read: Self =
            serde_json::from_str(payload.get()).map_err(|error| json_check::without_values(&error))?;
        match read.order.signatures.len() {
            0..=Order::SIGNATURES => Ok(read),
            more => Err(format!("it has {more} signatures, {} are allowed", Order::SIGNATURES)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json;

    #[test]
    fn an_order_comes_back_and_its_payload_byte_for_byte() {
        let id = Uuid::from_u128(7);
        let order = Order {
            id,
            environment: "prod".parse().expect("a name"),
            task_type: "update".parse().expect("a type"),
            not_after: Timestamp::from_millis(5),
            to: Recipients::of(id, &["web1".parse().expect("a name")]),
            signatures: vec![OrderSignature { by: KeyId::of(b"key"), signature: [7; 64] }],
        };
        let text = "{ \"version\" :1.0}";
        let payload = serde_json::from_str(text).expect("JSON");
        let read = Ordered::read(&json(&Ordered { order: order.clone(), payload })).expect("an order");
        assert_eq!((read.order, read.payload.get()), (order.clone(), text));
        assert!(Ordered::is_in(&json(&serde_json::json!({"order": 1}))));
        assert!(
            !Ordered::is_in(&json(&serde_json::json!({"orders": 1}))) && !Ordered::is_in(&json(&"order"))
        );
        let many = Order { signatures: vec![order.signatures[0].clone(); 17], ..order };
        assert!(Ordered::read(&json(&Ordered { order: many, payload: json(&1) })).is_err());
        let secret = "s3cr3t, expected s3cr3t at line s3cr3t";
        for other in [
            json(&1),
            json(&""),
            json(&serde_json::json!({"payload": 1})),
            json(&secret),
            json(&serde_json::json!({ secret: 1 })),
            json(&serde_json::json!({"payload": 1, "order": secret})),
            json(&serde_json::json!({"payload": 1, "order": {"type": secret}})),
            json(&serde_json::json!({"payload": 1, "order": {"env": secret}})),
            json(&serde_json::json!({"payload": 1, "order": {"id": secret}})),
        ] {
            let why = Ordered::read(&other).expect_err("no order");
            assert!(!why.contains("s3cr3t") && !why.contains("struct"), "{other}: {why}");
        }
    }
}
