//! Requests: steps that run one after the other, each of jobs that run at the same time.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::digest::value_at;
use super::{Json, RequestToken, TaskId, Timestamp, TokenName, json_check};

/// Steps of a request at most.
pub const MAX_STEPS: usize = 100;
/// Jobs of a step at most.
pub const MAX_STEP_JOBS: usize = 1_000;
/// Jobs of a request at most.
pub const MAX_JOBS: usize = 10_000;
/// Bytes of the params of a request at most.
pub const MAX_PARAMS: usize = 256 << 10;
/// Strings in the extras of a request at most.
pub const MAX_EXTRAS: usize = 1_000;
/// Bytes of the extras of a request at most, keys and strings together.
pub const MAX_EXTRAS_BYTES: usize = 64 << 10;
/// Characters in the names of actions, steps and jobs at most: what the columns of the original hold.
pub const MAX_NAME: usize = 191;

states! {
    /// Where a request stands.
    RequestStatus 5 {
        /// Recorded; its first step has not begun.
        Queuing = 0, "Queuing";
        /// The jobs of a step run.
        Inprogress = 1, "Inprogress";
        /// All its steps are done.
        Completed = 2, "Completed";
        /// A job has failed, or the request cannot be carried out. Its error says why.
        Failed = 3, "Failed";
        /// Somebody has canceled it.
        Canceled = 4, "Canceled";
    }
}

states! {
    /// Where an attempt of a job stands.
    #[serde(rename_all = "lowercase")]
    JobStatus 6 {
        /// Recorded; it has no task yet.
        New = 0, "new";
        /// A task performs it.
        Inprogress = 1, "inprogress";
        /// Done.
        Completed = 2, "completed";
        /// It has failed for good.
        Failed = 3, "failed";
        /// It is to be tried again: by the next row of the same name.
        Retry = 4, "retry";
        /// Withdrawn: another job of its step has failed, or the request was canceled.
        Canceled = 5, "canceled";
    }
}

impl RequestStatus {
    /// Whether it has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }
}

impl JobStatus {
    /// Whether the attempt has ended.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::New | Self::Inprogress)
    }
}

/// In which case a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// No job before it has failed.
    #[default]
    AllOk,
    /// In any case.
    AllDone,
    /// A job before it has failed.
    AnyFailed,
}

impl When {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AllOk, Self::AllDone, Self::AnyFailed];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllOk => "all_ok",
            Self::AllDone => "all_done",
            Self::AnyFailed => "any_failed",
        }
    }

    /// Whether it is what holds when nothing is said.
    pub fn is_usual(&self) -> bool {
        *self == Self::AllOk
    }

    /// Whether a step runs, by whether a job before it has failed.
    pub const fn admits(self, failed: bool) -> bool {
        match self {
            Self::AllOk => !failed,
            Self::AllDone => true,
            Self::AnyFailed => failed,
        }
    }
}

/// A step: jobs that run at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it is called.
    pub name: String,
    /// The names of its jobs.
    pub jobs: Vec<String>,
    /// In which case it runs.
    #[serde(default, skip_serializing_if = "When::is_usual")]
    pub when: When,
}

/// Something that is wrong with steps or params.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFault {
    /// Where (RFC 6901), from the request on: `/steps/0/jobs/1`.
    pub pointer: String,
    /// What, as the rest of a sentence about it.
    pub message: String,
}

impl std::fmt::Display for RequestFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.pointer, self.message)
    }
}

/// All that is wrong with steps.
pub fn faults_of_steps(steps: &[Step]) -> Vec<RequestFault> {
    let mut faults = Vec::new();
    let mut fault = |pointer: String, message: String| faults.push(RequestFault { pointer, message });
    let named =
        |name: &str| (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    let name_rule = format!("must be a name of 1 to {MAX_NAME} characters without control characters");
    if steps.is_empty() {
        fault("/steps".into(), "must have at least one step".into());
    }
    if steps.len() > MAX_STEPS {
        fault("/steps".into(), format!("has {} steps; at most {MAX_STEPS} are allowed", steps.len()));
    }
    let jobs: usize = steps.iter().map(|step| step.jobs.len()).sum();
    if jobs > MAX_JOBS {
        fault("/steps".into(), format!("has {jobs} jobs; at most {MAX_JOBS} are allowed"));
    }
    for (place, step) in steps.iter().enumerate() {
        if !named(&step.name) {
            fault(format!("/steps/{place}/name"), name_rule.clone());
        }
        if step.jobs.is_empty() {
            fault(
                format!("/steps/{place}/jobs"),
                format!("must have at least one job (step `{}`)", step.name),
            );
        }
        if step.jobs.len() > MAX_STEP_JOBS {
            let count = step.jobs.len();
            fault(
                format!("/steps/{place}/jobs"),
                format!("has {count} jobs; at most {MAX_STEP_JOBS} are allowed"),
            );
        }
        let mut seen = HashSet::new();
        for (at, job) in step.jobs.iter().enumerate() {
            if !named(job) {
                fault(format!("/steps/{place}/jobs/{at}"), name_rule.clone());
            } else if !seen.insert(job) {
                let message = format!(
                    "is the job `{job}` of step `{}` for the second time; a step has each job once",
                    step.name
                );
                fault(format!("/steps/{place}/jobs/{at}"), message);
            }
        }
    }
    faults
}

/// A request to be recorded. Made by [`NewRequest::new`] alone, which has checked it.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// What it is called from now on.
    pub token: RequestToken,
    /// The client's name for it.
    pub request_token: Option<String>,
    /// What it is for.
    pub action: String,
    /// What the jobs are told.
    pub params: Json,
    /// Its steps, in their order; at least one.
    pub steps: Vec<Step>,
    /// When it was accepted.
    pub created: Timestamp,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// The token it was submitted with.
    pub submitted_by: Option<TokenName>,
}

