//! What an endpoint says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tasker::domain::{Labels, Presence, PresenceState, WireVersion};
use uuid::Uuid;

/// Of an endpoint of this program that performs these types, and says nothing else.
pub fn presence(endpoint: &str, types: &[&str], state: PresenceState) -> Presence {
    Presence {
        endpoint: endpoint.parse().expect("a name"),
        instance: Uuid::nil(),
        home: Uuid::nil(),
        session: Uuid::nil(),
        task_types: types.iter().map(|name| name.parse().expect("a type")).collect(),
        refused: Vec::new(),
        state,
        interval: Duration::from_secs(10),
        sent_at: None,
        version: String::new(),
        trouble: None,
        slots: None,
        reads: WireVersion::NEWEST,
        labels: Labels::default(),
        restricted: false,
        refusals: BTreeMap::new(),
        unsigned: 0,
        revocations: None,
        proven: false,
    }
}

/// The same, with ids that no other process has.
pub fn presence_of_its_own(endpoint: &str, types: &[&str], state: PresenceState) -> Presence {
    let [instance, home, session] = [(); 3].map(|()| Uuid::new_v4());
    Presence { instance, home, session, ..presence(endpoint, types, state) }
}
