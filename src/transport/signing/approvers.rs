//! What an API process knows of the persons who approve tasks by signing orders.
//!
//! It knows them from a trust file, as endpoints do. So a task that too few persons have signed can wait for the
//! others; endpoints would refuse it. Each endpoint still counts the signatures itself.

use std::collections::BTreeSet;
use std::time::Duration;

use super::trust::{Denial, Trust, TypeTrust, judge_end};
use super::verified::Verified;
use crate::domain::{Json, KeyId, Order, OrderSignature, Ordered, SealFault, TaskType, Timestamp, json};

/// The persons of an installation.
#[derive(Debug)]
pub struct Approvers {
    trust: Trust,
    revoked: BTreeSet<KeyId>,
    verified: Verified,
}

/// Bytes that a signature takes in an order: key and signature, with their names.
const SIGNATURE: u64 = 160;

/// How far an order is approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Who has signed it, by the names of the trust file.
    pub signed: Vec<String>,
    /// Who else may.
    pub others: Vec<String>,
    /// How many must have signed.
    pub needed: usize,
    /// Until when tasks with it may begin.
    pub until: Timestamp,
}

impl Approval {
    /// Whether enough have signed.
    pub const fn is_complete(&self) -> bool {
        self.signed.len() >= self.needed
    }
}

impl Approvers {
    /// Those of a trust file, without these keys.
    pub fn new(trust: Trust, revoked: BTreeSet<KeyId>) -> Self {
        Self { trust, revoked, verified: Verified::new() }
    }

    /// Whether persons sign the tasks of this type.
    pub fn approves(&self, task_type: &TaskType) -> bool {
        self.trust.needs_orders(task_type)
    }

    /// How far the order in a payload is approved; none for a type whose tasks need no order.
    ///
    /// # Errors
    /// When the payload has no order that more signatures could make count: it is for something else, has
    /// ended, or nobody who may sign it has.
    pub fn approval(
        &self,
        task_type: &TaskType,
        payload: &Json,
        now: Timestamp,
    ) -> Result<Option<Approval>, Denial> {
        let order = self.trust.order_in(task_type, payload)?;
        order.map(|(ordered, rule)| self.approval_of(task_type, payload, &ordered, rule, now)).transpose()
    }

    fn approval_of(
        &self,
        task_type: &TaskType,
        payload: &Json,
        ordered: &Ordered,
        rule: &TypeTrust,
        now: Timestamp,
    ) -> Result<Approval, Denial> {
        self.trust.judge_place(&ordered.order, task_type)?;
        judge_end(&ordered.order, now, Duration::ZERO)?;
        let (signed, others): (Vec<_>, Vec<_>) =
            rule.signers.iter().cloned().partition(|name| self.has_signed(name, ordered));
        if signed.is_empty() {
            let reason =
                format!("none of the persons who may sign tasks of `{task_type}` has signed the order");
            return Err(Denial::new(SealFault::Unapproved, reason));
        }
        let needed = rule.threshold.unwrap_or(1);
        let lacking = needed.saturating_sub(signed.len()) as u64;
        let bytes = payload.get().len() as u64 + lacking * SIGNATURE;
        if let Some(most) = rule.max_payload.filter(|most| bytes > *most) {
            let reason = format!(
                "the payload has {bytes} bytes with all its signatures, the trust file allows {most} for `{task_type}`"
            );
            return Err(Denial::new(SealFault::TooLarge, reason));
        }
        Ok(Approval { signed, others, needed, until: ordered.order.not_after })
    }

    fn has_signed(&self, name: &str, ordered: &Ordered) -> bool {
        self.trust.has_signed(name, ordered, &self.revoked, &self.verified)
    }

