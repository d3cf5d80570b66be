//! Rollouts: changing a fleet in waves.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Serialize;

use super::{ANSWER, Client, ClientError, LONGEST_WAIT, given, millis};
use crate::contract::{
    AbortRollout, FreedHold, PickTargets, RerunRollout, ResumeRollout, Rollout, RolloutCommand,
    RolloutEvents, RolloutHoldPage, RolloutPage, RolloutPlan, RolloutTargetPage,
};
use crate::domain::rollout::{RolloutStatus, TargetState};
use crate::domain::{EndpointName, Json, RolloutName};

/// Reading a large fleet and writing its waves takes a while.
const LONG: Duration = Duration::from_secs(60);

/// What may be asked of a rollout.
#[derive(Debug, Clone)]
pub enum RolloutAction {
    /// To begin.
    Start(RolloutCommand),
    /// To start nothing new.
    Pause(RolloutCommand),
    /// To go on.
    Resume(ResumeRollout),
    /// To be given up.
    Abort(AbortRollout),
    /// To let the next wave begin.
    Approve(RolloutCommand),
    /// Not to let it begin.
    Refuse(RolloutCommand),
    /// To leave endpoints out, or to pass over a gate.
    Skip(PickTargets),
    /// To try endpoints again.
    Retry(PickTargets),
    /// To be made anew for some of its endpoints.
    Rerun(RerunRollout),
}

/// Which endpoints of a rollout to list.
#[derive(Debug, Clone, Default)]
pub struct RolloutTargets {
    /// Only these states; empty means all.
    pub states: Vec<TargetState>,
    /// Only the wave of this number.
    pub wave: Option<u32>,
    /// At most this many.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

impl Client {
    /// What a document would do; nothing is recorded.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn plan_rollout(&self, document: &Json) -> Result<RolloutPlan, ClientError> {
        let request = self.post(&["rollouts", "plan"])?.body(document.get().to_owned());
        Ok(self.answer(request, LONG).await?.1)
    }

    /// Submits a document. Answers the rollout, and whether it was there already.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn submit_rollout(&self, document: &Json) -> Result<(Rollout, bool), ClientError> {
        let request = self.post(&["rollouts"])?.body(document.get().to_owned());
        let (status, rollout) = self.answer(request, LONG).await?;
        Ok((rollout, status == StatusCode::OK))
    }

    /// A page of rollouts, newest first.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn rollouts(
        &self,
        status: &[RolloutStatus],
        limit: Option<u32>,
        cursor: Option<String>,
    ) -> Result<RolloutPage, ClientError> {
        let words: Vec<_> = status.iter().map(|status| status.as_str()).collect();
        let parameters = [
            ("status", (!words.is_empty()).then(|| words.join(","))),
            ("limit", limit.map(|limit| limit.to_string())),
            ("cursor", cursor),
        ];
        let request = self.request(Method::GET, &["rollouts"])?.query(&given(parameters));
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// A rollout. With `wait` the API answers when it ends or, if `settled`, when it does not go on by
    /// itself; at the latest after that time or a minute.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn rollout(
        &self,
        name: &RolloutName,
        wait: Option<Duration>,
        settled: bool,
    ) -> Result<Rollout, ClientError> {
        let mut request = self.request(Method::GET, &["rollouts", name.as_str()])?;
        if let Some(wait) = wait {
            let wait = millis(wait.min(LONGEST_WAIT));
            request =
                request.query(&[("wait", wait.as_str()), ("until", if settled { "settled" } else { "end" })]);
        }
        Ok(self.answer(request, ANSWER + LONGEST_WAIT).await?.1)
    }

    /// A page of the endpoints of a rollout.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn rollout_targets(
        &self,
        name: &RolloutName,
        query: &RolloutTargets,
    ) -> Result<RolloutTargetPage, ClientError> {
        let words: Vec<_> = query.states.iter().map(|state| state.as_str()).collect();
        let parameters = [
            ("state", (!words.is_empty()).then(|| words.join(","))),
            ("wave", query.wave.map(|wave| wave.to_string())),
            ("limit", query.limit.map(|limit| limit.to_string())),
            ("cursor", query.cursor.clone()),
        ];
        let request =
            self.request(Method::GET, &["rollouts", name.as_str(), "targets"])?.query(&given(parameters));
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// Events of a rollout after a number. With `wait` the API answers when there is one.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn rollout_events(
        &self,
        name: &RolloutName,
        after: u32,
        wait: Option<Duration>,
    ) -> Result<RolloutEvents, ClientError> {
        let wait = wait.map(|wait| millis(wait.min(LONGEST_WAIT)));
        let parameters =
            [("after", Some(after.to_string())), ("limit", Some("1000".to_owned())), ("wait", wait)];
        let request =
            self.request(Method::GET, &["rollouts", name.as_str(), "events"])?.query(&given(parameters));
        Ok(self.answer(request, ANSWER + LONGEST_WAIT).await?.1)
    }

    /// The endpoints that rollouts have in flight.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn rollout_holds(&self, limit: u32) -> Result<RolloutHoldPage, ClientError> {
        let request = self.request(Method::GET, &["rollouts", "holds"])?.query(&[("limit", limit)]);
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// Frees an endpoint that a rollout has in flight.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn free_rollout_hold(
        &self,
        lane: &str,
        endpoint: &EndpointName,
    ) -> Result<FreedHold, ClientError> {
        let request = self.request(Method::DELETE, &["rollouts", "holds", lane, endpoint.as_str()])?;
        Ok(self.answer(request, ANSWER).await?.1)
    }

    /// Asks something of a rollout; answers it as it stands then.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn ask_rollout(
        &self,
        name: &RolloutName,
        action: &RolloutAction,
    ) -> Result<Rollout, ClientError> {
        match action {
            RolloutAction::Start(body) => self.tell_rollout(name, "start", body).await,
            RolloutAction::Pause(body) => self.tell_rollout(name, "pause", body).await,
            RolloutAction::Resume(body) => self.tell_rollout(name, "resume", body).await,
            RolloutAction::Abort(body) => self.tell_rollout(name, "abort", body).await,
            RolloutAction::Approve(body) => self.tell_rollout(name, "approve", body).await,
            RolloutAction::Refuse(body) => self.tell_rollout(name, "refuse", body).await,
            RolloutAction::Skip(body) => self.tell_rollout(name, "skip", body).await,
            RolloutAction::Retry(body) => self.tell_rollout(name, "retry", body).await,
            RolloutAction::Rerun(body) => self.tell_rollout(name, "rerun", body).await,
        }
    }

    /// Changes members of the document of a rollout; `changes` has them and its revision.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn edit_rollout(
        &self,
        name: &RolloutName,
        changes: &BTreeMap<String, Json>,
    ) -> Result<Rollout, ClientError> {
        let request = self.request(Method::PATCH, &["rollouts", name.as_str()])?.json(changes);
        Ok(self.answer(request, LONG).await?.1)
    }

    async fn tell_rollout(
        &self,
        name: &RolloutName,
        what: &str,
        body: &impl Serialize,
    ) -> Result<Rollout, ClientError> {
        let request = self.post(&["rollouts", name.as_str(), what])?.json(body);
        Ok(self.answer(request, LONG).await?.1)
    }
}
