//! What a layer may reach by the proxy, and why it may not reach the rest.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::address::{Scope, is_own, scope};
use super::host::Host;
use crate::policy::plan::ConnectAddress;

/// The addresses of a layer, by their numbers in its plan.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rules(pub(super) Vec<Rule>);

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rule {
    pub address: ConnectAddress,
    /// The number of the credential that goes into its requests.
    pub credential: Option<usize>,
}

/// How a layer wants to speak to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By bytes that the proxy doesn't look into.
    Tunnel,
    /// By a request that the proxy reads.
    Request,
}

/// A host that a layer may reach.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The rule that lets it: its number.
    pub rule: u16,
    pub host: Host,
    pub port: u16,
    /// Whether the policy names the host itself.
    is_named: bool,
    pub credential: Option<usize>,
}

/// Why a layer doesn't get somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Nothing of its policy names it.
    Unlisted,
    /// It is spoken to by requests only, into which a credential goes.
    RequestsOnly,
    /// All that the name leads to is of this machine, of the link and the like.
    Special,
    /// A name beneath a domain leads into a private network.
    Private,
}

impl Rules {
    /// Whether and by what a layer may reach a host.
    pub fn decide(&self, host: Host, port: u16, way: Way) -> Result<Target, Denied> {
        let exact = |rule: &Rule| is_exactly(&rule.address, &host, port);
        // Whose requests carry a credential is spoken to in no other way: who could, could speak in
        // another's name there.
        let upgraded = |rule: &Rule| {
            rule.credential.is_some()
                && (exact(rule) || port == HTTP && names(&rule.address, &host))
        };
        let found = match (self.find(upgraded), way) {
            (Some(rule), Way::Request) => rule,
            (Some(_), Way::Tunnel)
                if self.find(|it| exact(it) && it.credential.is_none()).is_none() =>
            {
                return Err(Denied::RequestsOnly);
            }
            _ => self
                .find(|rule| rule.credential.is_none() && exact(rule))
                .or_else(|| self.find(|rule| is_beneath(&rule.address, &host, port)))
                .ok_or(Denied::Unlisted)?,
        };
        let (number, rule) = found;
        let port = match rule.address {
            ConnectAddress::Tcp { port, .. } => port,
            _ => port,
        };
        Ok(Target {
            rule: number,
            host,
            port,
            is_named: matches!(rule.address, ConnectAddress::Tcp { .. }),
            credential: rule.credential,
        })
    }

    /// Of the addresses that a name leads to, those that it may.
    pub fn choose(&self, target: &Target, found: &[IpAddr]) -> Result<Vec<IpAddr>, Denied> {
        let mut denied = Denied::Special;
        let mut may = |ip: &IpAddr| {
            let is_listed = || {
                let host = Host::Address(ip.to_canonical());
                self.find(|rule| is_exactly(&rule.address, &host, target.port)).is_some()
            };
            match scope(*ip) {
                Scope::Special => is_listed(),
                Scope::Private if !target.is_named && !is_listed() => {
                    denied = Denied::Private;
                    false
                }
                Scope::Private | Scope::Global => !is_own(*ip) || is_listed(),
            }
        };
        let left: Vec<IpAddr> = found.iter().copied().filter(|ip| may(ip)).collect();
        if left.is_empty() && !found.is_empty() { Err(denied) } else { Ok(left) }
    }

    fn find(&self, is_it: impl Fn(&Rule) -> bool) -> Option<(u16, &Rule)> {
        (0..).zip(&self.0).find(|(_, rule)| is_it(rule))
    }
}

/// The port of plain HTTP.
pub(crate) const HTTP: u16 = 80;

/// Whether an address is of that host, whatever the port.
fn names(address: &ConnectAddress, host: &Host) -> bool {
    match (address, host) {
        (ConnectAddress::Tcp { host, .. }, Host::Name(name)) => host == name,
        (ConnectAddress::Tcp { host, .. }, Host::Address(ip)) => {
            host.parse::<IpAddr>().is_ok_and(|listed| listed.to_canonical() == *ip)
        }
        _ => false,
    }
}

fn is_exactly(address: &ConnectAddress, host: &Host, port: u16) -> bool {
    matches!(address, ConnectAddress::Tcp { port: own, .. } if *own == port) && names(address, host)
}

