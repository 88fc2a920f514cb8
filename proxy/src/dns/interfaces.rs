//! What the kernel says of the namespace's IPv6 addresses: `/proc/self/net/if_inet6`, a line an address.

/// Where it says so. Not there without IPv6.
const FILE: &str = "/proc/self/net/if_inet6";
/// Scope of an address that more than its own link can reach.
const GLOBAL: &str = "00";

/// The file's text; empty without IPv6.
pub fn read() -> String {
    std::fs::read_to_string(FILE).unwrap_or_default()
}

/// Whether the namespace has an IPv6 address besides loopback and link-local ones. Without one, an app that is given an IPv6
/// address tries it in vain before it takes the IPv4 one.
pub fn has_ipv6(text: &str) -> bool {
    lines(text).any(|(_, _, scope, _)| scope == GLOBAL)
}

/// Whether `::1` can be listened on.
pub fn has_ipv6_loopback(text: &str) -> bool {
    lines(text).any(|(address, ..)| address == "00000000000000000000000000000001")
}

/// The number of an interface that has an IPv6 address.
pub fn index_of(text: &str, name: &str) -> Option<u32> {
    let (_, index, ..) = lines(text).find(|(.., interface)| *interface == name)?;
    u32::from_str_radix(index, 16).ok()
}

/// Address, number of the interface, scope, name of the interface.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str, &str, &str)> {
    text.lines().filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [address, index, _, scope, _, interface] => Some((address, index, scope, interface)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "00000000000000000000000000000001 01 80 10 80       lo\n";
    const LINK: &str = "fe80000000000000004018fffe3d0a01 1f 40 20 80     eth0\n";
    const GLOBAL: &str = "fd000000000000000000000000000002 1f 40 00 80     eth0\n";

    #[test]
    fn only_an_address_that_others_can_reach_counts_as_ipv6() {
        assert!(!has_ipv6(""));
        assert!(!has_ipv6(&format!("{LOOPBACK}{LINK}")));
        assert!(has_ipv6(&format!("{LOOPBACK}{LINK}{GLOBAL}")));
        assert!(has_ipv6_loopback(LOOPBACK) && !has_ipv6_loopback(LINK));
    }

    #[test]
    fn an_interface_is_found_by_its_name() {
        assert_eq!(index_of(LINK, "eth0"), Some(31));
        assert_eq!(index_of(LINK, "eth1"), None);
    }
}
