use leno_proto::resource::Resource;
use leno_proto::v1;

use super::*;
use crate::model::testing::endpoints;
use crate::xds::testing::service;

const ME: &str = "spiffe://cluster.local/ns/default/sa/web";

fn example() -> Saved {
    let mut saved = Saved::default();
    let raw = |any: Any| Raw { version: "abc".into(), any: Arc::new(any) };
    saved.held.insert((v1::Service::TYPE_URL, "default/web".into()), raw(service("default/web", &[]).to_any()));
    saved
        .held
        .insert((v1::Endpoints::TYPE_URL, "default/web".into()), raw(endpoints("default/web", "10.0.0.1").to_any()));
    saved.held.set_absent((v1::Service::TYPE_URL, "default/gone".into()));
    saved.demanded = vec![Demand::Service("default/web".into()), Demand::Address("10.0.0.1:80".into())];
    saved
}

#[test]
fn what_is_saved_is_what_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = path(dir.path());
    assert!(load(&path, ME).is_none());
    write(&path, ME, &example());
    let loaded = load(&path, ME).unwrap();
    assert_eq!(loaded.demanded, example().demanded);
    assert!(loaded.held.iter().eq(example().held.iter()));
    assert!(loaded.held.absent().eq(example().held.absent()));
    assert_eq!(loaded.held.bytes(), example().held.bytes());
}

#[test]
fn a_damaged_file_is_ignored_whatever_byte_is_wrong() {
    let good = encode(ME, &example());
    assert!(decode(ME, &good).is_ok());
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 0x55;
        assert!(decode(ME, &damaged).is_err(), "byte {at}");
        assert!(decode(ME, &good[..at]).is_err(), "cut at {at}");
    }
    let longer = [good, vec![0]].concat();
    assert!(decode(ME, &longer).is_err());
}

#[test]
fn a_body_that_is_no_protobuf_is_ignored_even_with_the_right_checksum() {
    let body = [0xff; 40];
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&VERSION.to_be_bytes());
    file.extend_from_slice(&(body.len() as u64).to_be_bytes());
    file.extend_from_slice(&Sha256::digest(body));
    file.extend_from_slice(&body);
    assert!(decode(ME, &file).is_err());
}

#[test]
fn a_snapshot_of_another_identity_is_not_used() {
    assert!(decode("spiffe://cluster.local/ns/default/sa/other", &encode(ME, &example())).is_err());
}

#[test]
fn a_snapshot_above_the_bound_is_neither_written_nor_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = path(dir.path());
    write(&path, ME, &example());
    let mut large = example();
    let any = Arc::new(Any { type_url: v1::Service::TYPE_URL.into(), value: vec![0; MOST_BYTES] });
    large.held.insert((v1::Service::TYPE_URL, "default/large".into()), Raw { version: "1".into(), any });
    write(&path, ME, &large);
    assert_eq!(load(&path, ME).unwrap().held.iter().count(), 2, "the one before is kept");
    std::fs::write(&path, vec![0; MOST_BYTES + 1]).unwrap();
    assert!(load(&path, ME).is_none());
}

#[tokio::test]
async fn changes_are_written_at_once_and_ever_less_often_up_to_one_a_second_and_the_last_one_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (path, unsaved) = (path(dir.path()), Gauge::default());
    let mut saver = Saver::new(path.clone(), ME.to_owned(), unsaved.clone());
    assert!(tokio::time::timeout(Duration::from_millis(20), saver.due()).await.is_err(), "nothing to write");
    let mut pauses = Vec::new();
    for _ in 0..8 {
        saver.touch();
        saver.due().await;
        let (before, now) = (saver.next, Instant::now());
        assert!(now >= before);
        saver.start(Saved::default());
        pauses.push(saver.pause);
    }
    assert!(pauses.is_sorted() && pauses[0] < Duration::from_millis(100), "{pauses:?}");
    assert_eq!(*pauses.last().unwrap(), MOST_PAUSE);
    saver.touch();
    assert!(unsaved.get() >= 1.0, "the last change is not on the disk");
    saver.finish(example).await;
    assert_eq!(load(&path, ME).unwrap().demanded.len(), 2);
    assert_eq!(unsaved.get(), 0.0);
}

#[tokio::test]
async fn what_could_not_be_written_is_told_and_written_with_the_next_change() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("later");
    let unsaved = Gauge::default();
    let mut saver = Saver::new(path(&folder), ME.to_owned(), unsaved.clone());
    saver.touch();
    saver.start(example());
    saver.written().await;
    assert_eq!(unsaved.get(), 1.0);
    std::fs::create_dir(&folder).unwrap();
    saver.touch();
    saver.due().await;
    saver.start(example());
    saver.written().await;
    assert_eq!(unsaved.get(), 0.0);
    assert!(load(&path(&folder), ME).is_some());
}
