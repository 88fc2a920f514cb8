use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::{self, Folder};
use crate::model::{Action, Kind, Name, ObjectKey, Workload};
use crate::validate;

fn service(name: &str, port: u16) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n")
}

fn batch(texts: &[String]) -> Batch {
    let objects = texts.iter().flat_map(|text| config::parse("x.yaml", text.as_bytes()).objects).collect();
    let checked = validate::batch(objects);
    assert!(checked.refused.is_empty(), "{:?}", checked.problems);
    Batch { upserts: checked.valid, actor: "test".into(), ..Batch::default() }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Service, "default", name)
}

fn port(store: &Store, name: &str) -> Option<u16> {
    store.committed().mesh.services.get(&Name::new("default", name)).map(|s| s.ports[0].number)
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_an_abrupt_end() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.committed().revision, 0);
    store.apply(batch(&[service("web", 80)])).await.unwrap();
    let applied = store.apply(batch(&[service("web", 81), service("api", 1)])).await.unwrap();
    assert_eq!(applied.revision, 2);
    // The file as it is while the store is open is what a kill -9 leaves.
    std::fs::copy(dir.path().join("leno.redb"), copy.path().join("leno.redb")).unwrap();
    let again = Store::open(copy.path()).unwrap();
    assert_eq!(again.committed().revision, 2);
    assert_eq!(again.committed().mesh, store.committed().mesh);
    assert_eq!(again.object(&key("web")).unwrap().unwrap()["spec"]["ports"][0]["port"], 81);
    assert_eq!(again.objects(Kind::Service, None).unwrap().len(), 2);
    assert_eq!(again.objects(Kind::Service, Some("defaul")).unwrap().len(), 0);
}

#[tokio::test]
async fn a_batch_that_changes_nothing_makes_no_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut seen = store.subscribe();
    store.apply(batch(&[service("web", 80)])).await.unwrap();
    assert!(seen.has_changed().unwrap());
    assert_eq!(seen.borrow_and_update().revision, 1);
    let applied = store.apply(batch(&[service("web", 80)])).await.unwrap();
    assert_eq!((applied.revision, applied.changes[0].action), (1, Action::Unchanged));
    let dry = Batch { dry_run: true, ..batch(&[service("web", 90)]) };
    let applied = store.apply(dry).await.unwrap();
    assert_eq!((applied.revision, applied.changes[0].action), (1, Action::Configured));
    let gone = Batch { deletes: vec![key("nothing")], ..Batch::default() };
    assert_eq!(store.apply(gone).await.unwrap().revision, 1);
    assert!(!seen.has_changed().unwrap());
    assert_eq!(port(&store, "web"), Some(80));
}

#[tokio::test]
async fn a_rollback_is_a_new_revision_with_the_objects_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.apply(batch(&[service("web", 80), service("old", 1)])).await.unwrap();
    store.apply(batch(&[service("web", 81), service("new", 2)])).await.unwrap();
    store.apply(Batch { deletes: vec![key("old")], ..batch(&[service("web", 82)]) }).await.unwrap();
    let applied = store.rollback(1, &"me".into()).await.unwrap();
    assert_eq!(applied.revision, 4);
    assert_eq!((port(&store, "web"), port(&store, "old"), port(&store, "new")), (Some(80), Some(1), None));
    let history = store.history(10).unwrap();
    assert_eq!(history.iter().map(|r| r.revision).collect::<Vec<_>>(), [4, 3, 2, 1]);
    assert_eq!((history[0].actor.as_str(), history[0].message.as_str()), ("me", "rollback to revision 1"));
    assert_eq!(history[0].changes.len(), 3);
    // And forth again, and once more to where we are.
    assert_eq!(store.rollback(3, &"me".into()).await.unwrap().revision, 5);
    assert_eq!((port(&store, "web"), port(&store, "old"), port(&store, "new")), (Some(82), None, Some(2)));
    assert_eq!(store.rollback(5, &"me".into()).await.unwrap().revision, 5);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((port(&store, "web"), port(&store, "old"), store.committed().revision), (Some(82), None, 5));
    for unknown in [0, 6, 99] {
        let error = store.rollback(unknown, &"me".into()).await.unwrap_err().to_string();
        assert!(error.contains(&format!("no revision {unknown}; kept are 1 to 5")), "{error}");
    }
}

#[tokio::test]
async fn a_route_keeps_the_time_at_which_it_was_first_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let route = |host: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec: {{hostnames: [{host}], parentRefs: [{{kind: Service, name: web}}]}}"
        )
    };
    store.apply(batch(&[route("a")])).await.unwrap();
    let created = || store.committed().mesh.http_routes[&Name::new("default", "r")].created;
    let first = created();
    assert!(first > 1_700_000_000);
    store.apply(batch(&[route("b")])).await.unwrap();
    assert_eq!(created(), first);
}

