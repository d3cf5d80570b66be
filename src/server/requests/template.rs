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
    /// is written as text. In a URL it is percent-encoded, and must be a text that is not empty, a number or a
    /// boolean: what a client says must not lead to another path. Only a place that begins a URL is written
    /// as it is. All else, numbers above all, stays as it was written.
    ///
    /// # Errors
    /// Which place has no value, as a sentence.
    pub fn fill(&self, told: &Json) -> Result<Json, String> {
        let mut text = String::with_capacity(self.0.get().len());
        write(self.0, told, None, &mut text)?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }
}

fn read<'a, T: serde::Deserialize<'a>>(value: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(value.get()).map_err(|error| error.to_string())
}

/// Writes a value of the payload, whose name is given where it is a member of an object.
fn write(value: &RawValue, told: &RawValue, name: Option<&str>, to: &mut String) -> Result<(), String> {
    match value.get().as_bytes().first() {
        Some(b'"') => *to += &text_filled(&read::<String>(value)?, told, name)?,
        Some(b'[') => {
            write_list(to, read::<Vec<&RawValue>>(value)?, |item, to| write(item, told, None, to))?;
        }
        Some(b'{') => {
            let members = read::<Members<'_>>(value)?.0;
            let named = members.into_iter().map(|(name, member)| (name.clone(), (name, member)));
            write_object(to, named, |(name, member), to| write(member, told, Some(&name), to))?;
        }
        _ => *to += value.get(),
    }
    Ok(())
}

/// The JSON of a text whose places are filled.
fn text_filled(text: &str, told: &RawValue, name: Option<&str>) -> Result<String, String> {
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
    let (mut places, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("{/") {
        let Some((pointer, after)) = after.split_once('}') else { break };
        let pointer = format!("/{pointer}");
        let found = find(&pointer)?;
        let value = match found.get() {
            "null" => return Err(format!("`{pointer}` is null in what the job is told")),
            text if text.starts_with('"') => read::<String>(found)?,
            other => other.to_owned(),
        };
        places.push(Place { before, pointer, is_part: found.get().starts_with(['[', '{']), value });
        rest = after;
    }
    let filled = |place: &Place<'_>, value: &str, whole: String| whole + place.before + value;
    let plain = places.iter().fold(String::new(), |whole, place| filled(place, &place.value, whole)) + rest;
    // The filled text tells: a place may have brought the beginning of the URL.
    if name != Some("url") && !is_url(&plain) {
        return Ok(json(&plain).get().to_owned());
    }
    let mut whole = String::with_capacity(plain.len());
    for place in &places {
        let begins = whole.is_empty() && is_blank(place.before);
        let value = place.in_url()?;
        whole = filled(place, &if begins { value.to_owned() } else { encoded(value) }, whole);
    }
    Ok(json(&(whole + rest)).get().to_owned())
}

/// A place in a text.
struct Place<'a> {
    /// The text between the place before and this one.
    before: &'a str,
    pointer: String,
    value: String,
    /// Whether the value is a list or an object.
    is_part: bool,
}

impl Place<'_> {
    /// The value for a URL. One that makes no segment of its own would lead to another path: `DELETE /users/`
    /// is meant for all users.
    fn in_url(&self) -> Result<&str, String> {
        let Self { pointer, value, .. } = self;
        match value.as_str() {
            "" => Err(format!("`{pointer}` is empty, which would lead to another path")),
            "." | ".." => Err(format!("`{pointer}` is `{value}`, which would lead to another path")),
            _ if self.is_part => {
                Err(format!("`{pointer}` is a list or an object, which cannot be a part of a URL"))
            }
            value => Ok(value),
        }
    }
}

/// Whether clients of HTTP take a text for a URL: the scheme may have any case, and blanks before it are
/// left out.
fn is_url(text: &str) -> bool {
    let text = text.trim_start_matches(blank).as_bytes();
    ["http://", "https://"].iter().any(|scheme| {
        text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    })
}

fn is_blank(text: &str) -> bool {
    text.chars().all(blank)
}

fn blank(letter: char) -> bool {
    letter <= ' ' || letter.is_whitespace()
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
        let told = r#"{"params": {"id": 333, "name": "a/b c", "up": "..", "none": null, "v": 6.10, "big": 123456789012345678901234, "empty": "", "list": [], "object": {}, "base": "http://h:1/v"}, "extras": {"k": "v"}, "try": 2}"#;
        let told: Json = serde_json::from_str(told).expect("JSON");
        let fill = |template: &str| Template::new(&serde_json::from_str(template).expect("JSON")).fill(&told);
        for (template, payload) in [
            (r#"{"a": "{/params/id}"}"#, r#"{"a":333}"#),
            (
                r#"["{/params}", 1, true, null]"#,
                r#"[{"id": 333, "name": "a/b c", "up": "..", "none": null, "v": 6.10, "big": 123456789012345678901234, "empty": "", "list": [], "object": {}, "base": "http://h:1/v"},1,true,null]"#,
            ),
            (r#"{"z": 6.10, "a": "{/params/v}", "b": 1.0}"#, r#"{"z":6.10,"a":6.10,"b":1.0}"#),
            (r#""https://h/{/params/big}?v={/params/v}""#, r#""https://h/123456789012345678901234?v=6.10""#),
            (r#""user {/params/id}, {/extras/k}!""#, r#""user 333, v!""#),
            (r#""https://h/{/params/name}?n={/try}""#, r#""https://h/a%2Fb%20c?n=2""#),
            (r#""{params} {/ {""#, r#""{params} {/ {""#),
            (r#"" HTTPS://h/{/params/name}""#, r#"" HTTPS://h/a%2Fb%20c""#),
            (r#""{/params/base}/{/params/name}""#, r#""http://h:1/v/a%2Fb%20c""#),
            (r#"{"url": "{/params/name}/{/params/name}"}"#, r#"{"url":"a/b c/a%2Fb%20c"}"#),
            (r#"{"body": "{/params/name}: {/params/empty}{/params/list}"}"#, r#"{"body":"a/b c: []"}"#),
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
            (r#""http://h/{/params/empty}""#, "is empty"),
            (r#""http://h/{/params/list}""#, "a list or an object"),
            (r#""\thTTp://h/{/params/object}""#, "a list or an object"),
            (r#"{"url": "{/params/base}/{/params/up}"}"#, "another path"),
        ] {
            assert!(fill(template).is_err_and(|error| error.contains(word)), "{template}");
        }
    }
}
