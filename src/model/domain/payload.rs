//! What a type may have done to the customer's data before anything looks at it.

use serde_json::value::RawValue;

use super::{Json, Members, json};

/// The payload with its strings - itself, or the members of an object - without white space at their ends.
/// All else stays as it is to the byte: the order and repetition of members, numbers, and the space between.
pub fn trimmed(payload: Json) -> Json {
    let text = payload.get();
    let values = match text.starts_with('"') {
        true => vec![&*payload],
        false => serde_json::from_str::<Members<'_>>(text)
            .map(|Members(members)| members.into_iter().map(|(_, value)| value).collect())
            .unwrap_or_default(),
    };
    let mut whole = String::new();
    let mut copied = 0;
    for value in values {
        let Some(shorter) = shorter(value) else { continue };
        // A value is a part of the text.
        let begins = value.get().as_ptr().addr() - text.as_ptr().addr();
        whole.push_str(&text[copied..begins]);
        whole.push_str(shorter.get());
        copied = begins + value.get().len();
    }
    if copied == 0 {
        return payload;
    }
    whole.push_str(&text[copied..]);
    RawValue::from_string(whole).map_or(payload, Json::from)
}

/// A string without white space at its ends, if there is some.
fn shorter(value: &RawValue) -> Option<Json> {
    let text: String = serde_json::from_str(value.get()).ok()?;
    let trimmed = text.trim();
    (trimmed.len() < text.len()).then(|| json(&trimmed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trimmed_strings_lose_their_ends_and_nothing_else() {
        for (before, after) in [
            (r#"{"b": " x\t", "a": 1.0, "c": {"d": " y "}}"#, r#"{"b": "x", "a": 1.0, "c": {"d": " y "}}"#),
            (
                r#"{"a":" 1","b":1E2,"a":"2 ","\u0061":-0 ,"c":"d"}"#,
                r#"{"a":"1","b":1E2,"a":"2","\u0061":-0 ,"c":"d"}"#,
            ),
            (r#"{"b" : "x", "a": 12345678901234567890123}"#, r#"{"b" : "x", "a": 12345678901234567890123}"#),
            (
                r#"{" a ":"\u2003\"é\" \\n","n":0.10000000000000000001}"#,
                r#"{" a ":"\"é\" \\n","n":0.10000000000000000001}"#,
            ),
            (r#"" \u2003x y\n""#, r#""x y""#),
            (r#"" \" ""#, r#""\"""#),
            (r#""  ""#, r#""""#),
            (r#"[" x "]"#, r#"[" x "]"#),
            ("17", "17"),
            ("{}", "{}"),
        ] {
            let payload: Json = serde_json::from_str(before).expect("JSON");
            assert_eq!(trimmed(payload).get(), after, "{before}");
        }
    }
}
