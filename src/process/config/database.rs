//! What the address of a database says of TLS.
//!
//! The parameters are those of the driver, which passes over others without a word; of several the last one
//! counts.

use std::path::PathBuf;

use super::settings::Database;

/// The names of the parameter that says how a connection is protected.
pub(super) const MODE: [&str; 2] = ["ssl-mode", "sslmode"];

/// Modes in which the certificate of the server is verified.
const VERIFIES: [&str; 2] = ["VERIFY_CA", "VERIFY_IDENTITY"];

impl Database {
    /// The files that a connection reads, each with the parameter of the address that names it.
    pub fn tls_files(&self) -> Vec<(&'static str, PathBuf)> {
        let Some(url) = reqwest::Url::parse(self.uri.reveal()).ok().filter(|url| url.scheme() == "mysql")
        else {
            return Vec::new();
        };
        let mode = parameter(&url, MODE).unwrap_or_default().to_ascii_uppercase();
        let speaks = mode != "DISABLED";
        let verifies = VERIFIES.contains(&mode.as_str());
        [("ssl-ca", "sslca", verifies), ("ssl-cert", "sslcert", speaks), ("ssl-key", "sslkey", speaks)]
            .into_iter()
            .filter(|(.., read)| *read)
            .filter_map(|(name, other, _)| {
                // The text itself may stand there instead of the path of a file.
                let path =
                    parameter(&url, [name, other]).filter(|value| !value.trim().starts_with("-----BEGIN"))?;
                Some((name, path.into()))
            })
            .collect()
    }
}

/// The value of a parameter, under either of its names.
pub(super) fn parameter(url: &reqwest::Url, names: [&str; 2]) -> Option<String> {
    url.query_pairs().filter(|(name, _)| names.contains(&&**name)).last().map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn files_count_where_a_connection_reads_them() {
        const ALL: &str = "ssl-ca=/ca&sslcert=/c.pem&ssl-key=/k%20y";
        let ours = [("ssl-cert", "/c.pem"), ("ssl-key", "/k y")];
        let verified = [("ssl-ca", "/ca"), ours[0], ours[1]];
        for (uri, wanted) in [
            (format!("mysql://u@h/t?ssl-mode=VERIFY_IDENTITY&{ALL}"), &verified[..]),
            (format!("mysql://u@h/t?sslmode=verify_ca&{ALL}"), &verified),
            (format!("mysql://u@h/t?ssl-mode=REQUIRED&{ALL}"), &ours),
            (format!("mysql://u@h/t?{ALL}"), &ours),
            (format!("mysql://u@h/t?ssl-mode=DISABLED&{ALL}"), &[]),
            ("mysql://u@h/t?ssl-mode=VERIFY_CA&ssl-ca=/a&sslca=/b".to_owned(), &[("ssl-ca", "/b")]),
            ("mysql://u@h/t?ssl-mode=VERIFY_CA&ssl-ca=-----BEGIN%20CERTIFICATE-----".to_owned(), &[]),
            (format!("sqlite:///t.db?ssl-mode=VERIFY_CA&{ALL}"), &[]),
        ] {
            let database = Database { verbose: false, uri: Secret::new(&uri), max_connections: 1 };
            let found = database.tls_files();
            let found: Vec<_> =
                found.iter().map(|(name, path)| (*name, path.to_str().expect("a text"))).collect();
            assert_eq!(found, wanted, "{uri}");
        }
    }
}
