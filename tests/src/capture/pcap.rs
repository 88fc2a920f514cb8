//! Reads what tcpdump wrote: little-endian pcap, Ethernet, IPv4 and IPv6, TCP; and puts each direction's bytes together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a packet holds that only says that all others came before it.
pub const LAST: &[u8] = b"the last packet of this capture";

/// What one end of a connection sent, from its SYN on.
#[derive(Debug)]
pub struct Flow {
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// The bytes, as far as they were captured without a gap.
    pub bytes: Vec<u8>,
}

struct Segment<'a> {
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    syn: bool,
    payload: &'a [u8],
}

/// Sequence number of a SYN, and the payloads by their offset behind it.
type Pieces<'a> = (Option<u32>, BTreeMap<u32, &'a [u8]>);

/// What a capture holds.
#[derive(Debug)]
pub struct Contents {
    /// Every TCP flow.
    pub flows: Vec<Flow>,
    /// Everything that is neither TCP nor what any network has (ARP, ICMP, ICMPv6), in words.
    pub others: BTreeSet<String>,
}

/// Reads a capture.
pub fn read(capture: &[u8]) -> Contents {
    let mut flows: BTreeMap<(SocketAddr, SocketAddr), Pieces<'_>> = BTreeMap::new();
    let mut others = BTreeSet::new();
    for frame in frames(capture) {
        let segment = match packet(frame) {
            Packet::Tcp(segment) => segment,
            Packet::Neighbourhood => continue,
            Packet::Other(what) => {
                others.insert(what);
                continue;
            }
        };
        let (start, pieces) = flows.entry((segment.from, segment.to)).or_default();
        if segment.syn {
            *start = Some(segment.sequence);
        } else if !segment.payload.is_empty() {
            let start = start.expect("a connection that was captured from its beginning");
            // The SYN itself takes one number. A retransmission may be longer than the first try.
            let offset = segment.sequence.wrapping_sub(start).wrapping_sub(1);
            let known = pieces.entry(offset).or_default();
            if segment.payload.len() > known.len() {
                *known = segment.payload;
            }
        }
    }
    let flows = flows.into_iter().map(|((from, to), (_, pieces))| Flow { from, to, bytes: join(pieces) }).collect();
    Contents { flows, others }
}

fn join(pieces: BTreeMap<u32, &[u8]>) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for (offset, piece) in pieces {
        let offset = offset as usize;
        assert!(offset <= bytes.len(), "the capture has a gap at byte {}", bytes.len());
        bytes.extend(piece.iter().skip(bytes.len() - offset));
    }
    bytes
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// The packets of a classic pcap file of the kind that tcpdump writes on little-endian machines.
fn frames(capture: &[u8]) -> impl Iterator<Item = &[u8]> {
    assert_eq!(capture[..4], [0xd4, 0xc3, 0xb2, 0xa1], "no little-endian pcap file");
    assert_eq!(capture[20..24], [1, 0, 0, 0], "no Ethernet frames");
    let mut rest = &capture[24..];
    std::iter::from_fn(move || {
        let (head, tail) = rest.split_at_checked(16)?;
        let length = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        assert_eq!(length(8), length(12), "a packet was cut");
        let (frame, tail) = tail.split_at_checked(length(8))?;
        rest = tail;
        Some(frame)
    })
}

enum Packet<'a> {
    Tcp(Segment<'a>),
    /// ARP, ICMP and ICMPv6.
    Neighbourhood,
    Other(String),
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// The header of IPv6 that says 'look at this, router'; multicast listeners' reports carry it.
const HOP_BY_HOP: u8 = 0;

/// What an Ethernet frame carries.
fn packet(frame: &[u8]) -> Packet<'_> {
    match (&frame[12..14], &frame[14..]) {
        ([0x08, 0x00], ip) => ipv4(ip),
        ([0x86, 0xdd], ip) => ipv6(ip),
        ([0x08, 0x06], _) => Packet::Neighbourhood,
        (kind, _) => Packet::Other(format!("Ethernet frames of type {kind:02x?}")),
    }
}

