//! Every special range, in every spelling.

use proptest::prelude::*;

use super::*;

#[test]
fn every_range_is_refused_in_every_spelling() {
    // The ports of all of them, so that what means localhost is seen to.
    let policy = policy(&[], &[], &[]).reserve(&[80, 443]).unwrap();
    for (range, authorities) in [
        (
            "this-network 0.0.0.0/8",
            &["0.0.0.0", "0", "0x0", "0.1.2.3", "00000.0"][..],
        ),
        (
            "private-use 10.0.0.0/8",
            &["10.0.0.1", "0x0a000001", "167772161", "012.1", "10.1."],
        ),
        (
            "shared-address-space 100.64.0.0/10",
            &["100.64.0.1", "0x64400001", "100.127.255.255"],
        ),
        (
            "protected-port",
            &[
                "127.0.0.1",
                "localhost",
                "LOCALHOST.",
                "a.localhost",
                "0x7f.1",
                "[::1]",
                "2130706433",
                "017700000001",
                "127.1",
                "[0:0::1]",
                "%6cocalhost",
                "127.0.0.1.",
            ],
        ),
        (
            "loopback 127.0.0.0/8",
            &["127.0.0.2", "127.255.255.255", "0x7f.2", "2130706434"],
        ),
        (
            "link-local 169.254.0.0/16",
            &[
                "169.254.0.1",
                "169.254.170.2",
                "0xa9fe0001",
                "169.254.255.255",
            ],
        ),
        (
            "metadata 169.254.169.254/32",
            &[
                "169.254.169.254",
                "0xa9fea9fe",
                "2852039166",
                "0251.0376.0251.0376",
                "169.254.43518",
                "%31%36%39.254.169.254",
            ],
        ),
        (
            "private-use 172.16.0.0/12",
            &["172.16.0.1", "172.31.255.255", "0xac100001"],
        ),
        (
            "ietf-protocol 192.0.0.0/24",
            &["192.0.0.1", "192.0.0.8", "192.0.0.9", "192.0.0.170"],
        ),
        ("metadata 192.0.0.192/32", &["192.0.0.192", "0xc00000c0"]),
        (
            "metadata 168.63.129.16/32",
            &["168.63.129.16", "0xa83f8110", "2822734096"],
        ),
        (
            "metadata 100.100.100.200/32",
            &["100.100.100.200", "0x646464c8"],
        ),
        (
            "metadata fd00:ec2::/32",
            &["[fd00:ec2::254]", "[FD00:EC2::23]"],
        ),
        (
            "metadata fd20:ce::254/128",
            &["[fd20:ce::254]", "[fd20:ce:0::254]"],
        ),
        ("metadata fd00:42::42/128", &["[fd00:42::42]"]),
        ("metadata fd00:c1::a9fe:a9fe/128", &["[fd00:c1::a9fe:a9fe]"]),
        ("metadata fd00:a9fe:a9fe::1/128", &["[fd00:a9fe:a9fe::1]"]),
        ("metadata fd00:100::100:200/128", &["[fd00:100::100:200]"]),
        ("documentation 192.0.2.0/24", &["192.0.2.1"]),
        ("as112 192.31.196.0/24", &["192.31.196.1"]),
        ("amt 192.52.193.0/24", &["192.52.193.1"]),
        ("6to4-relay 192.88.99.0/24", &["192.88.99.1"]),
        (
            "private-use 192.168.0.0/16",
            &["192.168.0.1", "0xc0a80001", "192.168.1"],
        ),
        ("as112 192.175.48.0/24", &["192.175.48.1"]),
        (
            "benchmarking 198.18.0.0/15",
            &["198.18.0.1", "198.19.255.255"],
        ),
        ("documentation 198.51.100.0/24", &["198.51.100.1"]),
        ("documentation 203.0.113.0/24", &["203.0.113.1"]),
        ("multicast 224.0.0.0/4", &["224.0.0.1", "239.255.255.255"]),
        ("reserved 240.0.0.0/4", &["240.0.0.1", "255.255.255.254"]),
        (
            "broadcast 255.255.255.255/32",
            &["255.255.255.255", "4294967295", "0xffffffff"],
        ),
        (
            "unspecified ::/128",
            &["[::]", "[0:0:0:0:0:0:0:0]", "[::0.0.0.0]"],
        ),
        (
            "ipv4-mapped ::ffff:0:0/96",
            &[
                "[::ffff:127.0.0.1]",
                "[::ffff:7f00:1]",
                "[::ffff:169.254.169.254]",
                "[0:0:0:0:0:ffff:10.0.0.1]",
                "[::FFFF:8.8.8.8]",
            ],
        ),
        (
            "ipv4-compatible ::/96",
            &["[::127.0.0.1]", "[::7f00:1]", "[::10.0.0.1]"],
        ),
        (
            "nat64 64:ff9b::/96",
            &[
                "[64:ff9b::10.0.0.1]",
                "[64:ff9b::7f00:1]",
                "[64:ff9b::8.8.8.8]",
            ],
        ),
        (
            "nat64-local 64:ff9b:1::/48",
            &["[64:ff9b:1::10.0.0.1]", "[64:ff9b:1:ffff::1]"],
        ),
        ("discard-only 100::/64", &["[100::1]"]),
        ("dummy-prefix 100:0:0:1::/64", &["[100:0:0:1::1]"]),
        ("teredo 2001::/32", &["[2001::1]", "[2001:0:7f00:1::]"]),
        (
            "ietf-protocol 2001::/23",
            &["[2001:1::1]", "[2001:20::1]", "[2001:1ff::1]"],
        ),
        ("documentation 2001:db8::/32", &["[2001:db8::1]"]),
        (
            "6to4 2002::/16",
            &["[2002:7f00:1::]", "[2002:a00:1::1]", "[2002:808:808::1]"],
        ),
        ("as112 2620:4f:8000::/48", &["[2620:4f:8000::1]"]),
        ("documentation 3fff::/20", &["[3fff::1]", "[3fff:fff::1]"]),
        ("segment-routing 5f00::/16", &["[5f00::1]"]),
        (
            "unique-local fc00::/7",
            &["[fc00::1]", "[fd00:ec3::254]", "[FDFF::1]"],
        ),
        ("link-local fe80::/10", &["[fe80::1]", "[febf::1]"]),
        ("site-local fec0::/10", &["[fec0::1]", "[feff::1]"]),
        ("multicast ff00::/8", &["[ff02::1]", "[ffff::1]"]),
        (
            "not-global-unicast ::/0",
            &["[1::1]", "[::ffff:0:127.0.0.1]", "[4000::1]", "[fe00::1]"],
        ),
    ] {
        for authority in authorities {
            assert_eq!(
                judge(&policy, authority, &[]),
                refused(range),
                "{authority}"
            );
            let with_port = format!("{authority}:443");
            assert_eq!(
                judge(&policy, &with_port, &[]),
                refused(range),
                "{with_port}"
            );
        }
    }
}

