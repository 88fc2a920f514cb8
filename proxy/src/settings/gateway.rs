//! `--gateway` and `--gateway-listen`: serving a Gateway.

use std::collections::BTreeMap;

use super::parse::{Problems, listen};
use super::{Args, GatewaySettings};

/// Ports of a Gateway that one sidecar serves.
pub const MOST_GATEWAY_PORTS: usize = leno_proto::MOST_GATEWAY_PORTS;

impl GatewaySettings {
    pub(super) fn read(args: &Args, problems: &mut Problems) -> Option<Self> {
        let Some(name) = &args.gateway else {
            if !args.gateway_listen.is_empty() {
                problems.add("--gateway-listen", "say by --gateway which Gateway is served there");
            }
            return None;
        };
        if args.transparent || args.intercept {
            problems.add("--gateway", "a gateway has no app whose traffic could be intercepted");
        }
        let name = problems.take("--gateway", gateway_name(name));
        Some(Self { name, listen: problems.take("--gateway-listen", places(&args.gateway_listen)) })
    }
}

/// Gateways have longer names than Services: a DNS subdomain as Kubernetes has it, where only the whole has a length.
fn gateway_name(text: &str) -> Result<String, String> {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = bytes.first().zip(bytes.last()).is_some_and(|(first, last)| letter(*first) && letter(*last));
        ends && bytes.iter().all(|b| letter(*b) || *b == b'-')
    };
    let good = text.len() <= 253 && text.split('.').all(label);
    if good { Ok(text.to_owned()) } else { Err(format!("{text:?} is no name of a Gateway, such as edge")) }
}

fn places(given: &[String]) -> Result<BTreeMap<u16, String>, String> {
    let mut places = BTreeMap::new();
    for text in given {
        let wrong = || format!("{text:?} is no PORT=ADDR, such as 80=127.0.0.1:8080 or 443=:8443");
        let (port, at) = text.split_once('=').ok_or_else(wrong)?;
        let port = port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        if places.insert(port, listen(at)?).is_some() {
            return Err(format!("port {port} is given twice"));
        }
    }
    match places.len() <= MOST_GATEWAY_PORTS {
        true => Ok(places),
        false => Err(format!("more than {MOST_GATEWAY_PORTS} ports")),
    }
}
