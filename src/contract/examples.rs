//! Examples for tests.

use super::{Problem, Task, TaskResponse};

/// What a fresh submission to console1 and console2 looks like.
pub(crate) fn task() -> Task {
    serde_json::from_str(
        r#"{"id":"0190a6c8-5f5e-7c3a-8000-000000000001","identifier":"e7bd91d0-16ad-11e2-892e-0800200c9a66","type":"backup",
            "status":"CREATED","start_time":"2024-07-12T10:00:00.000000Z","endpoints":["console1","console2"],"payload":{"foo":1.0},
            "expected":0,"received":0,"finished":0,"failed":0,"canceled":0,"expired":0,"published_at":null,"finished_at":null,
            "receive_by":"2024-07-12T10:00:30Z","expires_at":"2024-07-13T10:00:00Z"}"#,
    )
    .expect("the contract's own example")
}

/// A response of console1 that failed like the sample handler.
pub(crate) fn response() -> TaskResponse {
    serde_json::from_str(
        r#"{"id":"0190a6c8-5f5e-7c3a-8000-000000000001/console1","task_id":"0190a6c8-5f5e-7c3a-8000-000000000001","endpoint":"console1",
            "status":"FINISHED","errnr":32,"errmsg":"could not backup!","payload":null,"attempt":1,"attempts":[],"progress":null,
            "log":null,"start_time":"2024-07-12T10:00:00Z","last_modified_time":"2024-07-12T10:00:05Z"}"#,
    )
    .expect("the contract's own example")
}

/// A refusal without particulars.
pub(crate) fn problem() -> Problem {
    serde_json::from_str(r#"{"code":"invalid_submission","detail":"1 problem"}"#).expect("the least that a problem has")
}
