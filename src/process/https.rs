//! The one way to an HTTP client: with TLS by the same library as the links to broker and database.
//!
//! `reqwest` panics when a client is built before a TLS library was chosen, so nobody builds one by hand
//! (`clippy.toml`).

/// A client to go on configuring. It goes straight to its target: a proxy in the environment is for the web,
/// and never meant for an API or a broker inside the own network.
pub fn client() -> reqwest::ClientBuilder {
    // A second choice changes nothing and is refused: whoever came first has chosen the same.
    _ = rustls::crypto::ring::default_provider().install_default();
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    reqwest::Client::builder().no_proxy()
}

/// Builds a client that works on a system without certificates, such as a minimal container. It trusts no
/// server then, and reaches plain HTTP; `reqwest` itself refuses to build any client there.
///
/// # Errors
/// When the client cannot be built for another reason.
pub fn build(configured: impl Fn() -> reqwest::ClientBuilder) -> reqwest::Result<reqwest::Client> {
    configured().build().or_else(|_| configured().tls_certs_only([]).build())
}

/// The certificates in a text of PEM.
///
/// # Errors
/// When one cannot be read, or there is none.
pub fn certificates(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, String> {
    let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| root_cause(&error))?;
    match certificates.is_empty() {
        true => Err("there is no certificate in PEM".to_owned()),
        false => Ok(certificates),
    }
}

/// What went wrong with TLS, if that was the reason.
pub fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut chain: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = chain {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        // An I/O error is in the place of what it wraps, and does not name it as its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        chain = wrapped.map(|wrapped| wrapped as _).or_else(|| error.source());
    }
    None
}

/// The innermost error, which says what happened; the outer ones say during what, and name the whole address.
pub fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