impl NewRequest {
    /// Checks a request. One with a client's name has the same token each time, so that recording it again
    /// finds it.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn new(
        request_token: Option<String>,
        action: String,
        params: Json,
        steps: Vec<Step>,
        created: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Self, Vec<RequestFault>> {
        let mut faults = faults_of_steps(&steps);
        for (pointer, name) in [("/action", Some(&action)), ("/request_token", request_token.as_ref())] {
            let bad = |name: &&String| {
                !(1..=MAX_NAME).contains(&name.chars().count()) || name.chars().any(char::is_control)
            };
            if name.filter(bad).is_some() {
                let message = format!("must have 1 to {MAX_NAME} characters, and no control characters");
                faults.push(RequestFault { pointer: pointer.into(), message });
            }
        }
        let length = params.get().len();
        if length > MAX_PARAMS {
            let message = format!("has {length} bytes; at most {MAX_PARAMS} are allowed");
            faults.push(RequestFault { pointer: "/params".into(), message });
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let token = request_token.as_deref().map_or_else(RequestToken::new, RequestToken::of);
        Ok(Self { token, request_token, action, params, steps, created, expires_at, submitted_by: None })
    }
}

impl RequestToken {
    /// A fresh one: a random UUID.
    pub fn new() -> Self {
        Self::from_uuid(Uuid::new_v4())
    }

    /// The one of a client's name for a request: a UUID made of its SHA-256.
    pub fn of(request_token: &str) -> Self {
        let hash = Sha256::digest(request_token);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        Self::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    #[expect(clippy::expect_used, reason = "letters, digits and dashes")]
    fn from_uuid(uuid: Uuid) -> Self {
        uuid.to_string().parse().expect("a UUID is a token")
    }
}

impl Default for RequestToken {
    fn default() -> Self {
        Self::new()
    }
}

/// A request as the ledger has it.
#[derive(Debug, Clone)]
pub struct Request {
    /// What it is called.
    pub token: RequestToken,
    /// The client's name for it.
    pub request_token: Option<String>,
    /// What it is for.
    pub action: String,
    /// Where it stands.
    pub status: RequestStatus,
    /// Why it cannot complete: the first job that failed, or the fault of the request.
    pub error: Option<String>,
    /// The place of the step that runs, or ran last, from 0 on.
    pub step: u32,
    /// Its steps; none when they cannot be read.
    pub steps: Vec<Step>,
    /// What the jobs are told.
    pub params: Json,
    /// What the jobs have found out, by key.
    pub extras: BTreeMap<String, String>,
    /// What is wrong with the row, which a producer has inserted with SQL: it cannot be carried out.
    pub flaw: Option<String>,
    /// When it was recorded.
    pub created: Timestamp,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// When it is given up; none for a row that was inserted with SQL and has not begun.
    pub expires_at: Option<Timestamp>,
}

/// An attempt of a job as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number, in the order of recording.
    pub id: u64,
    /// Which job of the step.
    pub name: String,
    /// The place of the step, from 0 on.
    pub step: u32,
    /// Which attempt it is, from 1 on.
    pub attempt: u32,
    /// The number of the last allowed attempt, where it differs from the configured one.
    pub last_attempt: Option<u32>,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it did not complete.
    pub error: Option<String>,
    /// What it has added to the extras of the request.
    pub extras: Option<BTreeMap<String, String>>,
    /// When it was recorded.
    pub created: Timestamp,
    /// When it is to begin, if not at once.
    pub due_at: Option<Timestamp>,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// The task that performs it, or did.
    pub task_id: Option<TaskId>,
}

/// The steps in a text that did not come through the API.
///
/// # Errors
/// All that is wrong with it, each as a sentence.
pub fn read_steps(text: &str) -> Result<Vec<Step>, Vec<String>> {
    const LIKE: &str = r#"[{"name": "a", "jobs": ["b"]}]"#;
    let steps: Vec<Step> = serde_json::from_str(text).map_err(|error| {
        vec![format!("steps: not a list of steps with jobs such as {LIKE}: {}", json_check::in_words(&error))]
    })?;
    let faults = faults_of_steps(&steps);
    if faults.is_empty() { Ok(steps) } else { Err(faults.iter().map(ToString::to_string).collect()) }
}

/// The params in a text that did not come through the API.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn read_params(text: String) -> Result<Json, String> {
    if text.len() > MAX_PARAMS {
        return Err(format!("params: {} bytes long; at most {MAX_PARAMS} are allowed", text.len()));
    }
    json_check::check(text.as_bytes()).map_err(|fault| format!("params: not JSON: {fault}"))?;
    RawValue::from_string(text).map(Json::from).map_err(|error| format!("params: not JSON: {error}"))
}

