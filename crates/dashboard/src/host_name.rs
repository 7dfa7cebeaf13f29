//! The name of a host, as people write it for a server that stands behind it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name by which a server may be asked, in small letters and without port or final dot.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String")]
pub struct HostName(String);

/// Names of hosts are not longer.
const MAX_HOST_NAME_BYTES: usize = 253;

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if name.len() <= MAX_HOST_NAME_BYTES && name.split('.').all(is_label) {
            return Ok(Self(name.to_string()));
        }
        Err(format!(
            "'{text}' is no name of a host: write it as it stands in the address bar, such as lockstep.example.org, \
             without http:// and port"
        ))
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_as_in_the_address_bar() {
        for (text, name) in [
            ("lockstep.example.org", "lockstep.example.org"),
            (" Lockstep.Example.ORG. ", "lockstep.example.org"),
            ("gpu-1_a", "gpu-1_a"),
        ] {
            assert_eq!(text.parse(), Ok(HostName(name.to_string())), "{text}");
        }
        let long = "a".repeat(254);
        for text in ["", ".", "a..b", "http://a", "a:8080", "a/b", "*.a", "a b", "\u{e9}.a", "[::1]", &long] {
            let flaw = text.parse::<HostName>().unwrap_err();
            assert!(flaw.starts_with(&format!("'{text}' is no name of a host")), "{flaw}");
        }
    }
}
