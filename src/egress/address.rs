//! Which addresses are not the public internet: the special-purpose registries of the IANA.
//!
//! Pure tables. Which of them a rule may open is said here; which rules there are is not known here.
//! Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries and RFC 6890 and its updates.
//! Everything of IPv6 outside 2000::/3 is special too, listed or not.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::IpNet;

/// What it takes to open a special range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Openable {
    /// A rule that names the host or the address: the networks people run services in.
    ByName,
    /// Only a rule that names the address itself: whoever runs a name's DNS must not be able to
    /// point it at a metadata service.
    ByAddress,
    /// No rule.
    Never,
}

/// A special range.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// Its addresses.
    pub(super) net: IpNet,
    /// The same, as the registry writes them.
    text: &'static str,
    /// Its name, for refusals.
    pub(super) name: &'static str,
    /// What opens it.
    pub(super) openable: Openable,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.text)
    }
}

use Openable::{ByAddress, ByName, Never};

/// The first match counts, so smaller ranges stand before those around them.
const TABLE: &[(&str, &str, Openable)] = &[
    ("0.0.0.0/8", "this-network", Never),
    ("10.0.0.0/8", "private-use", ByName),
    ("100.64.0.0/10", "shared-address-space", ByName),
    ("127.0.0.0/8", "loopback", Never),
    ("169.254.0.0/16", "link-local", ByAddress),
    ("172.16.0.0/12", "private-use", ByName),
    ("192.0.0.0/24", "ietf-protocol", ByAddress),
    ("192.0.2.0/24", "documentation", ByAddress),
    ("192.31.196.0/24", "as112", ByAddress),
    ("192.52.193.0/24", "amt", ByAddress),
    ("192.88.99.0/24", "6to4-relay", ByAddress),
    ("192.168.0.0/16", "private-use", ByName),
    ("192.175.48.0/24", "as112", ByAddress),
    ("198.18.0.0/15", "benchmarking", ByAddress),
    ("198.51.100.0/24", "documentation", ByAddress),
    ("203.0.113.0/24", "documentation", ByAddress),
    ("224.0.0.0/4", "multicast", Never),
    ("255.255.255.255/32", "broadcast", Never),
    ("240.0.0.0/4", "reserved", Never),
    ("::/128", "unspecified", Never),
    ("::1/128", "loopback", Never),
    // The kernel connects to the IPv4 address: whoever means that one can write it.
    ("::ffff:0:0/96", "ipv4-mapped", Never),
    ("::/96", "ipv4-compatible", Never),
    ("64:ff9b::/96", "nat64", ByAddress),
    ("64:ff9b:1::/48", "nat64-local", Never),
    ("100::/64", "discard-only", Never),
    ("100:0:0:1::/64", "dummy-prefix", Never),
    // Teredo carries two more IPv4 addresses and no one uses it: never.
    ("2001::/32", "teredo", Never),
    ("2001::/23", "ietf-protocol", ByAddress),
    ("2001:db8::/32", "documentation", ByAddress),
    ("2002::/16", "6to4", ByAddress),
    ("2620:4f:8000::/48", "as112", ByAddress),
    ("3fff::/20", "documentation", ByAddress),
    ("2000::/3", "", ByName),
    ("5f00::/16", "segment-routing", ByAddress),
    ("fc00::/7", "unique-local", ByName),
    ("fe80::/10", "link-local", ByAddress),
    ("fec0::/10", "site-local", ByAddress),
    ("ff00::/8", "multicast", Never),
    ("::/0", "not-global-unicast", Never),
];

static RANGES: LazyLock<Vec<Range>> = LazyLock::new(|| {
    TABLE
        .iter()
        .map(|&(text, name, openable)| Range {
            net: text.parse().expect("a test parses every row of the table"),
            text,
            name,
            openable,
        })
        .collect()
});

/// The special range `address` lies in; `None` for the public internet.
pub(super) fn special(address: IpAddr) -> Option<&'static Range> {
    // The row without a name is public IPv6: it ends the search before the catch-all row.
    RANGES
        .iter()
        .find(|range| range.net.contains(&address))
        .filter(|range| !range.name.is_empty())
}

/// The range that contains all of `net` and that no rule opens, if there is one.
pub(super) fn never_opened(net: &IpNet) -> Option<&'static Range> {
    special(net.network()).filter(|range| range.openable == Never && range.net.contains(net))
}

/// The address itself, and the IPv4 address a translator on the way would turn it into. Each must
/// be allowed.
pub(super) fn facets(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let embedded = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => embedded(v6).map(IpAddr::V4),
    };
    std::iter::once(address).chain(embedded)
}

fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let at = |i: usize| Ipv4Addr::new(octets[i], octets[i + 1], octets[i + 2], octets[i + 3]);
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(at(12)),
        [0x2002, ..] => Some(at(2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range_of(address: &str) -> Option<String> {
        special(address.parse().unwrap()).map(ToString::to_string)
    }

    #[test]
    fn every_row_parses_and_finds_its_own_ends() {
        for range in RANGES.iter() {
            let found = special(range.net.network()).map(|r| r.net);
            // A row's first address may lie in a smaller one that stands before it.
            if let Some(found) = found {
                assert!(range.net.contains(&found), "{range}");
            }
            assert_eq!(range.net.trunc(), range.net, "{range}");
        }
    }

    #[test]
    fn the_ends_of_the_ranges_are_inside_and_their_neighbours_outside() {
        for (inside, outside) in [
            ("10.255.255.255", "11.0.0.0"),
            ("100.64.0.0", "100.63.255.255"),
            ("100.127.255.255", "100.128.0.0"),
            ("169.254.169.254", "169.253.255.255"),
            ("172.31.255.255", "172.32.0.0"),
            ("192.0.0.255", "192.0.1.0"),
            ("198.19.255.255", "198.20.0.0"),
            ("223.255.255.255", "223.255.255.255"),
            ("224.0.0.0", "223.255.255.255"),
            ("2001:1ff:ffff::1", "2001:200::"),
            ("2001:db8:ffff::1", "2001:db9::"),
            ("2002::1", "2003::"),
            ("3fff:fff::1", "3ffe::1"),
        ] {
            if inside != outside {
                assert!(range_of(inside).is_some(), "{inside}");
            }
            assert_eq!(range_of(outside), None, "{outside}");
        }
    }

    #[test]
    fn ipv6_outside_global_unicast_is_special_even_when_unlisted() {
        for address in [
            "4000::1",
            "::2:0:0:0:1",
            "::ffff:0:8.8.8.8",
            "fb00::1",
            "8000::",
        ] {
            assert!(range_of(address).is_some(), "{address}");
        }
        assert_eq!(range_of("2606:4700:4700::1111"), None);
    }

    #[test]
    fn embedded_addresses_are_found() {
        for (outer, inner) in [
            ("64:ff9b::10.1.2.3", "10.1.2.3"),
            ("2002:0a01:0203::1", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::10.1.2.3", "10.1.2.3"),
        ] {
            let facets: Vec<_> = facets(outer.parse().unwrap()).collect();
            let expected: [IpAddr; 2] = [outer.parse().unwrap(), inner.parse().unwrap()];
            assert_eq!(facets, expected);
        }
    }
}
