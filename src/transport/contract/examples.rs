//! Examples for tests, of the contract and of the command line.

use crate::contract::{Problem, Request, Task, TaskResponse};

/// What a fresh submission to console1 and console2 looks like.
pub fn task() -> Task {
    serde_json::from_str(
        r#"{"id":"0190a6c8-5f5e-7c3a-8000-000000000001","identifier":"e7bd91d0-16ad-11e2-892e-0800200c9a66","type":"backup",
            "status":"CREATED","start_time":"2024-07-12T10:00:00.000000Z","endpoints":["console1","console2"],"payload":{"foo":1.0},
            "expected":0,"received":0,"finished":0,"failed":0,"canceled":0,"expired":0,"published_at":null,"finished_at":null,
            "receive_by":"2024-07-12T10:00:30Z","expires_at":"2024-07-13T10:00:00Z"}"#,
    )
    .expect("the contract's own example")
}

/// A response of console1 that failed like the sample handler.
pub fn response() -> TaskResponse {
    serde_json::from_str(
        r#"{"id":"0190a6c8-5f5e-7c3a-8000-000000000001/console1","task_id":"0190a6c8-5f5e-7c3a-8000-000000000001","endpoint":"console1",
            "status":"FINISHED","errnr":32,"errmsg":"could not backup!","payload":null,"attempt":1,"attempts":[],"progress":null,
            "log":null,"start_time":"2024-07-12T10:00:00Z","last_modified_time":"2024-07-12T10:00:05Z"}"#,
    )
    .expect("the contract's own example")
}

/// A refusal without particulars.
pub fn problem() -> Problem {
    serde_json::from_str(r#"{"code":"invalid_submission","detail":"1 problem"}"#)
        .expect("the least that a problem has")
}

/// A request of which the second step is in progress: a job is to be retried, another one runs.
pub fn request() -> Request {
    serde_json::from_str(
        r#"{"token":"5c1f7e1e-0f1c-4d6a-9a53-0c4d0b1f3f77","request_token":null,"action":"retrieve_user","status":"Inprogress","error":null,"step":1,
            "steps":[{"name":"service1_retrieve_user","jobs":["service1GetUser"]},
                     {"name":"delete_user_accounts","jobs":["service1DeleteUser","service2DeleteUser","service3DeleteUser"]},
                     {"name":"tell","jobs":["mail"],"when":"any_failed"}],
            "params":{"id":333},"extras":{"email":"a@b"},
            "created":"2024-07-12T10:00:00Z","completed":null,"expires_at":"2024-07-19T10:00:00Z",
            "jobs":[
              {"id":1,"name":"service1GetUser","step":0,"try":1,"status":"completed","error":null,"created":"2024-07-12T10:00:00Z",
               "due_at":null,"completed":"2024-07-12T10:00:01Z","task_id":null},
              {"id":2,"name":"service1DeleteUser","step":1,"try":1,"status":"completed","error":null,"created":"2024-07-12T10:00:02Z",
               "due_at":null,"completed":"2024-07-12T10:00:03Z","task_id":null},
              {"id":3,"name":"service2DeleteUser","step":1,"try":1,"status":"retry","error":"DELETE http://127.0.0.1:9002/users/333: 503",
               "created":"2024-07-12T10:00:02Z","due_at":null,"completed":"2024-07-12T10:00:05Z","task_id":null},
              {"id":4,"name":"service3DeleteUser","step":1,"try":1,"status":"inprogress","error":null,"created":"2024-07-12T10:00:02Z",
               "due_at":null,"completed":null,"task_id":null},
              {"id":5,"name":"service2DeleteUser","step":1,"try":2,"status":"new","error":null,"created":"2024-07-12T10:00:05Z",
               "due_at":"2024-07-12T10:00:15Z","completed":null,"task_id":null}]}"#,
    )
    .expect("the contract's own example")
}