fn token(secret: u8) -> TokenRecord {
    let now = time::OffsetDateTime::now_utc();
    TokenRecord::new(
        "spiffe://cluster.local/ns/default/sa/web".into(),
        [secret; 32],
        now,
        now + Duration::from_secs(60),
    )
}

#[tokio::test]
async fn a_token_is_good_once_even_after_an_abrupt_end() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let now = time::OffsetDateTime::now_utc();
    for id in ["a", "b"] {
        store.insert_token(id, &token(1), &"admin".into()).unwrap();
    }
    assert!(matches!(store.consume_token("z", [1; 32], now, "10.0.0.1:1"), Err(TokenRefusal::Unknown)));
    assert!(matches!(store.consume_token("a", [2; 32], now, "10.0.0.1:1"), Err(TokenRefusal::Unknown)));
    let late = now + Duration::from_secs(61);
    assert!(matches!(store.consume_token("b", [1; 32], late, "10.0.0.1:1"), Err(TokenRefusal::Expired)));
    assert_eq!(store.consume_token("a", [1; 32], now, "10.0.0.1:1").unwrap().identity, token(1).identity);
    assert!(matches!(store.consume_token("a", [1; 32], now, "10.0.0.1:1"), Err(TokenRefusal::Used)));
    std::fs::copy(dir.path().join("leno.redb"), copy.path().join("leno.redb")).unwrap();
    let again = Store::open(copy.path()).unwrap();
    assert!(matches!(again.consume_token("a", [1; 32], now, "10.0.0.1:1"), Err(TokenRefusal::Used)));
    assert!(again.consume_token("b", [1; 32], now, "10.0.0.1:1").is_ok());
}

#[test]
fn of_many_that_redeem_a_token_at_once_one_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.insert_token("a", &token(1), &"admin".into()).unwrap();
    let now = time::OffsetDateTime::now_utc();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || store.consume_token("a", [1; 32], now, "10.0.0.1:1").is_ok())
        })
        .collect();
    let good = threads.into_iter().map(|t| t.join().unwrap()).filter(|ok| *ok).count();
    assert_eq!(good, 1);
}

#[test]
fn more_tokens_than_the_bound_are_refused_until_some_are_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    {
        let (_writer, transaction) = store.0.write().unwrap();
        let record = tables::encode("x", &token(1)).unwrap();
        {
            let mut table = transaction.open_table(tables::TOKENS).unwrap();
            for n in 0..MOST_TOKENS {
                table.insert(n.to_string().as_str(), record.as_slice()).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    let error = store.insert_token("more", &token(1), &"admin".into()).unwrap_err().to_string();
    assert!(error.contains("10000 tokens"), "{error}");
    let later = TokenRecord { created_unix: token(1).expires_unix + 1, expires_unix: i64::MAX, ..token(1) };
    store.insert_token("more", &later, &"admin".into()).unwrap();
}

#[test]
fn a_second_process_an_unwritable_folder_and_a_damaged_file_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("in use by another control plane"), "{error}");
    drop(store);
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = Store::open(&file.join("state")).err().unwrap();
    assert!(error.to_string().contains("--state-dir"), "{error}");
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let made = dir.path().join("a/b");
    drop(Store::open(&made).unwrap());
    assert_eq!((mode(&made), mode(&made.join("leno.redb"))), (0o700, 0o600));
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_never_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leno.redb");
    let store = Store::open(dir.path()).unwrap();
    for n in 0..20 {
        store.apply(batch(&[service(&format!("s{n}"), 80)])).await.unwrap();
    }
    drop(store);
    let good = std::fs::read(&path).unwrap();
    let mut damaged = vec![
        b"this is no database".to_vec(),
        good[..good.len() / 2].to_vec(),
        vec![0; good.len()],
        good[..700].to_vec(),
    ];
    for n in 0..40 {
        let mut bytes = good.clone();
        let at = n * bytes.len() / 40;
        let end = (at + 3000).min(bytes.len());
        bytes[at..end].fill(0xa5);
        damaged.push(bytes);
    }
    let mut refused = 0;
    for bytes in damaged {
        std::fs::write(&path, bytes).unwrap();
        // Damage in a page that nothing uses any more is no damage.
        match Store::open(dir.path()) {
            Ok(store) => assert_eq!(store.committed().mesh.services.len(), 20),
            Err(error) => {
                assert!(error.to_string().contains("leno.redb"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused >= 4, "{refused}");
}

#[tokio::test]
async fn blobs_and_workloads_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.authority().unwrap(), None);
    store.set_authority(b"ca").unwrap();
    store.set_blob("admin", b"x").unwrap();
    assert!(store.set_blob("large", &vec![0; (1 << 20) + 1]).is_err());
    let workload = |name: &str| Workload {
        name: Name::new("default", name),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        address: "127.0.0.1".parse().unwrap(),
        mesh_port: Some(15008),
        identity: Some("spiffe://cluster.local/ns/default/sa/web".into()),
        ports: [("http".to_owned(), 80)].into(),
        healthy: true,
        more_addresses: vec![],
        any_port: false,
        lineage: None,
    };
    store.put_workload(&workload("a")).unwrap();
    store.put_workload(&workload("b")).unwrap();
    store.delete_workload(&Name::new("default", "a")).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.authority().unwrap().as_deref(), Some(&b"ca"[..]));
    assert_eq!(store.blob("admin").unwrap().as_deref(), Some(&b"x"[..]));
    assert_eq!(store.workloads(), [workload("b")]);
}

#[tokio::test]
async fn the_log_keeps_no_more_than_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    {
        let (_writer, transaction) = store.0.write().unwrap();
        let record = tables::RevisionRecord { time: 0, actor: "x".into(), message: String::new(), changes: Vec::new() };
        let record = tables::encode("x", &record).unwrap();
        {
            let mut table = transaction.open_table(tables::REVISIONS).unwrap();
            for n in 1..=revision::MOST_REVISIONS {
                table.insert(n, record.as_slice()).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.apply(batch(&[service("web", 80)])).await.unwrap().revision, 10_001);
    let history = store.history(usize::MAX).unwrap();
    assert_eq!((history.len(), history.last().unwrap().revision), (10_000, 2));
    assert!(store.rollback(1, &"me".into()).await.is_err());
    assert!(store.rollback(2, &"me".into()).await.is_ok());
}

struct Files(tempfile::TempDir);

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self) -> Folder {
        config::read_folder(self.0.path()).unwrap()
    }
}

