//! Whatever is asked, our answer is one that others can read: the same number, the same question, no longer than what every
//! client takes. And a response that is taken for the answer to a query has that query's number and question.
#![no_main]

use leno_fuzz::message::{Answer, HEADER, MOST_ANSWER, NotAQuery, Query, answers, format_error, rcode};
use leno_fuzz::resolv_conf::ResolvConf;
use libfuzzer_sys::fuzz_target;
use simple_dns::Packet;

fuzz_target!(|bytes: &[u8]| {
    // The first two bytes choose what is tried with the rest.
    let [choice, labels, bytes @ ..] = bytes else { return };
    if *choice == 0xff {
        let conf = ResolvConf::parse(&String::from_utf8_lossy(bytes), 53, |name| (name == "eth0").then_some(2));
        assert!((1..=3).contains(&conf.servers.len()));
        assert!((1..=30).contains(&conf.timeout.as_secs()));
        return;
    }
    // A query and a response to it, cut anywhere.
    let cut = bytes.len() * usize::from(*labels) / 256;
    let (query, response) = bytes.split_at(cut);
    if answers(query, response) {
        assert_eq!(query[..2], response[..2]);
        assert_ne!(response[2] & 0x80, 0);
    }
    match Query::parse(bytes) {
        Ok(query) => answered(bytes, &query, &answer(*choice, *labels)),
        Err(NotAQuery::Malformed) => {
            let reply = format_error(bytes);
            assert_eq!(reply.len(), HEADER);
            assert_eq!(reply[..2], bytes[..2]);
            assert_eq!(Query::parse(&reply).err(), Some(NotAQuery::Noise), "two of us would talk for ever");
        }
        Err(NotAQuery::Noise) => assert!(bytes.len() < HEADER || bytes[2] & 0x80 != 0),
    }
});

fn answer(choice: u8, labels: u8) -> Answer {
    let on = |bit: u8| choice & bit != 0;
    Answer {
        rcode: if on(8) { rcode::NO_SUCH_NAME } else { rcode::NO_ERROR },
        v4: on(1).then(|| [240, 240, choice, labels].into()),
        v6: on(2).then(|| 0xfd6c_656e_6f00_u128.into()),
        name: on(4).then(|| "web.default.mesh".to_owned()),
        zone_labels: labels.into(),
    }
}

fn answered(bytes: &[u8], query: &Query<'_>, answer: &Answer) {
    let reply = query.answer(answer);
    assert!(reply.len() <= MOST_ANSWER);
    assert_eq!(reply[..2], bytes[..2]);
    assert_eq!(Query::parse(&reply).err(), Some(NotAQuery::Noise));
    let code = reply[3] & 0x0f;
    if code == rcode::FORMAT {
        assert_eq!(reply.len(), HEADER);
        return;
    }
    assert_eq!(reply[HEADER..][..query.question().len()], *query.question());
    assert!(answers(bytes, &reply), "we would not take our own answer");
    if let Some(host) = query.host() {
        assert!(host.len() <= 253 && !host.ends_with('.') && host == host.to_ascii_lowercase());
    }
    // A reader that is not ours; it does not know every type and class that a question may have.
    let Ok(packet) = Packet::parse(&reply) else {
        assert!(Packet::parse(&plain(&reply, query)).is_ok(), "{reply:?}");
        return;
    };
    assert_eq!(packet.questions.len(), 1);
    assert!(packet.answers.len() <= 3 && packet.name_servers.len() <= 1);
}

/// The reply with its question's type and class made A and IN.
fn plain(reply: &[u8], query: &Query<'_>) -> Vec<u8> {
    let mut plain = reply.to_vec();
    let end = HEADER + query.question().len();
    plain[end - 4..end].copy_from_slice(&[0, 1, 0, 1]);
    plain[2] &= !0x78;
    plain
}
