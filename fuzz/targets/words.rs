//! The words by which callers and peers say what they want: whatever they send is refused or means one thing, which is written again
//! as it was read.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use leno_fuzz::model::Demand;
use leno_fuzz::{authority, numbers, opaque, port_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The first byte chooses what is tried with the rest.
    let [choice, bytes @ ..] = bytes else { return };
    match choice % 4 {
        0 => std::str::from_utf8(bytes).map_or((), an_authority),
        1 => std::str::from_utf8(bytes).map_or((), a_port_name),
        2 => bytes.iter().copied().for_each(a_first_byte),
        _ => a_number(bytes),
    }
});

fn an_authority(text: &str) {
    let Some(read) = authority::parse(text, "here") else { return };
    let port = read.port.map_or(String::new(), |port| format!(":{port}"));
    match &read.demand {
        Demand::Service(service) => {
            let (namespace, name) = service.split_once('/').expect("two names");
            let label = |label: &str| !label.is_empty() && label.len() <= 63 && !label.contains(['.', ':', '/', '@']);
            assert!(label(namespace) && label(name), "{text:?}");
            for written in [format!("{name}.{namespace}.svc.cluster.local{port}"), format!("{name}.{namespace}.mesh.{port}")] {
                assert_eq!(authority::parse(&written, "elsewhere").as_ref(), Some(&read), "{text:?}");
            }
            assert_eq!(authority::parse(&text.to_ascii_uppercase(), "here").as_ref(), Some(&read), "{text:?}");
        }
        Demand::Address(address) => {
            assert!(address.parse::<SocketAddr>().is_ok() && read.port.is_none(), "{text:?}");
            assert_eq!(authority::parse(address, "elsewhere").as_ref(), Some(&read), "{text:?}");
        }
        Demand::Gateway(_) => panic!("nobody can ask for a Gateway: {text:?}"),
    }
}

fn a_port_name(text: &str) {
    if let Some((port, http)) = port_name::decode(text) {
        assert_eq!(port_name::encode(port, http), text);
    }
}

fn a_first_byte(byte: u8) {
    match opaque::decode(byte) {
        Ok(()) => assert_eq!(opaque::encode(Ok(())), byte),
        Err(reason) => {
            assert!(reason.unseen(), "another endpoint is tried: {reason:?}");
            assert!(opaque::decode(opaque::encode(Err(reason))).is_err());
        }
    }
}

fn a_number(bytes: &[u8]) {
    if let Some(number) = numbers::number(bytes) {
        let digits = bytes.iter().skip_while(|b| **b == b'0').copied().collect::<Vec<_>>();
        assert_eq!(number.to_string().trim_start_matches('0').as_bytes(), digits);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for grpc in [false, true] {
        let Some(left) = numbers::time_left(text, grpc) else { continue };
        let told = numbers::tell_time_left(left, grpc);
        let read = numbers::time_left(&told, grpc).expect("what is told can be read");
        // Whole seconds where milliseconds would be too long, and no more than eight digits of either.
        let most = Duration::from_millis(99_999_999) * if grpc { 1000 } else { 1 };
        let near = read + Duration::from_secs(1) >= left && read <= left + Duration::from_millis(1);
        assert!(near || (left > most && read <= most), "{text:?}: {told:?}");
    }
}
