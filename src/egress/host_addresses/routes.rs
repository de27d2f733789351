//! The kernel's routing table `local`, over rtnetlink (`man 7 rtnetlink`). Any user may read it.
//!
//! Only that table: `local` routes of others are for packets with a mark (transparent proxies have
//! one for every address there is), and never apply to what the daemon sends.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// The table changed while it was told.
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RT_TABLE_LOCAL: u8 = 255;
const RTN_LOCAL: u8 = 2;
const RTN_ANYCAST: u8 = 4;
const RTA_DST: u16 = 1;
/// Of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Of `struct rtmsg`.
const ROUTE: usize = 12;
/// How often a table that changes all the time is read before that is an error.
const ATTEMPTS: usize = 8;

/// What one message said.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// A network the host answers for.
    Local(IpNet),
    /// Some other route.
    Other,
    /// All is told; whether it was one state of the table.
    Done(bool),
}

/// Every network that is this host itself.
///
/// # Errors
/// When the kernel does not tell.
pub(super) fn local() -> io::Result<Vec<IpNet>> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut attempts = ATTEMPTS;
        found.extend(loop {
            attempts -= 1;
            match table(family)? {
                Some(nets) => break nets,
                None if attempts > 0 => {}
                None => return Err(io::Error::other("the routing table does not keep still")),
            }
        });
    }
    Ok(found)
}

/// `None` when it changed meanwhile.
fn table(family: u8) -> io::Result<Option<Vec<IpNet>>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    // Kernels before 4.20 cannot leave out the other tables; `read` does.
    drop(socket.set_netlink_get_strict_chk(true));
    socket.send_to(&request(family), &SocketAddr::new(0, 0), 0)?;
    let (mut found, mut whole) = (Vec::new(), true);
    loop {
        let (datagram, from) = socket.recv_from_full()?;
        if from.port_number() != 0 {
            // Of another process, which anyone may send.
            continue;
        }
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let (message, after) = cut(rest)?;
            rest = after;
            match read(message)? {
                Told::Local(net) => found.push(net),
                Told::Other => {}
                Told::Done(one_state) => return Ok((whole && one_state).then_some(found)),
            }
            whole &= u16_at(message, 6)? & NLM_F_DUMP_INTR == 0;
        }
    }
}

/// All routes of the table, of one family.
fn request(family: u8) -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER + ROUTE);
    request.extend(((HEADER + ROUTE) as u32).to_ne_bytes());
    request.extend(RTM_GETROUTE.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // Sequence number and port: there is one request on this socket.
    request.extend([0; 8]);
    request.extend([family, 0, 0, 0, RT_TABLE_LOCAL, 0, 0, 0, 0, 0, 0, 0]);
    request
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a message of rtnetlink")
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    let bytes = bytes.get(at..at + 2).ok_or_else(broken)?;
    Ok(u16::from_ne_bytes(bytes.try_into().map_err(|_| broken())?))
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    let bytes = bytes.get(at..at + 4).ok_or_else(broken)?;
    Ok(u32::from_ne_bytes(bytes.try_into().map_err(|_| broken())?))
}

/// The first message, and what follows it; each begins at a multiple of four.
fn cut(bytes: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    if length < HEADER || length > bytes.len() {
        return Err(broken());
    }
    let next = length.next_multiple_of(4).min(bytes.len());
    Ok((&bytes[..length], &bytes[next..]))
}

fn read(message: &[u8]) -> io::Result<Told> {
    match u16_at(message, 4)? {
        NLMSG_DONE => Ok(Told::Done(u16_at(message, 6)? & NLM_F_DUMP_INTR == 0)),
        NLMSG_ERROR => {
            let error = u32_at(message, HEADER)?.cast_signed();
            Err(io::Error::from_raw_os_error(error.saturating_neg()))
        }
        RTM_NEWROUTE => {
            let route = message.get(HEADER..HEADER + ROUTE).ok_or_else(broken)?;
            let (family, prefix, table, kind) = (route[0], route[1], route[4], route[7]);
            if table != RT_TABLE_LOCAL || ![RTN_LOCAL, RTN_ANYCAST].contains(&kind) {
                return Ok(Told::Other);
            }
            let address = match destination(&message[HEADER + ROUTE..])? {
                Some(bytes) if family == AF_INET => {
                    IpAddr::from(<[u8; 4]>::try_from(bytes).map_err(|_| broken())?)
                }
                Some(bytes) => IpAddr::from(<[u8; 16]>::try_from(bytes).map_err(|_| broken())?),
                // Every address.
                None if family == AF_INET => IpAddr::from([0; 4]),
                None => IpAddr::from([0; 16]),
            };
            let net = IpNet::new(address, prefix).map_err(|_| broken())?;
            Ok(Told::Local(net))
        }
        _ => Ok(Told::Other),
    }
}

