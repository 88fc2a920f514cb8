//! How often one address may try to join. A join costs a write to the disk and two signatures' work, before anything is proven.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Joins of one address in a burst: a host full of sidecars starts at once.
const BURST: f64 = 500.0;
/// Joins of one address a second, after the burst.
const PER_SECOND: f64 = 100.0;
/// Most addresses that are remembered. One that is forgotten starts with a full burst.
const MOST_ADDRESSES: usize = 4_096;

struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// A token bucket an address.
#[derive(Default)]
pub struct JoinLimit(Mutex<HashMap<IpAddr, Bucket>>);

impl JoinLimit {
    /// Whether this address may try once more.
    pub fn admit(&self, address: IpAddr, now: Instant) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST_ADDRESSES && !buckets.contains_key(&address) {
            make_room(&mut buckets, now);
        }
        let bucket = buckets.entry(address).or_insert(Bucket { tokens: BURST, filled: now });
        bucket.tokens = level(bucket, now);
        bucket.filled = now;
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }
}

fn level(bucket: &Bucket, now: Instant) -> f64 {
    (bucket.tokens + now.duration_since(bucket.filled).as_secs_f64() * PER_SECOND).min(BURST)
}

/// Forgets the addresses that are back at a full burst, which changes nothing for them; when none is, the quietest one.
fn make_room(buckets: &mut HashMap<IpAddr, Bucket>, now: Instant) {
    buckets.retain(|_, bucket| level(bucket, now) < BURST);
    if buckets.len() < MOST_ADDRESSES {
        return;
    }
    let quietest = buckets.iter().max_by(|a, b| level(a.1, now).total_cmp(&level(b.1, now))).map(|(a, _)| *a);
    if let Some(address) = quietest {
        buckets.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn one_address_is_held_back_after_its_burst_and_another_is_not() {
        let (limit, now) = (JoinLimit::default(), Instant::now());
        let (noisy, quiet) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!((0..1000).filter(|_| limit.admit(noisy, now)).count(), 500);
        assert!(limit.admit(quiet, now));
        let later = now + Duration::from_millis(105);
        assert_eq!((0..1000).filter(|_| limit.admit(noisy, later)).count(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_addresses_are_remembered_than_the_bound() {
        let (limit, now) = (JoinLimit::default(), Instant::now());
        for n in 0..MOST_ADDRESSES as u32 + 1_000 {
            assert!(limit.admit(IpAddr::V4(Ipv4Addr::from_bits(n)), now));
        }
        assert_eq!(limit.0.lock().unwrap().len(), MOST_ADDRESSES);
    }
}
