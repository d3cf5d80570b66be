//! The description of the interface is what review has seen.
//!
//! After a wanted change: `TASKER_UPDATE_SNAPSHOTS=1 cargo test --test it api_openapi`.

use std::path::Path;

#[test]
fn the_description_is_the_reviewed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/openapi.json");
    let now = tasker::api::document();
    if std::env::var_os("TASKER_UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("the directory can be made");
        std::fs::write(&path, &now).expect("the snapshot can be written");
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((line, (was, is))) =
        reviewed.lines().zip(now.lines()).enumerate().find(|(_, (was, is))| was != is)
    {
        panic!(
            "{}:{}: `{was}` is now `{is}`; if that is wanted, run this test with TASKER_UPDATE_SNAPSHOTS=1",
            path.display(),
            line + 1
        );
    }
    assert_eq!(
        reviewed.lines().count(),
        now.lines().count(),
        "run this test with TASKER_UPDATE_SNAPSHOTS=1 if that is wanted"
    );
}
