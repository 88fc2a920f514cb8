//! What holds of every table of hashes.

use crate::model::{hash, mix};

/// The identities of so many endpoints.
pub(super) fn ids(n: u64) -> Vec<u64> {
    (0..n).map(|n| hash(format!("default/web-{n}").as_bytes())).collect()
}

/// Whom each of the first keys belongs to.
pub(super) fn owners(keys: u64, ids: &[u64], pick: impl Fn(u64, &dyn Fn(usize) -> bool) -> Option<usize>) -> Vec<u64> {
    (0..keys).map(|key| ids[pick(mix(key), &|_| true).unwrap()]).collect()
}

/// The keys of an endpoint that is out go elsewhere and no other moves; when nearly all are out the one that is left is found.
pub(super) fn never_one_that_is_out<P>(table: impl Fn(&'static [u64]) -> P)
where
    P: Fn(u64, &dyn Fn(usize) -> bool) -> Option<usize>,
{
    let pick = table(ids(10).leak());
    for key in (0..10_000).map(mix) {
        let (all, without) = (pick(key, &|_| true).unwrap(), pick(key, &|i| i != 3).unwrap());
        assert!(without != 3 && (all == 3 || all == without));
    }
    assert_eq!(pick(1, &|i| i == 7), Some(7));
    assert_eq!(pick(1, &|_| false), None);
    assert_eq!(table(&[])(1, &|_| true), None);
}