proptest! {
    #[test]
    fn no_special_address_is_ever_allowed(bits: u128, v4: bool, port in prop::sample::select(&[80u16, 443, 8080][..])) {
        let address = if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) };
        let target = Target { host: Host::Name("a.test".into()), port };
        let policy = policy(&[], &[], &[]);
        let special = address::special(address).is_some();
        let open = policy.check_addresses(&target, &[address]).is_ok();
        prop_assert_eq!(open, !special && port != 8080 && !OWN.contains(&address.to_string().as_str()));
    }

    #[test]
    fn no_address_within_a_range_is_allowed_whatever_its_spelling(
        row in 0usize..8, host: u32, form in 0usize..5,
    ) {
        let nets = ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
            "172.16.0.0/12", "192.168.0.0/16", "0.0.0.0/8", "224.0.0.0/3"];
        let net: ipnet::Ipv4Net = nets[row].parse().unwrap();
        let number = u32::from(net.network()) | (host & u32::from(net.hostmask()));
        let dotted = Ipv4Addr::from(number);
        let authority = match form {
            0 => dotted.to_string(),
            1 => format!("{number}"),
            2 => format!("{number:#x}."),
            3 => format!("0{number:o}"),
            _ => format!("[::ffff:{dotted}]"),
        };
        let policy = policy(&["*.test", "*", "8.0.0.0/8:*"], &[], &["1"]);
        prop_assert!(judge(&policy, &authority, &[]).is_err(), "{}", authority);
        let answer = dotted.to_string();
        prop_assert!(judge(&policy, "name.example", &["8.8.8.8", &answer]).is_err());
        for embedding in [format!("64:ff9b::{dotted}"), format!("2002:{:x}:{:x}::1", number >> 16, number & 0xffff)] {
            let wide = super::policy(&["[64:ff9b::/96]", "[2002::/16]"], &[], &[]);
            prop_assert!(judge(&wide, "name.example", &[&embedding]).is_err(), "{}", embedding);
        }
    }
}