/// The value of `RTA_DST`, if there is one.
fn destination(mut attributes: &[u8]) -> io::Result<Option<&[u8]>> {
    while !attributes.is_empty() {
        let length = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..length).ok_or_else(broken)?;
        if u16_at(attributes, 2)? == RTA_DST {
            return Ok(Some(value));
        }
        attributes = &attributes[length.next_multiple_of(4).min(attributes.len())..];
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        bytes
    }

    fn route(family: u8, prefix: u8, table: u8, kind: u8, address: &[u8]) -> Vec<u8> {
        let mut body = vec![family, prefix, 0, 0, table, 0, 0, kind, 0, 0, 0, 0];
        // RTA_TABLE stands first, as the kernel writes it.
        body.extend([8, 0, 15, 0, table, 0, 0, 0]);
        // One whose value is a byte long.
        body.extend([5, 0, 20, 0, 7, 0, 0, 0]);
        if !address.is_empty() {
            body.extend((4 + address.len() as u16).to_ne_bytes());
            body.extend(RTA_DST.to_ne_bytes());
            body.extend(address);
        }
        message(RTM_NEWROUTE, 0, &body)
    }

    #[test]
    fn local_and_anycast_routes_of_the_local_table_are_the_host() {
        let v6: [u8; 16] = "2a01:dead::"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets();
        let net = |text: &str| Told::Local(text.parse().unwrap());
        for (bytes, told) in [
            (
                route(AF_INET, 8, 255, 2, &[127, 0, 0, 0]),
                net("127.0.0.0/8"),
            ),
            (route(AF_INET6, 64, 255, 2, &v6), net("2a01:dead::/64")),
            (route(AF_INET6, 128, 255, 4, &v6), net("2a01:dead::/128")),
            (route(AF_INET6, 0, 255, 2, &[]), net("::/0")),
            (route(AF_INET, 0, 255, 2, &[]), net("0.0.0.0/0")),
            // Broadcast, the main table, another table's.
            (route(AF_INET, 32, 255, 3, &[10, 0, 0, 255]), Told::Other),
            (route(AF_INET, 24, 254, 1, &[10, 0, 0, 0]), Told::Other),
            (route(AF_INET6, 0, 100, 2, &[]), Told::Other),
            (message(NLMSG_DONE, 0, &[0; 4]), Told::Done(true)),
            (
                message(NLMSG_DONE, NLM_F_DUMP_INTR, &[0; 4]),
                Told::Done(false),
            ),
        ] {
            assert_eq!(read(&bytes).unwrap(), told);
        }
        let refused = read(&message(NLMSG_ERROR, 0, &(-13_i32).to_ne_bytes())).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(read(&route(AF_INET, 33, 255, 2, &[127, 0, 0, 0])).is_err());
        assert!(read(&route(AF_INET, 8, 255, 2, &[127, 0, 0])).is_err());
    }

    #[test]
    fn messages_begin_at_multiples_of_four() {
        let (odd, next) = (message(99, 0, &[1; 5]), message(NLMSG_DONE, 0, &[0; 4]));
        let datagram = [&odd[..], &[0; 3], &next].concat();
        assert_eq!(cut(&datagram).unwrap(), (&odd[..], &next[..]));
        // The last one needs no room after it.
        assert_eq!(cut(&odd).unwrap(), (&odd[..], &[][..]));
    }

    #[test]
    fn the_kernel_tells_every_address_of_an_interface() {
        let told = local().unwrap();
        for interface in if_addrs::get_if_addrs().unwrap() {
            let address = interface.ip();
            assert!(told.iter().any(|net| net.contains(&address)), "{address}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        /// 1,024 cases.
        #[test]
        fn only_the_hosts_own_addresses_are_told(
            is_v6: bool,
            prefix in 0u8..140,
            table in 252u8..=255,
            kind in 0u8..6,
            address in prop::option::of(any::<u128>()),
        ) {
            let (family, size) = if is_v6 { (AF_INET6, 16) } else { (AF_INET, 4) };
            let bytes = address.map(|bits| bits.to_be_bytes()[..size].to_vec()).unwrap_or_default();
            let message = route(family, prefix, table, kind, &bytes);
            let bits = address.unwrap_or_default();
            let ip = if is_v6 { IpAddr::from(bits.to_be_bytes()) } else { IpAddr::from(((bits >> 96) as u32).to_be_bytes()) };
            match read(&message) {
                Ok(Told::Local(net)) => {
                    prop_assert!(table == 255 && [2, 4].contains(&kind));
                    prop_assert_eq!((net.addr(), net.prefix_len()), (ip, prefix));
                }
                Ok(told) => {
                    prop_assert_eq!(told, Told::Other);
                    prop_assert!(table != 255 || ![2, 4].contains(&kind));
                }
                Err(_) => prop_assert!(usize::from(prefix) > size * 8),
            }
        }

        /// 1,024 cases.
        #[test]
        fn no_bytes_make_it_panic_or_stand_still(
            mut bytes in prop::collection::vec(any::<u8>(), 0..80),
            length in prop::option::of(0u32..90),
            kind in 0u16..30,
        ) {
            if bytes.len() > 6 {
                let length = length.unwrap_or(bytes.len() as u32);
                bytes[..4].copy_from_slice(&length.to_ne_bytes());
                bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            }
            let mut rest = &bytes[..];
            while let Ok((message, after)) = cut(rest) {
                prop_assert!(message.len() >= HEADER && after.len() < rest.len());
                drop(read(message));
                rest = after;
            }
        }
    }
}
