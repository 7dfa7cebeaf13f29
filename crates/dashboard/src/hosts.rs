//! Whose names the server answers to. A page elsewhere may have its own name point here, and its scripts would then pass
//! for those of this server's page: a browser tells by the `Host` that it sends.

use std::fs;
use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header};

use super::host_name::HostName;

/// Zones that nobody can register a name in: names there are a network's own, Kubernetes' `.cluster.local` among them.
const PRIVATE_ZONES: [&str; 3] = ["local", "internal", "home.arpa"];

/// The names that a server answers to.
pub struct Hosts {
    /// Whether only this machine can reach the server.
    loopback: bool,
    /// The full names of this machine.
    own: Vec<String>,
    /// Those that the operator says are his.
    vouched: Vec<HostName>,
}

impl Hosts {
    /// Those of a server on `loopback`, or on an address that other machines reach, and those that are `vouched` for.
    pub fn new(loopback: bool, vouched: Vec<HostName>) -> Self {
        let system = rustix::system::uname();
        let nodename = system.nodename().to_str().unwrap_or_default();
        // Without them there are fewer names.
        let [hosts, resolver] =
            ["/etc/hosts", "/etc/resolv.conf"].map(|path| fs::read_to_string(path).unwrap_or_default());
        Self { loopback, own: own_names(nodename, &hosts, &resolver), vouched }
    }

    /// Why a request is not answered; nothing if it is.
    ///
    /// One without a host is: every browser sends it, and health checks do not.
    pub fn refusal(&self, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let named = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or("?"));
        let mut named = uri.authority().map(|authority| authority.as_str()).into_iter().chain(named);
        let foreign = named.find(|host| !host.is_empty() && !self.knows(host))?;
        let answers = if self.loopback {
            "localhost and to addresses"
        } else {
            "localhost, to addresses, and to the names of its machine and network"
        };
        // Nothing but a name is repeated.
        let name = without_port(foreign).parse::<HostName>();
        let (foreign, flag) = match &name {
            Ok(name) => (name.as_str(), name.as_str()),
            Err(_) => ("another name", "NAME"),
        };
        Some(format!(
            "this server answers to {answers}, and not to {foreign}; if the name is yours, start the coordinator with \
             --dashboard-host {flag}\n"
        ))
    }

    fn knows(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        let name = name.strip_suffix('.').unwrap_or(&name);
        // Addresses and `localhost` are nobody's names.
        address.parse::<IpAddr>().is_ok()
            || is_in(name, "localhost")
            || self.vouched.iter().any(|vouched| vouched.as_str() == name)
            || (!self.loopback && (self.own.iter().any(|own| own == name) || is_private(name)))
    }
}

/// A name without a dot, which a network gives to its own machines and services, or in a private zone.
fn is_private(name: &str) -> bool {
    let single =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    single || PRIVATE_ZONES.iter().any(|zone| is_in(name, zone))
}

