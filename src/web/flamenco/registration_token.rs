//! The token that workers show to register: a JWT with the secret that they share with the manager.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::Deserialize;

#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// Seconds since 1970, with fractions.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Claims {
    exp: Option<f64>,
    iat: Option<f64>,
    nbf: Option<f64>,
}

/// Whether an `Authorization` header shows a token that is signed with the secret and valid now.
pub(super) fn is_valid(header: Option<&str>, secret: &str, now: f64) -> bool {
    let token = header
        .and_then(|header| header.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.and_then(|(_, token)| check(token.trim(), secret, now)).is_some()
}

fn check(token: &str, secret: &str, now: f64) -> Option<()> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok();
    let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
    let algorithm = match &*header.alg {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => return None,
    };
    hmac::verify(&hmac::Key::new(algorithm, secret.as_bytes()), signed.as_bytes(), &decode(signature)?)
        .ok()?;
    let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
    let early = |time: Option<f64>| time.is_some_and(|time| time > now);
    let over = claims.exp.is_some_and(|time| time <= now);
    (!over && !early(claims.iat) && !early(claims.nbf)).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(algorithm: &str, claims: &str, secret: &str) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"{algorithm}\",\"typ\":\"JWT\"}}")),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
        format!("bearer {signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn only_what_is_signed_and_in_time_is_valid() {
        let claims = r#"{"exp": 1000.25, "iat": 100.5, "nbf": 100.5}"#;
        let good = token("HS256", claims, "shared");
        for (header, now, expected) in [
            (Some(good.clone()), 500.0, true),
            (Some(token("HS256", "{}", "shared")), 500.0, true),
            (Some(good.clone()), 1000.25, false),
            (Some(good.clone()), 100.4, false),
            (Some(token("HS256", claims, "other")), 500.0, false),
            (Some(token("none", claims, "shared")), 500.0, false),
            (Some(token("HS512", claims, "shared")), 500.0, false),
            (Some(good.replace("bearer", "Basic")), 500.0, false),
            (Some("Bearer a.b.c".to_owned()), 500.0, false),
            (Some("Bearer".to_owned()), 500.0, false),
            (None, 500.0, false),
        ] {
            assert_eq!(is_valid(header.as_deref(), "shared", now), expected, "{header:?} {now}");
        }
    }
}
