//! Reads what tcpdump wrote: little-endian pcap, Ethernet, IPv4, TCP; and puts each direction's bytes together.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// What one end of a connection sent, from its SYN on.
#[derive(Debug)]
pub struct Flow {
    /// Who sent it.
    pub from: SocketAddrV4,
    /// To whom.
    pub to: SocketAddrV4,
    /// The bytes, as far as they were captured without a gap.
    pub bytes: Vec<u8>,
}

struct Segment<'a> {
    from: SocketAddrV4,
    to: SocketAddrV4,
    sequence: u32,
    syn: bool,
    payload: &'a [u8],
}

/// Sequence number of a SYN, and the payloads by their offset behind it.
type Pieces<'a> = (Option<u32>, BTreeMap<u32, &'a [u8]>);

/// Every flow of a capture.
pub fn flows(capture: &[u8]) -> Vec<Flow> {
    let mut flows: BTreeMap<(SocketAddrV4, SocketAddrV4), Pieces<'_>> = BTreeMap::new();
    for frame in frames(capture) {
        let Some(segment) = segment(frame) else { continue };
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
    flows.into_iter().map(|((from, to), (_, pieces))| Flow { from, to, bytes: join(pieces) }).collect()
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

/// The TCP segment of an Ethernet frame, when it is one over IPv4.
fn segment(frame: &[u8]) -> Option<Segment<'_>> {
    let ip = frame.strip_prefix(&frame[..12])?.strip_prefix(&[8, 0])?;
    let header = usize::from(ip[0] & 15) * 4;
    // Zero where the kernel handed tcpdump more than fits: then the frame has nothing behind the packet.
    let total = match number(&ip[2..4]) {
        0 => ip.len(),
        total => total,
    };
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    let tcp = &ip[header..total];
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
    Some(Segment {
        from: SocketAddrV4::new(address(12), port(0)),
        to: SocketAddrV4::new(address(16), port(2)),
        sequence: number(&tcp[4..8]) as u32,
        syn: tcp[13] & 2 != 0,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_put_together_whatever_was_sent_again() {
        let pieces = BTreeMap::from([(0, &b"abc"[..]), (2, b"cdef"), (3, b"de"), (6, b"g")]);
        assert_eq!(join(pieces), b"abcdefg");
    }

    #[test]
    fn a_segment_is_found_in_its_frame() {
        let mut frame = vec![0; 12];
        frame.extend([8, 0]);
        frame.extend([0x45, 0, 0, 43, 0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 2]);
        frame.extend([0x3a, 0xa0, 0, 80, 0, 0, 1, 0, 0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0]);
        frame.extend(b"abc-padding");
        let segment = segment(&frame).expect("a segment");
        assert_eq!((segment.from, segment.to), ("127.0.0.1:15008".parse().unwrap(), "127.0.0.2:80".parse().unwrap()));
        assert_eq!((segment.sequence, segment.syn, segment.payload), (256, false, &b"abc"[..]));
    }
}