/// The extras in a text that did not come through the API; none or null for no extras.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn read_extras(text: Option<&str>) -> Result<BTreeMap<String, String>, String> {
    let extras = serde_json::from_str::<Option<BTreeMap<String, String>>>(text.unwrap_or("null"));
    extras
        .map(Option::unwrap_or_default)
        .map_err(|error| format!("extras: not an object of strings: {}", json_check::in_words(&error)))
}

/// The extras that a job has answered; none in an answer that is not an object.
///
/// # Errors
/// What is wrong, as the rest of a sentence about the answer.
pub fn answered_extras(answer: &RawValue) -> Result<BTreeMap<String, String>, String> {
    let Some(extras) = value_at(answer, "/extras").filter(|extras| extras.get() != "null") else {
        return Ok(BTreeMap::new());
    };
    if !extras.get().starts_with('{') {
        return Err("has `extras` that are no object; expected an object of strings".into());
    }
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(extras.get()).map_err(|error| error.to_string())?;
    let text = |(key, value): (String, &RawValue)| match serde_json::from_str(value.get()) {
        Ok(text) => Ok((key, text)),
        Err(_) => Err(format!(
            "has `extras` with {} under `{key}`; expected an object of strings",
            json_check::kind(value)
        )),
    };
    members.into_iter().map(text).collect()
}

