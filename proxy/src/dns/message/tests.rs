use super::*;

/// A query for `name`; `more` are the records behind the question, and how many.
fn query(name: &str, rtype: u16, more: (u16, &[u8])) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd, 0x01, 0x10, 0, 1, 0, 0, 0, 0];
    bytes.extend(more.0.to_be_bytes());
    bytes.extend(encode(name));
    bytes.extend(rtype.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(more.1);
    bytes
}

/// An OPT record: root, type, size, extended code, version, flags, length and content.
fn opt(version: u8, flags: u8, content: &[u8]) -> Vec<u8> {
    [&[0, 0, 41, 4, 208, 0, version, flags, 0, 0, content.len() as u8][..], content].concat()
}

fn a(v4: &str) -> Answer {
    Answer { v4: v4.parse().ok(), ..Answer::default() }
}

#[test]
fn an_address_is_answered_under_the_number_and_the_very_question_that_came() {
    let bytes = query("wEb.MESH", rtype::A, (0, &[]));
    let asked = Query::parse(&bytes).unwrap();
    assert_eq!(asked.host().as_deref(), Some("web.mesh"));
    assert!(asked.is_lookup());
    let answer = asked.answer(&a("240.240.1.2"));
    let mut wanted = vec![0xab, 0xcd, 0x85, 0x90, 0, 1, 0, 1, 0, 0, 0, 0];
    wanted.extend(asked.question());
    wanted.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 240, 240, 1, 2]);
    assert_eq!(answer, wanted);
    assert!(answers(&bytes, &answer));
}

#[test]
fn a_negative_answer_names_its_zone_and_a_short_time() {
    let bytes = query("nothing.default.mesh", rtype::AAAA, (0, &[]));
    let answer = Query::parse(&bytes).unwrap().answer(&Answer::code(rcode::NO_SUCH_NAME, 1));
    assert_eq!(code_of(&answer), rcode::NO_SUCH_NAME);
    assert_eq!(answer[6..12], [0, 0, 0, 1, 0, 0]);
    let soa = &answer[bytes.len()..];
    // Twelve bytes of header, `nothing` and `default` with their lengths.
    assert_eq!(soa[..10], [0xc0, 12 + 8 + 8, 0, 6, 0, 1, 0, 0, 0, 5]);
    assert_eq!(soa[soa.len() - 4..], [0, 0, 0, 5]);
    let whole = Query::parse(&bytes).unwrap().answer(&Answer::code(rcode::NO_ERROR, usize::MAX));
    assert_eq!(whole[bytes.len()..][..2], [0xc0, 12]);
}

#[test]
fn the_largest_answer_fits_what_every_client_takes() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", &label[..61]);
    let bytes = query(&longest, rtype::ANY, (1, &opt(0, 0x80, b"")));
    let asked = Query::parse(&bytes).unwrap();
    let everything = Answer {
        v4: Some(Ipv4Addr::LOCALHOST),
        v6: Some(Ipv6Addr::LOCALHOST),
        name: Some(format!("{label}.{label}.mesh")),
        ..Answer::default()
    };
    assert!(asked.answer(&everything).len() <= MOST_ANSWER);
    assert!(asked.answer(&Answer::code(rcode::NO_SUCH_NAME, 1)).len() <= MOST_ANSWER);
}

#[test]
fn edns_is_answered_by_edns_and_an_unknown_version_by_the_code_for_it() {
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let bytes = query("web", rtype::A, (1, &opt(0, 0x80, &cookie)));
    let answer = Query::parse(&bytes).unwrap().answer(&a("240.240.1.2"));
    assert_eq!(answer[answer.len() - 11..], [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
    let bytes = query("web", rtype::A, (1, &opt(1, 0, b"")));
    let answer = Query::parse(&bytes).unwrap().answer(&a("240.240.1.2"));
    assert_eq!(answer[6..8], [0, 0], "no address");
    assert_eq!(answer[answer.len() - 11..], [0, 0, 41, 4, 208, 1, 0, 0, 0, 0, 0]);
    let twice = [opt(0, 0, b""), opt(0, 0, b"")].concat();
    for (count, more) in
        [(2, &twice[..]), (1, &twice[..9]), (1, b""), (1, &[1, b'a', 0, 0, 41, 0, 0, 0, 0, 0, 0, 0, 0])]
    {
        let bytes = query("web", rtype::A, (count, more));
        assert_eq!(code_of(&Query::parse(&bytes).unwrap().answer(&a("240.240.1.2"))), rcode::FORMAT, "{more:?}");
    }
}

#[test]
fn what_cannot_be_read_is_answered_so_and_what_is_no_query_not_at_all() {
    let good = query("web", rtype::A, (0, &[]));
    let changed = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        Query::parse(&bad).err()
    };
    assert_eq!(Query::parse(&good[..11]).err(), Some(NotAQuery::Noise));
    assert_eq!(changed(2, 0x81), Some(NotAQuery::Noise));
    for end in 12..good.len() {
        assert_eq!(Query::parse(&good[..end]).err(), Some(NotAQuery::Malformed), "{end}");
    }
    // No question, two, a label that is too long, a pointer.
    for (at, byte) in [(5, 0), (5, 2), (12, 64), (12, 0xc0)] {
        assert_eq!(changed(at, byte), Some(NotAQuery::Malformed), "{at}");
    }
    let mut endless = good[..12].to_vec();
    endless.extend([1, b'a'].repeat(128));
    endless.extend([0, 0, 1, 0, 1]);
    assert_eq!(Query::parse(&endless).err(), Some(NotAQuery::Malformed));
    assert_eq!(format_error(&good), [0xab, 0xcd, 0x81, 0x91, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn only_look_ups_of_hosts_are_taken_for_the_meshs() {
    let mut bytes = query("web", rtype::A, (0, &[]));
    let end = bytes.len() - 1;
    for (class, lookup) in [(1, true), (255, true), (3, false), (254, false)] {
        bytes[end] = class;
        assert_eq!(Query::parse(&bytes).unwrap().is_lookup(), lookup, "{class}");
    }
    bytes[end] = 1;
    bytes[2] |= 5 << 3;
    assert!(!Query::parse(&bytes).unwrap().is_lookup(), "an update");
    for odd in ["we b", "web:80", "w\u{fc}b", "[::1]"] {
        assert_eq!(Query::parse(&query(odd, rtype::A, (0, &[]))).unwrap().host(), None, "{odd}");
    }
    assert_eq!(Query::parse(&query("", rtype::A, (0, &[]))).unwrap().host().as_deref(), Some(""));
}

#[test]
fn an_answer_counts_only_with_the_number_and_the_question_of_its_query() {
    let asked = query("web", rtype::A, (1, &opt(0, 0, b"")));
    let good = Query::parse(&asked).unwrap().answer(&a("1.2.3.4"));
    assert!(answers(&asked, &good));
    let changed = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        answers(&asked, &bad)
    };
    assert!(changed(13, b'W'), "a resolver may spell the name its own way");
    for (at, byte) in [(0, 0), (1, 0), (2, 0x05), (5, 2), (13, b'x'), (18, 2), (20, 3)] {
        assert!(!changed(at, byte), "{at}");
    }
    assert!(!answers(&asked, &good[..20]));
    // Some servers leave the question out when they complain.
    assert!(answers(&asked, &format_error(&asked)));
    let mut no_question = format_error(&asked);
    no_question[3] = 0x80;
    assert!(!answers(&asked, &no_question));
}