#[tokio::test]
async fn a_folder_is_applied_and_an_object_that_leaves_it_is_deleted() {
    let state = tempfile::tempdir().unwrap();
    let store = Store::open(state.path()).unwrap();
    let files = Files(tempfile::tempdir().unwrap());
    store.apply(batch(&[service("by-hand", 1)])).await.unwrap();
    files.write("a.yaml", &service("a", 1));
    files.write("b.yaml", &service("b", 1));
    store.sync_folder(files.read()).await.unwrap();
    assert_eq!((port(&store, "a"), port(&store, "b"), store.committed().revision), (Some(1), Some(1), 2));
    store.sync_folder(files.read()).await.unwrap();
    assert_eq!(store.committed().revision, 2);
    std::fs::remove_file(files.path("b.yaml")).unwrap();
    store.sync_folder(files.read()).await.unwrap();
    assert_eq!((port(&store, "a"), port(&store, "b"), port(&store, "by-hand")), (Some(1), None, Some(1)));
    assert_eq!(store.history(1).unwrap()[0].actor, "config-dir");
}

#[tokio::test]
async fn an_unchanged_file_does_not_undo_a_later_apply_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let files = Files(tempfile::tempdir().unwrap());
    files.write("a.yaml", &service("a", 1));
    let store = Store::open(state.path()).unwrap();
    store.sync_folder(files.read()).await.unwrap();
    store.apply(batch(&[service("a", 2)])).await.unwrap();
    drop(store);
    let store = Store::open(state.path()).unwrap();
    store.sync_folder(files.read()).await.unwrap();
    assert_eq!(port(&store, "a"), Some(2));
    files.write("a.yaml", &service("a", 3));
    store.sync_folder(files.read()).await.unwrap();
    assert_eq!(port(&store, "a"), Some(3));
}

