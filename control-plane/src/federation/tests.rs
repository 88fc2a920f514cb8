use std::cell::RefCell;

use super::*;

fn domain(roots: &[u8]) -> FederatedTrustDomain {
    FederatedTrustDomain { endpoint: None, roots: Some(roots.iter().map(|root| vec![*root]).collect()) }
}

fn document(roots: &[u8], hint: Option<u64>) -> Document {
    Document {
        roots: roots.iter().map(|root| vec![*root]).collect(),
        refresh_hint: hint.map(Duration::from_secs),
        sequence: None,
    }
}

fn federation() -> Federation {
    Federation::new("east.example", Trust::default(), Metrics::new())
}

/// What is published of `west.example` after each fetch, and how long it waited before.
async fn waits(answers: Vec<Result<Document, String>>) -> (Vec<u64>, Published) {
    let this = federation();
    this.put("west.example", Domain { roots: vec![vec![1]].into(), fetched: None, problem: None });
    let (begun, waits) = (tokio::time::Instant::now(), RefCell::new(Vec::new()));
    let fetch = |_| -> Fetching {
        waits.borrow_mut().push(begun.elapsed().as_secs());
        match answers.get(waits.borrow().len() - 1).cloned() {
            Some(answer) => Box::pin(std::future::ready(answer)),
            None => Box::pin(std::future::pending()),
        }
    };
    let all = this.clone().keep("west.example".to_owned(), fetch, |_| ());
    let _ = tokio::time::timeout(Duration::from_secs(1_000_000), all).await;
    (waits.take(), this.known().as_ref().clone())
}

#[tokio::test(start_paused = true)]
async fn a_bundle_is_fetched_as_often_as_its_server_asks_for_within_bounds() {
    let answers = [Some(10), None, Some(0), Some(86_400)].map(|hint| Ok(document(&[2], hint)));
    let (waits, known) = waits(answers.to_vec()).await;
    let second = 10;
    let third = second + USUAL.as_secs();
    // A hint of 0 is a document's own lowest.
    let fourth = third + LEAST.as_secs();
    assert_eq!(waits, [0, second, third, fourth, fourth + MOST.as_secs()]);
    assert_eq!(known["west.example"].roots[..], [vec![2]]);
}

#[tokio::test(start_paused = true)]
async fn what_was_known_holds_while_nothing_can_be_fetched_and_the_reason_is_kept() {
    let (waits, known) = waits(vec![Ok(document(&[2], Some(60))), Err("no".to_owned()), Err("none".to_owned())]).await;
    assert_eq!(waits.len(), 4, "it is tried again");
    let west = &known["west.example"];
    assert_eq!((west.roots[..].to_vec(), west.problem.as_deref()), (vec![vec![2]], Some("none")));
    assert!(west.fetched.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_bundle_without_roots_takes_the_trust_away() {
    let (_, known) = waits(vec![Ok(document(&[], None))]).await;
    assert!(known["west.example"].roots.is_empty());
}

#[tokio::test]
async fn domains_come_change_and_go_with_their_objects_and_ours_is_never_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::store::Store::open(dir.path()).unwrap();
    let (sender, committed) = watch::channel(Arc::new(Committed::default()));
    let this = federation();
    let (_drain, watch) = leno_runtime::drain::channel();
    let task = tokio::spawn(this.clone().run(store.downgrade(), committed, watch));
    let mut seen = this.subscribe();
    let mut with = async |domains: &[(&str, &[u8])], expected: &[(&str, &[u8])]| {
        let mut next = Committed::default();
        let objects = domains.iter().map(|(name, roots)| ((*name).to_owned(), domain(roots)));
        Arc::make_mut(&mut next.mesh).federated_trust_domains = objects.collect();
        sender.send_replace(Arc::new(next));
        let expected: BTreeMap<String, Vec<Vec<u8>>> = expected
            .iter()
            .map(|(name, roots)| ((*name).to_owned(), roots.iter().map(|root| vec![*root]).collect()))
            .collect();
        let is = |known: &Arc<Published>| {
            known.iter().map(|(name, domain)| (name.clone(), domain.roots.to_vec())).collect::<BTreeMap<_, _>>()
                == expected
        };
        let within = Duration::from_secs(10);
        tokio::time::timeout(within, seen.wait_for(is)).await.unwrap().unwrap();
    };
    with(&[("west.example", &[1]), ("east.example", &[9])], &[("west.example", &[1])]).await;
    with(&[("west.example", &[2, 3]), ("north.example", &[4])], &[("west.example", &[2, 3]), ("north.example", &[4])])
        .await;
    with(&[("north.example", &[4])], &[("north.example", &[4])]).await;
    with(&[], &[]).await;
    let many: Vec<String> = (0..=MOST_DOMAINS).map(|n| format!("d{n:03}.example")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &[1][..])).collect();
    with(&many, &many[..MOST_DOMAINS]).await;
    task.abort();
}

#[tokio::test]
async fn what_was_fetched_is_there_after_a_restart_and_only_for_the_object_that_it_was_fetched_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::store::Store::open(dir.path()).unwrap();
    let record = serde_json::json!({"west.example": {"object": "", "roots": ["AA=="], "fetched": 7}});
    store.set_blob("federation", record.to_string().as_bytes()).unwrap();
    assert!(Kept::load(&store.downgrade()).take("west.example", &domain(&[1])).is_none(), "of another object");
    store.set_blob("federation", b"damaged").unwrap();
    assert!(Kept::load(&store.downgrade()).take("west.example", &domain(&[1])).is_none());
}