/// Whether extras are more than a request may have, as a sentence.
pub fn too_many_extras(extras: &BTreeMap<String, String>) -> Option<String> {
    let bytes: usize = extras.iter().map(|(key, text)| key.len() + text.len()).sum();
    let (count, most) = (extras.len(), MAX_EXTRAS);
    if count > most {
        return Some(format!(
            "the extras of the request would have {count} strings; at most {most} are allowed"
        ));
    }
    let too_long =
        format!("the extras of the request would have {bytes} bytes; at most {MAX_EXTRAS_BYTES} are allowed");
    (bytes > MAX_EXTRAS_BYTES).then_some(too_long)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json;

    fn step(name: &str, jobs: &[&str]) -> Step {
        Step {
            name: name.into(),
            jobs: jobs.iter().map(|job| (*job).to_owned()).collect(),
            when: When::AllOk,
        }
    }

    #[test]
    fn states_have_the_numbers_and_words_of_the_original() {
        let requests = RequestStatus::ALL.map(|state| (state.code(), state.as_str()));
        assert_eq!(
            requests,
            [(0, "Queuing"), (1, "Inprogress"), (2, "Completed"), (3, "Failed"), (4, "Canceled")]
        );
        let jobs = JobStatus::ALL.map(|state| (state.code(), state.as_str()));
        assert_eq!(
            jobs,
            [(0, "new"), (1, "inprogress"), (2, "completed"), (3, "failed"), (4, "retry"), (5, "canceled")]
        );
        assert_eq!((RequestStatus::from_code(5), JobStatus::from_code(6)), (None, None));
        assert_eq!(serde_json::to_string(&RequestStatus::Inprogress).expect("a word"), "\"Inprogress\"");
    }

    #[test]
    fn steps_that_cannot_run_are_told_by_pointer() {
        let told = |steps: &[Step]| {
            faults_of_steps(steps).into_iter().map(|fault| fault.pointer).collect::<Vec<_>>()
        };
        let many = |count: usize| (0..count).map(|at| at.to_string()).collect::<Vec<_>>();
        assert_eq!(told(&[step("a", &["x", "y"]), step("a", &["x"])]), Vec::<String>::new());
        assert_eq!(told(&[]), ["/steps"]);
        assert_eq!(told(&[step("", &["x"]), step("b", &[])]), ["/steps/0/name", "/steps/1/jobs"]);
        assert_eq!(told(&[step("a", &["x", "y", "x", "\n"])]), ["/steps/0/jobs/2", "/steps/0/jobs/3"]);
        assert_eq!(told(&vec![step("a", &["x"]); MAX_STEPS + 1]), ["/steps"]);
        assert_eq!(told(&[Step { jobs: many(MAX_STEP_JOBS + 1), ..step("a", &[]) }]), ["/steps/0/jobs"]);
        assert_eq!(told(&vec![Step { jobs: many(MAX_STEP_JOBS), ..step("a", &[]) }; 11]), ["/steps"]);
    }

    #[test]
    fn a_request_is_checked_whole() {
        let at = Timestamp::from_micros(0);
        let made = |name: Option<&str>, action: &str, params: Json| {
            NewRequest::new(name.map(str::to_owned), action.into(), params, vec![step("a", &["x"])], at, at)
        };
        let faults =
            made(Some(""), &"a".repeat(192), json(&"x".repeat(MAX_PARAMS))).expect_err("all of it is wrong");
        let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["/action", "/request_token", "/params"]);
        let [one, again, other] =
            ["a", "a", "b"].map(|name| made(Some(name), "go", json(&1)).expect("right").token);
        assert_eq!(one, again);
        assert_ne!(one, other);
        assert_ne!(
            made(None, "go", json(&1)).expect("right").token,
            made(None, "go", json(&1)).expect("right").token
        );
    }

    #[test]
    fn texts_from_elsewhere_are_read_or_told_apart() {
        assert_eq!(read_steps(r#"[{"name": "a", "jobs": ["b"]}]"#).map(|steps| steps.len()), Ok(1));
        for (text, word) in [
            ("", "not a list"),
            ("{}", "not a list"),
            ("[]", "at least one step"),
            (r#"[{"name": "a"}]"#, "the member `jobs` is missing"),
            (r#"[{"name": "a", "jobs": []}]"#, "at least one job (step `a`)"),
            (r#"[{"name": "a", "jobs": ["b", "b"]}]"#, "for the second time"),
            (r#"[{"name": "a", "jobs": ["b"], "when": "never"}]"#, "unknown variant"),
        ] {
            assert!(read_steps(text).is_err_and(|faults| faults.join("; ").contains(word)), "{text}");
        }
        let params = |text: &str| read_params(text.to_owned()).map(|params| params.get().to_owned());
        assert_eq!(params(r#"{"id": 333}"#), Ok(r#"{"id": 333}"#.to_owned()));
        assert!(params("id=333").is_err_and(|fault| fault.contains("not JSON")));
        assert!(
            params(&format!("\"{}\"", "x".repeat(MAX_PARAMS)))
                .is_err_and(|fault| fault.contains("262146 bytes"))
        );
        assert_eq!(
            (read_extras(None), read_extras(Some("null"))),
            (Ok(BTreeMap::new()), Ok(BTreeMap::new()))
        );
        assert!(
            read_extras(Some(r#"{"a": 1}"#)).is_err_and(|fault| fault.contains("not an object of strings"))
        );
    }

    #[test]
    fn extras_are_strings_within_bounds() {
        let read = |text: &str| answered_extras(serde_json::from_str(text).expect("JSON"));
        for none in
            ["1", "\"\"", "{}", r#"{"extras": null}"#, r#"{"extras": {}}"#, "[]", "[1, 2]", r#"[{"a": "1"}]"#]
        {
            assert_eq!(read(none), Ok(BTreeMap::new()), "{none}");
        }
        assert_eq!(read(r#"{"extras": {"a": "1"}}"#), Ok(BTreeMap::from([("a".into(), "1".into())])));
        for (bad, word) in
            [(r#"{"extras": [1]}"#, "no object"), (r#"{"extras": {"a": 1}}"#, "a number under `a`")]
        {
            assert!(read(bad).is_err_and(|error| error.contains(word)), "{bad}");
        }
        let many: BTreeMap<_, _> = (0..=MAX_EXTRAS).map(|at| (at.to_string(), String::new())).collect();
        let long = BTreeMap::from([("a".to_owned(), "x".repeat(MAX_EXTRAS_BYTES))]);
        assert!(too_many_extras(&many).is_some_and(|text| text.contains("1001 strings")));
        assert!(too_many_extras(&long).is_some_and(|text| text.contains("65537 bytes")));
    }
}