#[tokio::test]
async fn the_last_good_version_stays_while_a_file_is_broken() {
    let state = tempfile::tempdir().unwrap();
    let store = Store::open(state.path()).unwrap();
    let files = Files(tempfile::tempdir().unwrap());
    files.write("a.yaml", &service("a", 1));
    files.write("b.yaml", &service("b", 1));
    files.write("c.yaml", &service("c", 1));
    store.sync_folder(files.read()).await.unwrap();
    files.write("a.yaml", &service("a", 0));
    files.write("b.yaml", "b: [");
    files.write("c2.yaml", &service("c", 2));
    files.write("good.yaml", &service("good", 7));
    let done = store.sync_folder(files.read()).await.unwrap();
    assert_eq!(done.problems.iter().filter(|p| p.is_error()).count(), 4, "{:?}", done.problems);
    let ports = ["a", "b", "c", "good"].map(|name| port(&store, name));
    assert_eq!(ports, [Some(1), Some(1), Some(1), Some(7)]);
    // A file that cannot be read is not a file that is gone.
    std::fs::remove_file(files.path("b.yaml")).unwrap();
    std::os::unix::fs::symlink(files.path("nowhere"), files.path("b.yaml")).unwrap();
    std::fs::remove_file(files.path("a.yaml")).unwrap();
    store.sync_folder(files.read()).await.unwrap();
    assert_eq!((port(&store, "a"), port(&store, "b")), (None, Some(1)));
}

#[tokio::test]
async fn a_follower_applies_changes_and_names_problems() {
    let state = tempfile::tempdir().unwrap();
    let store = Store::open(state.path()).unwrap();
    let files = Files(tempfile::tempdir().unwrap());
    files.write("a.yaml", &service("a", 1));
    let mut follower = Follower::new(store.clone(), files.0.path());
    follower.sync().await.unwrap();
    assert_eq!(port(&store, "a"), Some(1));
    let mut problems = follower.problems();
    let mut committed = store.subscribe();
    let (drain, watch) = leno_runtime::drain::channel();
    let running = tokio::spawn(follower.run(watch));
    files.write("a.yaml", &service("a", 2));
    let within = Duration::from_secs(10);
    tokio::time::timeout(within, committed.wait_for(|c| c.revision == 2)).await.unwrap().unwrap();
    assert_eq!(port(&store, "a"), Some(2));
    files.write("bad.yaml", "b: [");
    tokio::time::timeout(within, problems.wait_for(|p| p.len() == 1)).await.unwrap().unwrap();
    drain.start();
    running.await.unwrap();
}

#[tokio::test]
async fn what_is_in_a_secret_is_nowhere_in_the_file_and_comes_back_by_a_rollback() {
    let dir = tempfile::tempdir().unwrap();
    let secret = |value: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{password: {value}}}\n")
    };
    let of = |store: &Store| {
        let object = store.object(&ObjectKey::new(Kind::Secret, "default", "s")).unwrap().unwrap();
        object["data"]["password"].as_str().map(str::to_owned)
    };
    let store = Store::open(dir.path()).unwrap();
    store.apply(batch(&[secret("hunter2hunter2")])).await.unwrap();
    let again = store.apply(batch(&[secret("hunter2hunter2")])).await.unwrap();
    assert_eq!(again.changes[0].action, Action::Unchanged);
    store.apply(batch(&[secret("correcthorse")])).await.unwrap();
    assert_eq!(of(&store).as_deref(), Some("Y29ycmVjdGhvcnNl"));
    store.rollback(1, &"test".into()).await.unwrap();
    assert_eq!(of(&store).as_deref(), Some("aHVudGVyMmh1bnRlcjI="));
    let file = std::fs::read(dir.path().join("leno.redb")).unwrap();
    let text = String::from_utf8_lossy(&file);
    for word in ["hunter2", "aHVudGVyM", "correcthorse", "Y29ycmVj"] {
        assert!(!text.contains(word), "{word}");
    }

    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert!(store.refused().is_empty() && store.committed().mesh.secrets.len() == 1);
    drop(store);
    std::fs::remove_file(dir.path().join("secrets.key")).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(store.refused()[0].message.contains("secrets.key"), "the rest goes on: {:?}", store.refused());
    let applied = store.apply(batch(&[secret("correcthorse")])).await.unwrap();
    assert_eq!((applied.changes[0].action, of(&store).is_some()), (Action::Configured, true));
}

#[tokio::test]
async fn times_of_conditions_are_kept_and_go_with_their_objects() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.apply(batch(&[service("web", 80)])).await.unwrap();
    store.set_status_times(&[(key("web"), b"then".to_vec()), (key("nothing"), b"never".to_vec())]).unwrap();
    let known = |store: &Store| store.status_times(&[key("nothing"), key("web")]).unwrap();
    assert_eq!(known(&store), [None, Some(b"then".to_vec())], "of what is not there nothing is kept");
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    store.apply(batch(&[service("web", 81)])).await.unwrap();
    assert_eq!(known(&store)[1], Some(b"then".to_vec()));
    store.apply(Batch { deletes: vec![key("web")], ..Batch::default() }).await.unwrap();
    store.apply(batch(&[service("web", 81)])).await.unwrap();
    assert_eq!(known(&store), [None, None]);
}
