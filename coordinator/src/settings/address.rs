//! Addresses to serve on, as people write them: `127.0.0.1:8080`, `localhost:8080`, `:8080` for all interfaces, `8080`
//! for this machine alone.
//!
//! A name is looked up once, here. Says nothing about which addresses a setting allows.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use serde::{Deserialize, Deserializer, de};

/// What was given is no address, or its name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// No port, or no host.
    #[error("write IP:PORT or HOST:PORT, :PORT for all interfaces, or PORT for this machine alone")]
    Form,
    /// The system does not know the name.
    #[error("the host '{host}' is not known here: {reason}")]
    Host {
        /// The name.
        host: String,
        /// The system's reason, or that it gives no address.
        reason: String,
    },
}

/// Reads an address.
///
/// # Errors
///
/// [`AddressError`].
pub(crate) fn parse(text: &str) -> Result<SocketAddr, AddressError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').map_or((None, text), |(host, port)| (Some(host), port));
    // `str::parse` alone would take a sign, too.
    let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let port: u16 = port.and_then(|port| port.parse().ok()).ok_or(AddressError::Form)?;
    match host {
        None => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Some("") => Ok((Ipv4Addr::UNSPECIFIED, port).into()),
        // Of IP addresses only IPv6 has colons, and there brackets tell them from the port's.
        Some(host) if host.contains(':') || host.parse::<IpAddr>().is_ok() => Err(AddressError::Form),
        Some(host) => look_up(host, port),
    }
}

fn look_up(host: &str, port: u16) -> Result<SocketAddr, AddressError> {
    let unknown = |reason: String| AddressError::Host { host: host.to_owned(), reason };
    let found = (host, port).to_socket_addrs().map_err(|error| unknown(error.to_string()))?;
    let found: Vec<SocketAddr> = found.collect();
    // Where a name has both, more clients find the older one.
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| unknown("it has no address".to_owned()))
}

/// The same for a key of a file.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let address = parse(&text);
    address.map(Some).map_err(|error| de::Error::custom(format!("'{text}' is no address: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for (written, expected) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:8080", "[::1]:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            (":8080", "0.0.0.0:8080"),
            ("8080", "127.0.0.1:8080"),
            ("0", "127.0.0.1:0"),
        ] {
            assert_eq!(parse(written).unwrap().to_string(), expected, "{written}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        for wrong in [
            "",
            ":",
            "localhost",
            "localhost:",
            "127.0.0.1",
            "::1",
            "::1:80",
            "65536",
            "+80",
            "host:-1",
            "a:b:1",
        ] {
            let message = parse(wrong).unwrap_err().to_string();
            assert!(message.starts_with("write IP:PORT or HOST:PORT"), "{wrong}: {message}");
        }
        // A name that no system may know, by RFC 6761.
        let message = parse("nobody.invalid:80").unwrap_err().to_string();
        assert!(message.starts_with("the host 'nobody.invalid' is not known here: "), "{message}");
    }
}
