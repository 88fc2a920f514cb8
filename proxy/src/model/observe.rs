//! Which requests are written down: in the access log, and as traces.

/// What an access log says of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogMode {
    /// Nothing.
    #[default]
    Off,
    /// Those that failed.
    Errors,
    /// A share of those that did not, and all that failed or are traced.
    Sampled,
    /// All of them.
    All,
}

impl LogMode {
    /// In the order of their numbers on the wire.
    pub const ALL: [(&str, Self); 4] =
        [("off", Self::Off), ("errors", Self::Errors), ("sampled", Self::Sampled), ("all", Self::All)];

    /// By its name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, mode)| *mode)
    }
}

/// A share of requests, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share(u32);

impl Share {
    /// Every one.
    pub const ALL: u32 = 1_000_000;

    /// So many millionths; what is more than all is all.
    pub fn millionths(n: u32) -> Self {
        Self(n.min(Self::ALL))
    }

    /// Reads a percentage from 0 to 100, with up to four places.
    pub fn percent(text: &str) -> Option<Self> {
        let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(places) || places.len() > 4 {
            return None;
        }
        let (whole, places): (u32, u32) = (whole.parse().ok()?, format!("{places:0<4}").parse().ok()?);
        let millionths = whole.checked_mul(10_000)?.checked_add(places)?;
        (millionths <= Self::ALL).then_some(Self(millionths))
    }

    /// Whether one request is of the share.
    pub fn draw(self) -> bool {
        self.0 > 0 && (self.0 >= Self::ALL || fastrand::u32(..Self::ALL) < self.0)
    }
}

/// What a policy says; none: nothing, and the sidecar's own flags hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observe {
    /// Of the access log.
    pub log: Option<(LogMode, Option<Share>)>,
    /// How many requests of those that come without a trace begin one.
    pub traces: Option<Share>,
}

impl Observe {
    /// A rule's, where nothing was said of it the service's.
    pub fn over(self, service: Self) -> Self {
        Self { log: self.log.or(service.log), traces: self.traces.or(service.traces) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_read_to_four_places_and_nothing_else_is() {
        for (text, millionths) in
            [("0", 0), ("1", 10_000), ("0.01", 100), ("100", 1_000_000), ("12.3456", 123_456), ("100.0", 1_000_000)]
        {
            assert_eq!(Share::percent(text), Some(Share(millionths)), "{text}");
        }
        for bad in ["", "101", "100.0001", "-1", "1e2", ".5", "5.", "0.00001", "4294967296", "1,5"] {
            assert_eq!(Share::percent(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_share_is_drawn_as_often_as_it_says() {
        let drawn = (0..100_000).filter(|_| Share::percent("10").unwrap().draw()).count();
        assert!((9_000..11_000).contains(&drawn), "{drawn}");
        assert!((0..1_000).all(|_| !Share::default().draw() && Share::millionths(u32::MAX).draw()));
    }
}
