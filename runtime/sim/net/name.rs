//! What sockets are called, and which host an address belongs to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ringhold_kernel::SocketAddress;

/// A socket's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Inet(SocketAddr),
    /// A path, or a name that begins with a nul; empty for none.
    Unix(Vec<u8>),
}

impl Name {
    pub(crate) const UNNAMED: Name = Name::Unix(Vec::new());

    pub(crate) fn of(address: &SocketAddress) -> Option<Name> {
        match address.to_inet() {
            Some(inet) => Some(Name::Inet(inet)),
            None => address.unix_name().map(|name| Name::Unix(name.to_vec())),
        }
    }

    pub(crate) fn address(&self) -> SocketAddress {
        match self {
            Name::Inet(inet) => SocketAddress::from(*inet),
            Name::Unix(name) => SocketAddress::unix(name).expect("it was an address before"),
        }
    }

    pub(super) fn inet(&self) -> Option<SocketAddr> {
        match self {
            Name::Inet(inet) => Some(*inet),
            Name::Unix(_) => None,
        }
    }
}

/// The addresses of a host, by its number.
pub(crate) fn addresses(host: usize) -> [IpAddr; 2] {
    let number = u16::try_from(host + 1).expect("a simulation has fewer than 65,535 hosts");
    let [high, low] = number.to_be_bytes();
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number);
    [IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), IpAddr::V6(v6)]
}

/// The host that `address` leads to from `from`, if there is one.
pub(super) fn host_at(address: IpAddr, from: usize, hosts: usize) -> Option<usize> {
    if address.is_loopback() || address.is_unspecified() {
        return Some(from);
    }
    let number = match address {
        IpAddr::V4(v4) => match v4.octets() {
            [10, 0, high, low] => u16::from_be_bytes([high, low]),
            _ => return None,
        },
        IpAddr::V6(v6) => match v6.segments() {
            [0xfd00, 0, 0, 0, 0, 0, 0, number] => number,
            _ => return None,
        },
    };
    usize::from(number).checked_sub(1).filter(|host| *host < hosts)
}

/// The address by which `from` is known to who is at `to`.
pub(super) fn source_towards(to: IpAddr, from: usize) -> IpAddr {
    if to.is_loopback() {
        return to;
    }
    let [v4, v6] = addresses(from);
    if to.is_ipv4() { v4 } else { v6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_found_by_its_addresses() {
        for host in [0, 1, 254, 255, 256, 1000] {
            for address in addresses(host) {
                assert_eq!(host_at(address, 7, 1001), Some(host));
            }
        }
        assert_eq!(addresses(0)[0], IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(host_at(IpAddr::V4(Ipv4Addr::LOCALHOST), 7, 1001), Some(7));
        assert_eq!(host_at(IpAddr::V4(Ipv4Addr::new(10, 0, 9, 9)), 7, 3), None);
        assert_eq!(host_at(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 7, 3), None);
    }
}
