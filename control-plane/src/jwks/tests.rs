use std::collections::VecDeque;
use std::sync::Mutex;

use leno_runtime::drain;

use super::*;

use super::issuer::Issuer;

/// What the keyring ends with.
type Open = (drain::Drain, watch::Sender<Arc<Committed>>);
type Answers = Arc<Mutex<VecDeque<Result<String, String>>>>;

/// A keyring whose fetches are answered from a list; how often it has asked.
fn scene(answers: &[Result<&str, &str>]) -> (Keyring, HttpsUrl, Arc<Mutex<usize>>, Open) {
    let url = HttpsUrl::parse("https://id.example/jwks").unwrap();
    let keyring = Keyring::new(Trust::default(), Some(url.clone()), &Metrics::new());
    let owned = |answer: &Result<&str, &str>| answer.map(str::to_owned).map_err(str::to_owned);
    let answers: Answers = Arc::new(Mutex::new(answers.iter().map(owned).collect()));
    let asked = Arc::new(Mutex::new(0));
    let (drain, watch) = drain::channel();
    let (sender, committed) = watch::channel(Arc::new(Committed::default()));
    let counted = asked.clone();
    let fetch = move |url: HttpsUrl| -> Fetching {
        *counted.lock().unwrap() += 1;
        let mut answers = answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let parsed = answer.unwrap().map(|json| (json.clone(), KeySet::parse(json.as_bytes()).unwrap()));
        Box::pin(async move { (url, parsed) })
    };
    tokio::spawn(keyring.clone().keep(Remembered::default(), None, committed, watch, fetch));
    (keyring, url, asked, (drain, sender))
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_is_fetched_again_every_five_minutes_and_after_a_failure_soon() {
    let set = Issuer::es256("a").jwks();
    let (keyring, url, asked, _open) = scene(&[Err("no"), Err("no"), Ok(&set)]);
    settle().await;
    assert_eq!((*asked.lock().unwrap(), keyring.keys(&url)), (1, None));
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    assert_eq!((*asked.lock().unwrap(), keyring.keys(&url).is_some()), (3, true));
    tokio::time::sleep(REFRESH - Duration::from_secs(1)).await;
    assert_eq!(*asked.lock().unwrap(), 3);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*asked.lock().unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn who_names_unknown_keys_makes_it_ask_every_ten_seconds_at_most() {
    let set = Issuer::es256("a").jwks();
    let (keyring, url, asked, _open) = scene(&[Ok(&set)]);
    settle().await;
    for _ in 0..500 {
        keyring.ask_again(&url, Duration::from_millis(100)).await;
    }
    let asked = *asked.lock().unwrap();
    assert!((5..=7).contains(&asked), "50 s, and {asked} times");
    // A URL that nobody configured is not asked for anybody.
    let other = HttpsUrl::parse("https://169.254.169.254/").unwrap();
    keyring.ask_again(&other, Duration::from_millis(100)).await;
    assert_eq!(keyring.keys(&other), None);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_cannot_be_fetched_for_a_day_is_withdrawn() {
    let (keyring, url, ..) = scene(&[Err("no")]);
    let (json, set) = (Issuer::es256("a").jwks(), KeySet::default());
    let held = Held { json: json.into(), set: Arc::new(set), fetched: 1_000 };
    let entry = Entry { held: Some(held), due: Instant::now(), begun: None, in_flight: false, retry: LAST_RETRY };
    let mut entries = BTreeMap::from([(url.clone(), entry)]);
    keyring.publish(&mut entries, 1_000 + MOST_STALE);
    assert!(keyring.keys(&url).is_some(), "a day without an answer");
    keyring.publish(&mut entries, 1_001 + MOST_STALE);
    assert_eq!(keyring.keys(&url), None, "it fails closed");
}

#[tokio::test]
async fn what_was_fetched_is_there_after_a_restart_and_as_old_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::store::Store::open(dir.path()).unwrap();
    let url = HttpsUrl::parse("https://id.example/jwks").unwrap();
    let json: Arc<str> = Issuer::es256("a").jwks().into();
    let held = Held { json: json.clone(), set: Arc::default(), fetched: 1_000 };
    held::save(Some(&store.downgrade()), &BTreeMap::from([(&url, &held)]));
    let mut found = None;
    while found.is_none() {
        tokio::task::yield_now().await;
        found = Remembered::load(&store.downgrade()).take(&url);
    }
    let found = found.unwrap();
    assert_eq!((found.json, found.fetched, found.set.len()), (json, 1_000, 1));
}
