#![no_main]

use libfuzzer_sys::fuzz_target;
use tasker::domain::{Certificate, Ordered, Revocations, json};
use tasker::signing::Trust;

// Whatever text is a trust file or is not one. What was read and is written again reads as the same. So do
// certificates, lists of revoked keys and orders.
fuzz_target!(|text: &str| {
    if let Ok(trust) = Trust::parse(text) {
        assert_eq!(Trust::parse(&trust.to_yaml()), Ok(trust));
    }
    if let Ok(certificate) = serde_json::from_str::<Certificate>(text) {
        let written = serde_json::to_string(&certificate).expect("JSON");
        assert_eq!(serde_json::from_str::<Certificate>(&written).expect("reads what it writes"), certificate);
    }
    if let Ok(revocations) = serde_json::from_str::<Revocations>(text) {
        let written = serde_json::to_string(&revocations).expect("JSON");
        assert_eq!(serde_json::from_str::<Revocations>(&written).expect("reads what it writes"), revocations);
    }
    if let Ok(ordered) =
        serde_json::from_str(text).map_err(drop).and_then(|payload| Ordered::read(&payload).map_err(drop))
    {
        let again = Ordered::read(&json(&ordered)).expect("reads what it writes");
        assert_eq!((again.order, again.payload.get()), (ordered.order, ordered.payload.get()));
    }
});