/// Whether a name is that of a zone, or in it.
fn is_in(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The names of a machine: what it calls itself, what stands beside that in its hosts file, and what it is in the domains
/// that its resolver looks in.
fn own_names(nodename: &str, hosts: &str, resolver: &str) -> Vec<String> {
    let nodename = nodename.to_ascii_lowercase();
    let short = nodename.split('.').next().unwrap_or_default();
    if short.is_empty() {
        return Vec::new();
    }
    let fields = |text: &str| -> Vec<Vec<String>> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().to_ascii_lowercase());
        lines.map(|line| line.split_ascii_whitespace().map(str::to_string).collect()).collect()
    };
    let mut names = vec![nodename.clone()];
    for line in fields(hosts) {
        if let Some(beside) =
            line.get(1..).filter(|names| names.iter().any(|name| [&nodename, short].contains(&name.as_str())))
        {
            names.extend_from_slice(beside);
        }
    }
    for line in fields(resolver) {
        if let Some((key, domains)) = line.split_first()
            && ["domain", "search"].contains(&key.as_str())
        {
            names.extend(domains.iter().map(|domain| format!("{short}.{}", domain.trim_end_matches('.'))));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const HOSTS: &str = "127.0.0.1 localhost\n127.0.1.1 gpu1.cluster.example.com gpu1 # of this machine\n\
                         10.0.0.9 other.example.com other\n";

    fn hosts(loopback: bool, vouched: &[&str]) -> Hosts {
        let own = own_names("GPU1", HOSTS, "nameserver 10.0.0.1\nsearch lab.example.org. example.net\n");
        Hosts { loopback, own, vouched: vouched.iter().map(|name| name.parse().unwrap()).collect() }
    }

    fn refusal(hosts: &Hosts, host: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        hosts.refusal(&Uri::from_static("/"), &headers)
    }

    /// Where a name is answered.
    #[derive(PartialEq)]
    enum Answered {
        Everywhere,
        OffLoopback,
        WithFlag,
        Nowhere,
    }
    use Answered::{Everywhere, Nowhere, OffLoopback, WithFlag};

    const TABLE: [(Option<&str>, Answered); 40] = [
        (None, Everywhere),
        (Some(""), Everywhere),
        (Some("localhost"), Everywhere),
        (Some("LOCALHOST:8080"), Everywhere),
        (Some("localhost."), Everywhere),
        (Some("lockstep.localhost"), Everywhere),
        (Some("127.0.0.1"), Everywhere),
        (Some("127.0.0.1:80"), Everywhere),
        (Some("192.0.2.7:8080"), Everywhere),
        (Some("[::1]"), Everywhere),
        (Some("[::1]:8080"), Everywhere),
        (Some("gpu1"), OffLoopback),
        (Some("GPU1:8080"), OffLoopback),
        (Some("coordinator:8080"), OffLoopback),
        (Some("gpu1.cluster.example.com"), OffLoopback),
        (Some("gpu1.cluster.example.com.:8080"), OffLoopback),
        (Some("gpu1.lab.example.org"), OffLoopback),
        (Some("gpu1.example.net"), OffLoopback),
        (Some("gpu1.local"), OffLoopback),
        (Some("printer.local:8080"), OffLoopback),
        (Some("lockstep.default.svc.cluster.local"), OffLoopback),
        (Some("gpu1.c.project.internal"), OffLoopback),
        (Some("gpu1.home.arpa"), OffLoopback),
        (Some("lockstep.example.org"), WithFlag),
        (Some("Lockstep.Example.org:443"), WithFlag),
        (Some("lockstep.example.org."), WithFlag),
        (Some("lockstep.default.svc:8080"), WithFlag),
        (Some("evil.example"), Nowhere),
        (Some("evil.example:8080"), Nowhere),
        (Some("x.lockstep.example.org"), Nowhere),
        (Some("other.example.com"), Nowhere),
        (Some("other.lab.example.org"), Nowhere),
        (Some("localhost.evil.example"), Nowhere),
        (Some("notlocalhost.evil"), Nowhere),
        (Some("gpu1.local.evil.example"), Nowhere),
        (Some("evil-home.arpa"), Nowhere),
        (Some("127.0.0.1.evil.example:1"), Nowhere),
        (Some("evil.example:x"), Nowhere),
        (Some("evil\u{e9}.example"), Nowhere),
        (Some("."), Nowhere),
    ];

    #[test]
    fn a_foreign_name_is_told_from_ones_own() {
        let vouched = ["lockstep.example.org", "lockstep.default.svc"];
        for (host, answered) in TABLE {
            for loopback in [true, false] {
                for flag in [&[][..], &vouched] {
                    let expected = match answered {
                        Everywhere => true,
                        OffLoopback => !loopback,
                        WithFlag => !flag.is_empty(),
                        Nowhere => false,
                    };
                    let refusal = refusal(&hosts(loopback, flag), host);
                    assert_eq!(refusal.is_none(), expected, "{host:?}, {loopback}, {flag:?}: {refusal:?}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_names_the_flag_that_allows_the_name() {
        for loopback in [true, false] {
            let refusal = |host| refusal(&hosts(loopback, &[]), Some(host)).unwrap();
            let named = refusal("Lockstep.example.org:8080");
            assert!(
                named.ends_with("start the coordinator with --dashboard-host lockstep.example.org\n"),
                "{named}"
            );
            // What is no name is not repeated.
            let unnamed = refusal("<b>.example");
            assert!(unnamed.ends_with("--dashboard-host NAME\n") && !unnamed.contains("<b>"), "{unnamed}");
        }
    }

    #[test]
    fn every_name_of_a_request_has_to_be_known() {
        let hosts = hosts(true, &[]);
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert_eq!(hosts.refusal(&Uri::from_static("/"), &headers), None);
        assert!(hosts.refusal(&Uri::from_static("http://evil.example/"), &headers).is_some());
        headers.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert!(hosts.refusal(&Uri::from_static("/"), &headers).is_some());
    }

    #[test]
    fn a_machine_without_a_name_or_files_has_no_names() {
        assert_eq!(own_names("", HOSTS, "search example.org"), Vec::<String>::new());
        assert_eq!(own_names("gpu1.example.org", "", ""), ["gpu1.example.org"]);
    }
}