fn ipv4(ip: &[u8]) -> Packet<'_> {
    let header = usize::from(ip[0] & 15) * 4;
    // Zero where the kernel handed tcpdump more than fits: then the frame has nothing behind the packet.
    let total = match number(&ip[2..4]) {
        0 => ip.len(),
        total => total,
    };
    let address = |at: usize| IpAddr::from(Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]));
    transport(ip[9], address(12), address(16), &ip[header..total])
}

fn ipv6(ip: &[u8]) -> Packet<'_> {
    let end = match number(&ip[4..6]) {
        0 => ip.len(),
        length => 40 + length,
    };
    let address = |at: usize| {
        let bytes: [u8; 16] = ip[at..at + 16].try_into().expect("16 bytes");
        IpAddr::from(Ipv6Addr::from(bytes))
    };
    let (mut protocol, mut rest) = (ip[6], &ip[40..end]);
    if protocol == HOP_BY_HOP {
        protocol = rest[0];
        rest = &rest[8 + usize::from(rest[1]) * 8..];
    }
    transport(protocol, address(8), address(24), rest)
}

fn transport(protocol: u8, from: IpAddr, to: IpAddr, packet: &[u8]) -> Packet<'_> {
    let port = |at: usize| number(&packet[at..at + 2]) as u16;
    match protocol {
        TCP => Packet::Tcp(Segment {
            from: SocketAddr::new(from, port(0)),
            to: SocketAddr::new(to, port(2)),
            sequence: number(&packet[4..8]) as u32,
            syn: packet[13] & 2 != 0,
            payload: &packet[usize::from(packet[12] >> 4) * 4..],
        }),
        ICMP | ICMPV6 => Packet::Neighbourhood,
        UDP if packet.ends_with(LAST) => Packet::Neighbourhood,
        UDP => Packet::Other(format!("UDP from {from} to port {} of {to}", port(2))),
        other => Packet::Other(format!("IP protocol {other} from {from} to {to}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_put_together_whatever_was_sent_again() {
        let pieces = BTreeMap::from([(0, &b"abc"[..]), (2, b"cdef"), (3, b"de"), (6, b"g")]);
        assert_eq!(join(pieces), b"abcdefg");
    }

    fn segment<'a>(frame: &'a [u8]) -> Segment<'a> {
        match packet(frame) {
            Packet::Tcp(segment) => segment,
            _ => panic!("no TCP in {frame:02x?}"),
        }
    }

    /// From port 15008 to port 80.
    const TCP_PACKET: [u8; 23] =
        [0x3a, 0xa0, 0, 80, 0, 0, 1, 0, 0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0, b'a', b'b', b'c'];

    #[test]
    fn a_segment_is_found_in_its_frame() {
        let mut frame = vec![0; 12];
        frame.extend([8, 0]);
        frame.extend([0x45, 0, 0, 43, 0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 2]);
        frame.extend(TCP_PACKET);
        frame.extend(b"-padding");
        let segment = segment(&frame);
        assert_eq!((segment.from, segment.to), ("127.0.0.1:15008".parse().unwrap(), "127.0.0.2:80".parse().unwrap()));
        assert_eq!((segment.sequence, segment.syn, segment.payload), (256, false, &b"abc"[..]));
    }

    /// An Ethernet frame with an IPv6 packet from ::1 to ::2.
    fn ipv6_frame(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, payload.len() as u8, next, 64]);
        frame.extend(["::1", "::2"].map(|addr| addr.parse::<Ipv6Addr>().unwrap().octets()).concat());
        frame.extend(payload);
        frame
    }

    #[test]
    fn ipv6_is_read_too_and_what_is_not_tcp_is_named() {
        let frame = [ipv6_frame(TCP, &TCP_PACKET), b"padding".to_vec()].concat();
        let segment = segment(&frame);
        assert_eq!((segment.from, segment.to), ("[::1]:15008".parse().unwrap(), "[::2]:80".parse().unwrap()));
        assert_eq!(segment.payload, b"abc");
        let report = ipv6_frame(HOP_BY_HOP, &[ICMPV6, 0, 5, 2, 0, 0, 0, 0, 143, 0]);
        assert!(matches!(packet(&report), Packet::Neighbourhood));
        let query = ipv6_frame(UDP, &[0x90, 0, 0, 53, 0, 8, 0, 0]);
        assert!(matches!(packet(&query), Packet::Other(what) if what == "UDP from ::1 to port 53 of ::2"));
    }
}
