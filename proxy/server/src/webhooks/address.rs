//! Which addresses may be told anything: public ones. A merchant's name that leads to an address
//! of the operator's own network would make the proxy call it (SSRF).
//!
//! The address is judged after its name was resolved, and the one that was judged is the one that
//! is connected to, so a name that changes its mind in between gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is out in the world.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4_is_public(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4_is_public(v4),
            None => v6_is_public(v6),
        },
    }
}

/// As [`is_public`], and this machine too: for development and tests.
pub fn is_public_or_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback() || is_public(address)
}

/// Everything but the blocks of IANA's registry of special-purpose addresses, multicast included.
fn v4_is_public(address: Ipv4Addr) -> bool {
    const SPECIAL: [(u32, u32); 15] = [
        (0x0000_0000, 8),
        (0x0a00_0000, 8),
        (0x6440_0000, 10),
        (0x7f00_0000, 8),
        (0xa9fe_0000, 16),
        (0xac10_0000, 12),
        (0xc000_0000, 24),
        (0xc000_0200, 24),
        (0xc058_6300, 24),
        (0xc0a8_0000, 16),
        (0xc612_0000, 15),
        (0xc633_6400, 24),
        (0xcb00_7100, 24),
        (0xe000_0000, 4),
        (0xf000_0000, 4),
    ];
    let bits = address.to_bits();
    SPECIAL.iter().all(|(block, length)| (bits ^ block) >> (32 - length) != 0)
}

/// Global unicast alone, without the blocks in it that lead elsewhere or nowhere: protocol
/// assignments and tunnels (2001::/23), documentation, and 6to4, which holds an IPv4 address.
fn v6_is_public(address: Ipv6Addr) -> bool {
    const SPECIAL: [(u128, u32); 5] = [
        (0x2001 << 112, 23),
        (0x2001_0db8 << 96, 32),
        (0x2002 << 112, 16),
        (0x3fff << 112, 20),
        (0x2620_004f_8000 << 80, 48),
    ];
    let bits = address.to_bits();
    bits >> 125 == 1 && SPECIAL.iter().all(|(block, length)| (bits ^ block) >> (128 - length) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_told() {
        for text in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:9.9.9.9"] {
            assert!(is_public(text.parse().expect("an address")), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
        ] {
            assert!(!is_public(text.parse().expect("an address")), "{text}");
        }
    }

    #[test]
    fn development_adds_this_machine_and_nothing_else() {
        for (text, allowed) in
            [("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false)]
        {
            let address = text.parse().expect("an address");
            assert_eq!(is_public_or_loopback(address), allowed, "{text}");
        }
    }
}
