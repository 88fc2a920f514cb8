//! The hash by which requests and endpoints are told apart. It is the same in every sidecar and every release: a user must meet
//! the same endpoint whichever sidecar carries the request. It is no secret and resists nobody.

use std::net::IpAddr;

/// Of bytes: FNV-1a, and a final mix, since its low bits alone are poor.
pub fn hash(bytes: &[u8]) -> u64 {
    hash_all([bytes])
}

/// Of several pieces, which are kept apart from each other.
pub fn hash_all<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for piece in pieces {
        for byte in piece {
            state = (state ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
        // No byte has this value.
        state = (state ^ 0x100).wrapping_mul(PRIME);
    }
    mix(state)
}

/// Of an address.
pub fn hash_ip(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => hash(&ip.octets()),
        IpAddr::V6(ip) => hash(&ip.octets()),
    }
}

/// Spreads a number over all bits (the finaliser of SplitMix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_for_ever_and_keeps_pieces_apart() {
        // A change of these numbers moves every user of every mesh.
        assert_eq!(hash(b"user-1"), hash_all([b"user-1".as_slice()]));
        assert_eq!(hash(b""), 0xe763_7d1b_382c_19d9);
        assert_ne!(hash_all([b"ab".as_slice(), b"c"]), hash_all([b"a".as_slice(), b"bc"]));
    }
}
