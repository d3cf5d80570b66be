//! Payloads with places in them: `{/params/id}` stands for what the pointer finds in what a job is told.

use serde_json::Value;

use crate::domain::{Json, json};

/// A payload with places.
#[derive(Debug)]
pub struct Template<'a>(&'a Json);

impl<'a> Template<'a> {
    /// The template of a configured payload.
    pub const fn new(payload: &'a Json) -> Self {
        Self(payload)
    }

    /// The payload for a call. A text that is one place becomes the value as it is; in other texts the value
    /// is written as text, and percent-encoded where the text begins like a URL: what a client says must not
    /// lead to another path.
    ///
    /// # Errors
    /// Which place has no value, as a sentence.
    pub fn fill(&self, told: &Json) -> Result<Json, String> {
        let read = |text: &Json| serde_json::from_str::<Value>(text.get()).map_err(|error| error.to_string());
        let told = read(told)?;
        Ok(json(&filled(read(self.0)?, &told)?))
    }
}

fn filled(value: Value, told: &Value) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => text_filled(&text, told)?,
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| filled(item, told)).collect::<Result<_, _>>()?)
        }
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(key, member)| Ok((key, filled(member, told)?)))
                .collect::<Result<_, String>>()?,
        ),
        other => other,
    })
}

fn text_filled(text: &str, told: &Value) -> Result<Value, String> {
    let find = |pointer: &str| {
        told.pointer(pointer).ok_or_else(|| format!("`{pointer}` is not in what the job is told"))
    };
    if let Some(pointer) = text
        .strip_prefix("{/")
        .and_then(|rest| rest.strip_suffix('}'))
        .filter(|pointer| !pointer.contains('}'))
    {
        return find(&format!("/{pointer}")).cloned();
    }
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    let (mut whole, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("{/") {
        let Some((pointer, after)) = after.split_once('}') else { break };
        whole += before;
        let value = match find(&format!("/{pointer}"))? {
            Value::String(text) => text.clone(),
            Value::Null => return Err(format!("`/{pointer}` is null in what the job is told")),
            other => other.to_string(),
        };
        whole += &match value.as_str() {
            "." | ".." if is_url => {
                return Err(format!("`/{pointer}` is `{value}`, which would lead to another path"));
            }
            _ if is_url => encoded(&value),
            _ => value,
        };
        rest = after;
    }
    Ok(Value::String(whole + rest))
}

/// With everything but unreserved characters percent-encoded (RFC 3986, section 2.3).
fn encoded(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                whole.push(char::from(byte))
            }
            _ => whole += &format!("%{byte:02X}"),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled() {
        let told = r#"{"params": {"id": 333, "name": "a/b c", "up": "..", "none": null}, "extras": {"k": "v"}, "try": 2}"#;
        let told: Json = serde_json::from_str(told).expect("JSON");
        let fill = |template: &str| Template::new(&serde_json::from_str(template).expect("JSON")).fill(&told);
        for (template, payload) in [
            (r#"{"a": "{/params/id}"}"#, r#"{"a":333}"#),
            (
                r#"["{/params}", 1, true, null]"#,
                r#"[{"id":333,"name":"a/b c","none":null,"up":".."},1,true,null]"#,
            ),
            (r#""user {/params/id}, {/extras/k}!""#, r#""user 333, v!""#),
            (r#""https://h/{/params/name}?n={/try}""#, r#""https://h/a%2Fb%20c?n=2""#),
            (r#""{params} {/ {""#, r#""{params} {/ {""#),
        ] {
            assert_eq!(
                fill(template).map(|json| json.get().to_owned()),
                Ok(payload.to_owned()),
                "{template}"
            );
        }
        for (template, word) in [
            (r#""{/params/age}""#, "`/params/age`"),
            (r#""a {/params/none}""#, "is null"),
            (r#""http://h/{/params/up}/x""#, "another path"),
        ] {
            assert!(fill(template).is_err_and(|error| error.contains(word)), "{template}");
        }
    }
}
