//! Payloads with places in them: `{/params/id}` stands for what the pointer finds in what a job is told.

use serde_json::value::RawValue;

use crate::domain::json_text::{write_list, write_object};
use crate::domain::{Json, Members, json, value_at};

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
    /// lead to another path. All else, numbers above all, stays as it was written.
    ///
    /// # Errors
    /// Which place has no value, as a sentence.
    pub fn fill(&self, told: &Json) -> Result<Json, String> {
        let mut text = String::with_capacity(self.0.get().len());
        write(self.0, told, &mut text)?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }
}

fn read<'a, T: serde::Deserialize<'a>>(value: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(value.get()).map_err(|error| error.to_string())
}

fn write(value: &RawValue, told: &RawValue, to: &mut String) -> Result<(), String> {
    match value.get().as_bytes().first() {
        Some(b'"') => *to += &text_filled(&read::<String>(value)?, told)?,
        Some(b'[') => write_list(to, read::<Vec<&RawValue>>(value)?, |item, to| write(item, told, to))?,
        Some(b'{') => {
            write_object(to, read::<Members<'_>>(value)?.0, |member, to| write(member, told, to))?;
        }
        _ => *to += value.get(),
    }
    Ok(())
}

/// The JSON of a text whose places are filled.
fn text_filled(text: &str, told: &RawValue) -> Result<String, String> {
    let find = |pointer: &str| {
        value_at(told, pointer).ok_or_else(|| format!("`{pointer}` is not in what the job is told"))
    };
    if let Some(pointer) = text
        .strip_prefix("{/")
        .and_then(|rest| rest.strip_suffix('}'))
        .filter(|pointer| !pointer.contains('}'))
    {
        return Ok(find(&format!("/{pointer}"))?.get().to_owned());
    }
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    let (mut whole, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("{/") {
        let Some((pointer, after)) = after.split_once('}') else { break };
        whole += before;
        let found = find(&format!("/{pointer}"))?;
        let value = match found.get() {
            "null" => return Err(format!("`/{pointer}` is null in what the job is told")),
            text if text.starts_with('"') => read::<String>(found)?,
            other => other.to_owned(),
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
    Ok(json(&(whole + rest)).get().to_owned())
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
        let told = r#"{"params": {"id": 333, "name": "a/b c", "up": "..", "none": null, "v": 6.10, "big": 123456789012345678901234}, "extras": {"k": "v"}, "try": 2}"#;
        let told: Json = serde_json::from_str(told).expect("JSON");
        let fill = |template: &str| Template::new(&serde_json::from_str(template).expect("JSON")).fill(&told);
        for (template, payload) in [
            (r#"{"a": "{/params/id}"}"#, r#"{"a":333}"#),
            (
                r#"["{/params}", 1, true, null]"#,
                r#"[{"id": 333, "name": "a/b c", "up": "..", "none": null, "v": 6.10, "big": 123456789012345678901234},1,true,null]"#,
            ),
            (r#"{"z": 6.10, "a": "{/params/v}", "b": 1.0}"#, r#"{"z":6.10,"a":6.10,"b":1.0}"#),
            (r#""https://h/{/params/big}?v={/params/v}""#, r#""https://h/123456789012345678901234?v=6.10""#),
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
