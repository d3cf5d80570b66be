//! The one way to an HTTP client: with TLS by the same library as the links to broker and database.
//!
//! `reqwest` panics when a client is built before a TLS library was chosen, so nobody builds one by hand (`clippy.toml`).

/// A client to go on configuring. It goes straight to its target: a proxy in the environment is for the web, and never meant
/// for an API or a broker inside the own network.
pub fn client() -> reqwest::ClientBuilder {
    // A second choice changes nothing and is refused: whoever came first has chosen the same.
    _ = rustls::crypto::ring::default_provider().install_default();
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    reqwest::Client::builder().no_proxy()
}

/// Builds a client that works on a system without certificates, such as a minimal container. It trusts no server then, and reaches
/// plain HTTP; `reqwest` itself refuses to build any client there.
///
/// # Errors
/// When the client cannot be built for another reason.
pub fn build(configured: impl Fn() -> reqwest::ClientBuilder) -> reqwest::Result<reqwest::Client> {
    configured().build().or_else(|_| configured().tls_certs_only([]).build())
}
