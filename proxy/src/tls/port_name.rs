//! How a client says which port of the far app it wants: by the server name, so that it costs nothing per request.
//! `PORT.h1.leno.internal`, `PORT.h2.leno.internal`.

const SUFFIX: &str = ".leno.internal";

/// What the far sidecar speaks to its app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppHttp {
    /// HTTP/1.1, or opaque bytes.
    H1,
    /// HTTP/2 with prior knowledge.
    H2,
}

/// The server name for a port.
pub fn encode(port: &str, http: AppHttp) -> String {
    let http = match http {
        AppHttp::H1 => "h1",
        AppHttp::H2 => "h2",
    };
    format!("{port}.{http}{SUFFIX}")
}

/// The port and the protocol that a server name asks for.
pub fn decode(server_name: &str) -> Option<(&str, AppHttp)> {
    let (port, http) = server_name.strip_suffix(SUFFIX)?.rsplit_once('.')?;
    let http = match http {
        "h1" => AppHttp::H1,
        "h2" => AppHttp::H2,
        _ => return None,
    };
    Some((port, http))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_survives_the_server_name() {
        for port in ["http", "8080", "a-b"] {
            let name = encode(port, AppHttp::H2);
            assert!(rustls_pki_types::ServerName::try_from(name.clone()).is_ok(), "{name}");
            assert_eq!(decode(&name), Some((port, AppHttp::H2)));
        }
        for bad in ["", "leno.internal", "http.leno.internal", "http.h3.leno.internal", "example.com"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
