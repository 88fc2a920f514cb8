//! Near endpoints first: those of the own zone, then of the own region, then the others. While the near ones can carry the traffic
//! it stays there; what they cannot, in proportion to how many of them are out, goes to the next.

use crate::model::{Locality, mix};

/// How much more than its share an endpoint is trusted to carry, in percent: traffic begins to leave a zone of which less than
/// 71 % are healthy.
const TRUSTED: usize = 140;

/// How far an endpoint is away: 0 for the own zone, 1 for the own region, 2 for anywhere else. Who does not say where it is, is far.
pub fn distance(own: &Locality, of: &Locality) -> usize {
    let same = |own: &str, of: &str| !own.is_empty() && own == of;
    match (same(&own.region, &of.region) || own.region.is_empty() && of.region.is_empty(), same(&own.zone, &of.zone)) {
        (true, true) => 0,
        (true, false) if !own.region.is_empty() => 1,
        _ => 2,
    }
}

/// The index of the group that a request goes to, of `(eligible, all)` of each, the nearest first. `draw(n)` draws from `0..n`.
pub fn group(groups: impl Iterator<Item = (usize, usize)> + Clone, draw: impl FnOnce(usize) -> usize) -> Option<usize> {
    let carries = |(eligible, all): (usize, usize)| (eligible * TRUSTED).checked_div(all).unwrap_or(0).min(100);
    let (mut rest, mut parts) = (100, 0);
    let shares = groups.map(|group| {
        let share = carries(group).min(rest);
        rest -= share;
        share
    });
    let shares: Vec<usize> = shares.inspect(|share| parts += share).collect();
    if parts == 0 {
        return None;
    }
    let mut at = draw(parts);
    shares.iter().position(|share| {
        let here = at < *share;
        at = at.saturating_sub(*share);
        here
    })
}

/// A draw that a key decides.
pub fn by_key(key: u64) -> impl FnOnce(usize) -> usize {
    // Not the bits that pick the endpoint.
    move |n| (mix(key ^ 0x10ca_1170) % n as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(groups: &[(usize, usize)]) -> Vec<usize> {
        let mut hits = vec![0; groups.len()];
        (0..100).for_each(|at| {
            if let Some(hit) = group(groups.iter().copied(), |n| at * n / 100) {
                hits[hit] += 1;
            }
        });
        hits
    }

    #[test]
    fn traffic_stays_near_and_leaves_in_proportion() {
        assert_eq!(shares(&[(4, 4), (4, 4), (9, 9)]), [100, 0, 0]);
        assert_eq!(shares(&[(3, 4), (4, 4), (9, 9)]), [100, 0, 0], "three of four carry it");
        assert_eq!(shares(&[(2, 4), (4, 4), (9, 9)]), [70, 30, 0]);
        assert_eq!(shares(&[(0, 4), (1, 4), (9, 9)]), [0, 35, 65]);
        assert_eq!(shares(&[(0, 4), (0, 4), (9, 9)]), [0, 0, 100]);
        // Too few everywhere: what is there takes all.
        assert_eq!(shares(&[(1, 4), (0, 4), (0, 9)]), [100, 0, 0]);
        assert_eq!(shares(&[(0, 4)]), [0]);
    }

    #[test]
    fn zone_and_region_say_how_far_an_endpoint_is() {
        let at = |region: &str, zone: &str| Locality { region: region.to_owned(), zone: zone.to_owned() };
        let own = at("eu", "eu-1");
        for (of, far) in [(at("eu", "eu-1"), 0), (at("eu", "eu-2"), 1), (at("eu", ""), 1), (at("us", "eu-1"), 2)] {
            assert_eq!(distance(&own, &of), far, "{of:?}");
        }
        assert_eq!(distance(&at("", "a"), &at("", "a")), 0, "zones without regions");
        assert_eq!(distance(&at("", "a"), &at("", "b")), 2);
        assert_eq!(distance(&at("", ""), &at("", "")), 2);
    }
}
