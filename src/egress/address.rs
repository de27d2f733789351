//! Which addresses are not the public internet: the special-purpose registries of the IANA, and the
//! metadata services of clouds, some of which have addresses that look public or private.
//!
//! Pure tables. Which of them a rule may open is said here; which rules there are is not known here.
//! Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (of October 2025), RFC 6890 and
//! its updates, and the clouds' own documentation. A registered block is closed whole, its globally
//! reachable parts too: they are anycast addresses of protocols, not places to browse. Everything of
//! IPv6 outside 2000::/3 is special too, listed or not.

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
    // Whoever asks from this host is given its credentials. AWS, Google, Azure and most others:
    ("169.254.169.254/32", "metadata", ByAddress),
    // Azure; a public address.
    ("168.63.129.16/32", "metadata", ByAddress),
    // Alibaba.
    ("100.100.100.200/32", "metadata", ByAddress),
    ("fd00:100::100:200/128", "metadata", ByAddress),
    // Oracle, its older cloud and its newer one.
    ("192.0.0.192/32", "metadata", ByAddress),
    ("fd00:c1::a9fe:a9fe/128", "metadata", ByAddress),
    // AWS: instance metadata, and credentials of pods.
    ("fd00:ec2::/32", "metadata", ByAddress),
    // Google.
    ("fd20:ce::254/128", "metadata", ByAddress),
    // Scaleway.
    ("fd00:42::42/128", "metadata", ByAddress),
    // Akamai.
    ("fd00:a9fe:a9fe::1/128", "metadata", ByAddress),
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

/// `::` and `::1` have the form of one that carries IPv4 and carry none (RFC 4291, section 2.5.5.1).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    if address.is_unspecified() || address.is_loopback() {
        return None;
    }
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
    use proptest::prelude::*;

    use super::*;

    fn range_of(address: &str) -> Option<String> {
        special(address.parse().unwrap()).map(ToString::to_string)
    }

    /// Every block of the IANA special-purpose registries, and of its IPv6 address space registry
    /// what is not global unicast.
    const REGISTERED: &[&str] = &[
        "0.0.0.0/8",
        "0.0.0.0/32",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.0.0/29",
        "192.0.0.8/32",
        "192.0.0.9/32",
        "192.0.0.10/32",
        "192.0.0.170/32",
        "192.0.0.171/32",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.88.99.2/32",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "255.255.255.255/32",
        "::1/128",
        "::/128",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "100:0:0:1::/64",
        "2001::/23",
        "2001::/32",
        "2001:1::1/128",
        "2001:1::2/128",
        "2001:1::3/128",
        "2001:2::/48",
        "2001:3::/32",
        "2001:4:112::/48",
        "2001:10::/28",
        "2001:20::/28",
        "2001:30::/28",
        "2001:db8::/32",
        "2002::/16",
        "2620:4f:8000::/48",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
        "::/8",
        "100::/8",
        "200::/7",
        "400::/6",
        "800::/5",
        "1000::/4",
        "4000::/3",
        "6000::/3",
        "8000::/3",
        "a000::/3",
        "c000::/3",
        "e000::/4",
        "f000::/5",
        "f800::/6",
        "fe00::/9",
    ];

    #[test]
    fn every_registered_block_is_special() {
        for text in REGISTERED {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(net.trunc(), net, "{text}");
            for address in [net.network(), net.broadcast()] {
                assert!(special(address).is_some(), "{address} of {text}");
            }
        }
    }

    #[test]
    fn every_row_can_be_found() {
        for (index, range) in RANGES.iter().enumerate() {
            assert_eq!(range.net.trunc(), range.net, "{range}");
            // An earlier row that holds all of it would hide it.
            let hidden = RANGES[..index].iter().find(|r| r.net.contains(&range.net));
            assert_eq!(hidden, None, "{range}");
        }
    }

    #[test]
    fn metadata_services_need_their_own_address_wherever_they_are() {
        for address in [
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:42::42",
            "fd00:c1::a9fe:a9fe",
            "fd00:a9fe:a9fe::1",
            "fd00:100::100:200",
        ] {
            let range = special(address.parse().unwrap()).unwrap();
            assert_eq!((range.name, range.openable), ("metadata", ByAddress));
        }
        for (outside, range) in [
            ("168.63.129.15", None),
            ("168.63.129.17", None),
            (
                "100.100.100.201",
                Some("shared-address-space 100.64.0.0/10"),
            ),
            ("fd00:ec3::1", Some("unique-local fc00::/7")),
        ] {
            assert_eq!(range_of(outside).as_deref(), range, "{outside}");
        }
    }

    #[test]
    fn the_ends_of_the_ranges_are_inside_and_their_neighbours_outside() {
        for (inside, outside) in [
            ("10.255.255.255", "11.0.0.0"),
            ("100.64.0.0", "100.63.255.255"),
            ("100.127.255.255", "100.128.0.0"),
            ("169.254.255.255", "169.255.0.0"),
            ("169.254.0.0", "169.253.255.255"),
            ("168.63.129.16", "168.63.129.17"),
            ("172.31.255.255", "172.32.0.0"),
            ("192.0.0.255", "192.0.1.0"),
            ("198.19.255.255", "198.20.0.0"),
            ("224.0.0.0", "223.255.255.255"),
            ("2001:1ff:ffff::1", "2001:200::"),
            ("2001:db8:ffff::1", "2001:db9::"),
            ("2002::1", "2003::"),
            ("3fff:fff::1", "3ffe::1"),
        ] {
            assert!(range_of(inside).is_some(), "{inside}");
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

    proptest! {
        #[test]
        fn what_the_standard_library_knows_to_be_special_is(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let known = address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_documentation()
                || bits >> 28 == 0xf
                || bits >> 24 == 0;
            prop_assert!(!known || special(address.into()).is_some(), "{}", address);
        }

        #[test]
        fn ipv6_is_public_only_within_global_unicast(bits: u128) {
            let address = Ipv6Addr::from(bits);
            let is_global_unicast = bits >> 125 == 1;
            prop_assert!(is_global_unicast || special(address.into()).is_some(), "{}", address);
        }

        #[test]
        fn every_address_of_a_registered_block_is_special(
            block in prop::sample::select(REGISTERED), host: u128,
        ) {
            let address = match block.parse().unwrap() {
                IpNet::V4(net) => {
                    let host = u32::try_from(host >> 96).unwrap() & u32::from(net.hostmask());
                    IpAddr::from(Ipv4Addr::from(u32::from(net.network()) | host))
                }
                IpNet::V6(net) => {
                    let host = host & u128::from(net.hostmask());
                    IpAddr::from(Ipv6Addr::from(u128::from(net.network()) | host))
                }
            };
            prop_assert!(special(address).is_some(), "{} of {}", address, block);
        }
    }
}
