//! What a type may have done to the customer's data before anything looks at it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Json, json};

/// The payload with its strings - itself, or the members of an object - without white space at their ends. Untouched to the byte if
/// there is none.
pub fn trimmed(payload: Json) -> Json {
    let shorter = |text: &RawValue| {
        let text: String = serde_json::from_str(text.get()).ok()?;
        let trimmed = text.trim();
        (trimmed.len() < text.len()).then(|| json(&trimmed))
    };
    if payload.get().starts_with('"') {
        return shorter(&payload).unwrap_or(payload);
    }
    let Ok(members) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(payload.get()) else { return payload };
    let changed: BTreeMap<&str, Json> = members.iter().filter_map(|(name, value)| Some((&**name, shorter(value)?))).collect();
    if changed.is_empty() {
        return payload;
    }
    let all: BTreeMap<&str, &RawValue> =
        members.iter().map(|(name, value)| (&**name, changed.get(&**name).map_or(*value, |changed| &**changed))).collect();
    json(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trimmed_strings_lose_their_ends_and_nothing_else() {
        for (before, after) in [
            (r#"{"b": " x\t", "a": 1.0, "c": {"d": " y "}}"#, r#"{"a":1.0,"b":"x","c":{"d": " y "}}"#),
            (r#"{"b" : "x", "a": 12345678901234567890123}"#, r#"{"b" : "x", "a": 12345678901234567890123}"#),
            (r#"" \u2003x y\n""#, r#""x y""#),
            (r#"" \" ""#, r#""\"""#),
            (r#"[" x "]"#, r#"[" x "]"#),
            ("17", "17"),
        ] {
            let payload: Json = serde_json::from_str(before).expect("JSON");
            assert_eq!(trimmed(payload).get(), after, "{before}");
        }
    }
}