    /// The payload with one more signature, or as it is if that person has signed it before; and how far it
    /// is approved then.
    ///
    /// # Errors
    /// When the signature is not that of a person who may sign it.
    pub fn add(
        &self,
        task_type: &TaskType,
        payload: &Json,
        signature: OrderSignature,
        now: Timestamp,
    ) -> Result<(Json, Approval), Denial> {
        let Some((ordered, rule)) = self.trust.order_in(task_type, payload)? else {
            return Err(Denial::new(SealFault::Unapproved, format!("tasks of `{task_type}` need no order")));
        };
        let before = self.approval_of(task_type, payload, &ordered, rule, now)?;
        let who = |one: &OrderSignature| {
            let order = Order { signatures: vec![one.clone()], ..ordered.order.clone() };
            let alone = Ordered { order, payload: ordered.payload.clone() };
            rule.signers.iter().find(|name| self.has_signed(name, &alone))
        };
        let Some(name) = who(&signature) else {
            let reason = format!(
                "the signature of the key {} is not a valid one of {}, who may sign tasks of `{task_type}`",
                signature.by,
                rule.signers.join(", ")
            );
            return Err(Denial::new(SealFault::Unapproved, reason));
        };
        if before.signed.contains(name) {
            return Ok((payload.clone(), before));
        }
        // What counts for nobody makes room, and so does what counts twice.
        let mut counted = BTreeSet::from([name]);
        let mut signatures = ordered.order.signatures.clone();
        signatures.retain(|one| who(one).is_some_and(|name| counted.insert(name)));
        signatures.push(signature);
        let order = Order { signatures, ..ordered.order.clone() };
        let signed = Ordered { order, payload: ordered.payload.clone() };
        let payload = json(&signed);
        let approval = self.approval_of(task_type, &payload, &signed, rule, now)?;
        Ok((payload, approval))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::Recipients;
    use crate::signing::{SigningKey, sign_order};

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(secs * 1_000_000)
    }

    #[test]
    fn each_person_counts_once() {
        let keys =
            ["alice", "bob", "carol", "mallory"].map(|name| (name, SigningKey::create().expect("a key").0));
        let key = |name: &str| &keys.iter().find(|(of, _)| *of == name).expect("a key").1;
        let update: TaskType = "update".parse().expect("a type");
        let mut trust = Trust::of("prod".parse().expect("a name"));
        for (name, key) in &keys {
            trust.keys.insert((*name).to_owned(), *key.public());
        }
        let signers = ["alice", "bob", "carol"].map(str::to_owned).to_vec();
        trust.types.insert(update.clone(), TypeTrust { signers, threshold: Some(2), max_payload: None });
        let revoked = BTreeSet::from([key("carol").public().id()]);
        let approvers = Approvers::new(trust, revoked);
        assert!(approvers.approves(&update) && !approvers.approves(&"backup".parse().expect("a type")));

        let payload = json(&serde_json::json!({"n": 1}));
        let order = Order {
            id: Uuid::from_u128(7),
            environment: "prod".parse().expect("a name"),
            task_type: update.clone(),
            not_after: at(2000),
            to: Recipients::All,
            signatures: vec![],
        };
        let sign = |name: &str| sign_order(key(name), &order, &payload);
        let with = |signatures: Vec<OrderSignature>| {
            json(&Ordered { order: Order { signatures, ..order.clone() }, payload: payload.clone() })
        };
        let approval = |payload: &Json| approvers.approval(&update, payload, at(1000));
        let fault = |result: Result<Option<Approval>, Denial>| result.err().map(|denial| denial.fault);
        for nobody in [with(vec![]), with(vec![sign("mallory")]), with(vec![sign("carol")]), payload.clone()]
        {
            assert_eq!(fault(approval(&nobody)), Some(SealFault::Unapproved), "{nobody}");
        }
        let bad_of_alice = OrderSignature { by: key("alice").public().id(), ..sign("bob") };
        let first = with(vec![sign("mallory"), bad_of_alice, sign("alice"), sign("alice")]);
        assert_eq!(fault(approvers.approval(&update, &first, at(2001))), Some(SealFault::Expired));
        assert_eq!(approvers.approval(&"backup".parse().expect("a type"), &first, at(1)), Ok(None));
        let known = approval(&first).expect("an order").expect("of a type with persons");
        assert!(known.signed == ["alice"] && known.others == ["bob", "carol"] && !known.is_complete());

        let add = |payload: &Json, one| approvers.add(&update, payload, one, at(1000));
        for useless in ["mallory", "carol"] {
            assert!(add(&first, sign(useless)).is_err(), "{useless}");
        }
        let bobs_of_another = OrderSignature { by: key("bob").public().id(), ..sign("alice") };
        assert!(add(&first, bobs_of_another).is_err());
        let (same, still) = add(&first, sign("alice")).expect("a person who may");
        assert!(same.get() == first.get() && !still.is_complete());
        let (both, done) = add(&first, sign("bob")).expect("a person who may");
        assert!(done.signed == ["alice", "bob"] && done.is_complete() && done.until == at(2000));
        let read = Ordered::read(&both).expect("an order");
        assert_eq!(read.order.signatures, [sign("alice"), sign("bob")]);
        assert_eq!(read.payload.get(), payload.get());
        assert_eq!(approval(&both).expect("an order"), Some(done));
    }
}
