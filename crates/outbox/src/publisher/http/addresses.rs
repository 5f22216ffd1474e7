//! Which addresses may be connected to: the public ones, unless told otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use ipnet::IpNet;
use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(a: u16, b: u16, c: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

/// What of IPv4 is not the public internet: IANA's special-purpose registry (RFC 6890 and what
/// came after it), multicast (RFC 5771) and what is reserved.
const NOT_PUBLIC_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),       // this host, this network
    v4(10, 0, 0, 0, 8),      // private, RFC 1918
    v4(100, 64, 0, 0, 10),   // behind a carrier's NAT, RFC 6598
    v4(127, 0, 0, 0, 8),     // loopback
    v4(169, 254, 0, 0, 16),  // link-local, and the clouds' metadata
    v4(172, 16, 0, 0, 12),   // private, RFC 1918
    v4(192, 0, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 31, 196, 0, 24), // AS112
    v4(192, 52, 193, 0, 24), // AMT
    v4(192, 88, 99, 0, 24),  // relays of 6to4
    v4(192, 168, 0, 0, 16),  // private, RFC 1918
    v4(198, 18, 0, 0, 15),   // benchmarks, RFC 2544
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
    v4(224, 0, 0, 0, 3),     // multicast, reserved, broadcast
];

/// All of IPv6 that has been given out as public so far. What is outside of it is refused whole:
/// unspecified, loopback, IPv4-compatible, unique local, link-local, site-local, multicast.
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// What is not public within that.
const NOT_PUBLIC_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 0, 23),      // protocol assignments: Teredo, benchmarks, ORCHID
    v6(0x2001, 0x0db8, 0, 32), // documentation
    v6(0x2002, 0, 0, 16),      // 6to4, which has an IPv4 address within
    v6(0x3fff, 0, 0, 20),      // documentation
];

/// Addresses translated to IPv4 on the way (NAT64, RFC 6052). The last four bytes are the address
/// that is really reached.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

/// Where clouds tell a host its credentials. They stay refused in an allowed network, and must be
/// allowed by themselves.
const METADATA: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), // AWS, Azure, Google, and others
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),   // containers on AWS
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), // Alibaba
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),   // Azure, and a public one
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),     // Oracle
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)), // AWS
];

/// Which addresses a connection may be made to.
///
/// By default those of the public internet, and no other: not private, loopback, link-local,
/// unique local, multicast, shared (carrier's NAT), documentation or reserved ones, not `0.0.0.0`,
/// and not where clouds give out credentials. An IPv4 address in the form of an IPv6 one (mapped,
/// or by NAT64) is judged as the IPv4 address that it leads to.
///
/// ```
/// use buttress_outbox::publisher::http::Addresses;
///
/// let public = Addresses::public();
/// assert!(public.permits([1, 1, 1, 1].into()));
/// assert!(!public.permits([10, 0, 0, 7].into()));
///
/// let also = public.allow("10.0.0.0/24".parse().unwrap());
/// assert!(also.permits([10, 0, 0, 7].into()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    allowed: Vec<IpNet>,
    refused: Vec<IpNet>,
}

impl Addresses {
    /// The public internet.
    #[must_use]
    pub fn public() -> Self {
        Self::default()
    }

    /// The same and the addresses of `network`. An address at which a cloud gives out credentials
    /// is not among them, unless the network is that one address.
    #[must_use]
    pub fn allow(mut self, network: IpNet) -> Self {
        self.allowed.push(network);
        self
    }

    /// The same without the addresses of `network`, such as the public ones of your own services.
    /// What is refused so is refused whatever was allowed.
    #[must_use]
    pub fn refuse(mut self, network: IpNet) -> Self {
        self.refused.push(network);
        self
    }

    /// Whether a connection may be made to `address`.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let reached = reached(address);
        let is_in = |networks: &[IpNet]| {
            networks
                .iter()
                .any(|network| network.contains(&address) || network.contains(&reached))
        };
        if is_in(&self.refused) {
            return false;
        }
        if METADATA.contains(&reached) {
            return self.allowed.contains(&IpNet::from(reached));
        }
        is_in(&self.allowed) || is_public(reached)
    }
}

/// The address that packets to `address` arrive at.
fn reached(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else {
        return address;
    };
    if let Some(four) = six.to_ipv4_mapped() {
        return four.into();
    }
    if NAT64.contains(&six) {
        let [.., a, b, c, d] = six.octets();
        return Ipv4Addr::new(a, b, c, d).into();
    }
    address
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|it| it.contains(&address)),
        IpAddr::V6(address) => {
            PUBLIC_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|it| it.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(addresses: &Addresses, address: &str) -> bool {
        addresses.permits(address.parse().unwrap())
    }

    #[test]
    fn only_public_addresses_are_permitted() {
        let public = Addresses::public();
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:81b::200e",
            "2001:200::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(permits(&public, address), "{address}");
        }
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.1",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            // Metadata.
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
        ] {
            assert!(!permits(&public, address), "{address}");
        }
    }

    #[test]
    fn every_form_of_ipv6_that_leads_inside_is_refused() {
        for address in [
            "::",
            "::1",
            // IPv4-compatible: abandoned, and yet some stacks take it.
            "::127.0.0.1",
            "::169.254.169.254",
            "::1.1.1.1",
            // Mapped.
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            // Translated, RFC 2765.
            "::ffff:0:127.0.0.1",
            // NAT64: well-known with private addresses within, and local.
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1.1.1.1",
            // 6to4 and Teredo.
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001::1",
            "2001:0:53aa:64c:0:0:f5ff:fffe",
            "2001:10::1",
            "2001:20::1",
            "2001:2::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "5f00::1",
            // Unique local, link-local, site-local, multicast.
            "fc00::1",
            "fd12:3456:789a::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
            "4000::1",
        ] {
            assert!(!permits(&Addresses::public(), address), "{address}");
        }
    }

    #[test]
    fn what_is_allowed_does_not_open_the_metadata_with_it() {
        let network = |text: &str| text.parse::<IpNet>().unwrap();
        let link = Addresses::public().allow(network("169.254.0.0/16"));
        assert!(permits(&link, "169.254.0.1"));
        assert!(permits(&link, "::ffff:169.254.0.1"));
        assert!(!permits(&link, "169.254.169.254"));
        assert!(!permits(&link, "::ffff:169.254.169.254"));
        let alone = link.allow(network("169.254.169.254/32"));
        assert!(permits(&alone, "169.254.169.254"));
    }

    #[test]
    fn what_is_refused_is_refused_in_every_form() {
        let network = |text: &str| text.parse::<IpNet>().unwrap();
        let addresses = Addresses::public()
            .allow(network("8.0.0.0/8"))
            .refuse(network("8.8.8.0/24"))
            .refuse(network("2606:4700::/32"));
        assert!(permits(&addresses, "8.8.4.4"));
        for address in [
            "8.8.8.8",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2606:4700:4700::1111",
        ] {
            assert!(!permits(&addresses, address), "{address}");
        }
    }
}
