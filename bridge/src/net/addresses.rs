//! Under which addresses this machine can be reached, and how people write addresses.
//!
//! Read from the kernel's tables under `/proc`: loopback and link-local addresses are of no use to another node.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::DEFAULT_PORT;

/// This machine's addresses that another node might reach, IPv4 first.
pub fn local() -> Vec<IpAddr> {
    let v4 = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let mut found: Vec<IpAddr> = Vec::new();
    for address in parse_v4(&v4).into_iter().map(IpAddr::V4).chain(parse_v6(&v6).into_iter().map(IpAddr::V6))
    {
        // The kernel lists one address in several tables.
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// Reads `10.0.0.1`, `10.0.0.1:7433`, `fd00::1`, `[fd00::1]`, `[fd00::1]:7433` or `:7433`; the usual port is added.
pub fn parse(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(port) = text.strip_prefix(':') {
        return Some((Ipv6Addr::UNSPECIFIED, port.parse().ok()?).into());
    }
    let host = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    Some((host.parse::<IpAddr>().ok()?, DEFAULT_PORT).into())
}

/// The local table of `fib_trie` lists each address in a line above `/32 host LOCAL`.
fn parse_v4(table: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in table.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = last
            && !address.is_loopback()
            && !address.is_link_local()
        {
            found.push(address);
        }
    }
    found
}

/// `if_inet6` has the address in 32 digits, then index, prefix length, scope, flags and device. Scope 0 is global.
fn parse_v6(table: &str) -> Vec<Ipv6Addr> {
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let digits = fields.next()?;
            let scope = fields.nth(2)?;
            let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
            // Temporary (0x01) and deprecated (0x20) addresses change under our feet.
            if scope != "00" || flags & 0x21 != 0 {
                return None;
            }
            u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_give_reachable_addresses_only() {
        let v4 = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.1\n        /32 host LOCAL\n     |-- 10.0.0.255\n        \
                  /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 169.254.1.2\n        /32 host LOCAL\n";
        assert_eq!(parse_v4(v4), [Ipv4Addr::new(10, 0, 0, 1)]);
        let v6 = "00000000000000000000000000000001 01 80 10 80       lo\n\
                  fd000000000000000000000000000001 02 40 00 80     eth0\n\
                  fd00000000000000abcdabcdabcdabcd 02 40 00 01     eth0\n\
                  fe800000000000000042acfffe110002 02 40 20 80     eth0\n";
        assert_eq!(parse_v6(v6), ["fd00::1".parse::<Ipv6Addr>().expect("address")]);
    }

    #[test]
    fn people_may_leave_the_port_out() {
        for (text, address) in [
            ("10.0.0.1", "10.0.0.1:7433"),
            (" 10.0.0.1:1 ", "10.0.0.1:1"),
            ("fd00::1", "[fd00::1]:7433"),
            ("[fd00::1]", "[fd00::1]:7433"),
            ("[fd00::1]:1", "[fd00::1]:1"),
            (":1", "[::]:1"),
        ] {
            assert_eq!(parse(text), address.parse().ok(), "{text}");
        }
        for text in ["", "host", "10.0.0.1:", "10.0.0:1", "10.0.0.1:70000"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