fn is_beneath(address: &ConnectAddress, host: &Host, port: u16) -> bool {
    match (address, host) {
        (ConnectAddress::Wild { domain, port: own }, Host::Name(name)) => {
            let above = name.strip_suffix(domain.as_str());
            *own == port && above.is_some_and(|above| above.len() > 1 && above.ends_with('.'))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::value::connect_address;

    fn rules(addresses: &[(&str, Option<usize>)]) -> Rules {
        let rule = |(text, credential): &(&str, Option<usize>)| Rule {
            address: connect_address(text).unwrap(),
            credential: *credential,
        };
        Rules(addresses.iter().map(rule).collect())
    }

    fn decide(rules: &Rules, text: &str, way: Way) -> Result<(u16, u16), Denied> {
        let (host, port) = Host::with_port(text, None).unwrap();
        rules.decide(host, port, way).map(|target| (target.rule, target.port))
    }

    #[test]
    fn hosts_beneath_a_domain_and_no_others() {
        let rules = rules(&[("tcp:*.example.org:443", None), ("tcp:10.0.0.1:443", None)]);
        let decide = |text| decide(&rules, text, Way::Tunnel);
        assert_eq!(decide("a.example.org:443"), Ok((0, 443)));
        assert_eq!(decide("a.b.EXAMPLE.org.:443"), Ok((0, 443)));
        assert_eq!(decide("10.0.0.1:443"), Ok((1, 443)));
        assert_eq!(decide("[::ffff:10.0.0.1]:443"), Ok((1, 443)));
        for other in [
            "example.org:443",
            "a.example.org:80",
            "aexample.org:443",
            "a.example.org.evil.org:443",
            "evil.org:443",
            "10.0.0.2:443",
            "10.0.0.1:80",
            "[::1]:443",
        ] {
            assert_eq!(decide(other), Err(Denied::Unlisted), "{other}");
        }
    }

    #[test]
    fn whose_requests_carry_a_credential_is_spoken_to_by_requests() {
        let rules = rules(&[("tcp:*.example.org:443", None), ("tcp:api.example.org:443", Some(0))]);
        assert_eq!(decide(&rules, "api.example.org:443", Way::Request), Ok((1, 443)));
        assert_eq!(decide(&rules, "api.example.org:80", Way::Request), Ok((1, 443)));
        let tunnel = decide(&rules, "api.example.org:443", Way::Tunnel);
        assert_eq!(tunnel, Err(Denied::RequestsOnly));
        assert_eq!(decide(&rules, "www.example.org:443", Way::Tunnel), Ok((0, 443)));
        let other = decide(&rules, "api.example.org:8080", Way::Request);
        assert_eq!(other, Err(Denied::Unlisted));
    }

    #[test]
    fn a_name_leads_nowhere_special() {
        let rules = rules(&[
            ("tcp:*.example.org:443", None),
            ("tcp:named.example.net:443", None),
            ("tcp:127.0.0.9:443", None),
        ]);
        let choose = |host: &str, found: &[&str]| {
            let target = rules.decide(Host::parse(host).unwrap(), 443, Way::Tunnel).unwrap();
            let found: Vec<IpAddr> = found.iter().map(|ip| ip.parse().unwrap()).collect();
            let chosen = rules.choose(&target, &found)?;
            Ok(chosen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        let beneath = |found: &[&str]| choose("a.example.org", found);
        assert_eq!(beneath(&["203.0.113.1"]), Ok("203.0.113.1".to_owned()));
        assert_eq!(beneath(&["127.0.0.1", "203.0.113.1"]), Ok("203.0.113.1".to_owned()));
        assert_eq!(beneath(&["127.0.0.1", "::1", "::ffff:127.0.0.1"]), Err(Denied::Special));
        assert_eq!(beneath(&["169.254.169.254"]), Err(Denied::Special));
        assert_eq!(beneath(&["10.0.0.1"]), Err(Denied::Private));
        assert_eq!(choose("named.example.net", &["10.0.0.1"]), Ok("10.0.0.1".to_owned()));
        assert_eq!(choose("named.example.net", &["127.0.0.1"]), Err(Denied::Special));
        // Listed by its address.
        assert_eq!(beneath(&["127.0.0.9"]), Ok("127.0.0.9".to_owned()));
        assert_eq!(beneath(&["::ffff:127.0.0.9"]), Ok("::ffff:127.0.0.9".to_owned()));
        assert_eq!(beneath(&[]), Ok(String::new()));
    }
}
