//! What is kept of sessions, and for how long.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn start(created: SystemTime, ttl: Duration) -> SessionStart {
    SessionStart {
        id: SessionId::generate(),
        tenant: "acme".to_owned(),
        user: "ada".to_owned(),
        kind: SessionKind::Standalone,
        created,
        ttl,
    }
}

fn finished(start: &SessionStart, lived: Duration) -> Finished {
    Finished {
        at: start.created + lived,
        reason: "it was stopped".to_owned(),
        lived,
        prompt: false,
        credits: credits(lived, false),
    }
}

#[test]
fn credits_are_whole_and_have_a_least() {
    for (seconds, prompt, expected) in [
        (0, false, 2),
        (60, false, 2),
        (61, false, 3),
        (3600, false, 120),
        (3601, false, 121),
        (60, true, 7),
        (61, true, 8),
        (3600, true, 420),
    ] {
        assert_eq!(credits(SECOND * seconds, prompt), expected, "{seconds} s");
    }
}

#[tokio::test]
async fn a_session_reads_back_and_its_first_end_stays() {
    let store = Store::in_memory().unwrap();
    let began = start(time(1000), SECOND * 600);
    store.session_began(began.clone()).await.unwrap();
    let record = |finished| SessionRecord {
        tenant: "acme".to_owned(),
        user: "ada".to_owned(),
        finished,
    };
    let found = store.session(began.id).await.unwrap();
    assert_eq!(found, Some(record(None)));
    let end = finished(&began, SECOND * 90);
    store.session_ended(began.id, end.clone()).await.unwrap();
    let later = finished(&began, SECOND * 100);
    store.session_ended(began.id, later).await.unwrap();
    let found = store.session(began.id).await.unwrap();
    assert_eq!(found, Some(record(Some(end))));
    assert_eq!(store.session(SessionId::generate()).await.unwrap(), None);
}

#[tokio::test]
async fn what_a_killed_daemon_left_ends_when_it_was_last_seen() {
    let store = Store::in_memory().unwrap();
    let began = start(time(1000), SECOND * 600);
    store.session_began(began.clone()).await.unwrap();
    store.sessions_seen(time(91_000)).await.unwrap();
    assert_eq!(store.close_sessions("gone".to_owned()).await.unwrap(), 1);
    assert_eq!(store.close_sessions("gone".to_owned()).await.unwrap(), 0);
    let end = Finished {
        reason: "gone".to_owned(),
        ..finished(&began, SECOND * 90)
    };
    let found = store.session(began.id).await.unwrap().unwrap();
    assert_eq!(found.finished, Some(end));
}

#[tokio::test]
async fn old_ends_are_swept_and_live_sessions_never() {
    let store = Store::in_memory().unwrap();
    let [old, new, live] = [1, 50_000, 1].map(|at| start(time(at), SECOND * 600));
    for one in [&old, &new, &live] {
        store.session_began(one.clone()).await.unwrap();
    }
    for one in [&old, &new] {
        let end = finished(one, SECOND);
        store.session_ended(one.id, end).await.unwrap();
    }
    assert_eq!(store.sweep_sessions(time(40_000)).await.unwrap(), 1);
    assert_eq!(store.session(old.id).await.unwrap(), None);
    for one in [new, live] {
        assert!(store.session(one.id).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn usage_is_of_one_owner_and_one_time() {
    let store = Store::in_memory().unwrap();
    let one = start(time(1000), SECOND * 600);
    let other = SessionStart {
        user: "bob".to_owned(),
        ..start(time(1000), SECOND * 600)
    };
    let before = start(time(10), SECOND * 600);
    for began in [&one, &other, &before] {
        store.session_began(began.clone()).await.unwrap();
        let end = finished(began, SECOND * 90);
        store.session_ended(began.id, end).await.unwrap();
    }
    let (tenant, user) = ("acme".to_owned(), "ada".to_owned());
    let used = store.usage(tenant, user, time(1000), time(1001)).await;
    let expected = Usage {
        sessions: 1,
        lived: SECOND * 90,
        credits: 3,
    };
    assert_eq!(used.unwrap(), expected);
}

#[tokio::test]
async fn live_sessions_count_with_all_they_may_use() {
    let store = Store::in_memory().unwrap();
    let ttl = SECOND * 600;
    let allowance = Allowance {
        since: time(0),
        session_minutes: Some(25),
        budget: Some(40),
    };
    let first = start(time(1), ttl);
    for began in [first.clone(), start(time(2), ttl)] {
        let admitted = store.admit_session(began, allowance).await.unwrap();
        assert_eq!(admitted, Ok(()));
    }
    let third = || store.admit_session(start(time(3), ttl), allowance);
    assert_eq!(
        third().await.unwrap(),
        Err(Spent::Minutes {
            allowed: 25,
            left: 5,
            needed: 10
        })
    );
    let unhurried = Allowance {
        session_minutes: None,
        ..allowance
    };
    let refused = store.admit_session(start(time(3), ttl), unhurried).await;
    assert_eq!(
        refused.unwrap(),
        Err(Spent::Credits {
            budget: 40,
            left: 0,
            needed: 20,
            ttl: 600
        })
    );
    // What ended early, or never began, is free again.
    let end = finished(&first, SECOND);
    store.session_ended(first.id, end).await.unwrap();
    assert_eq!(
        third().await.unwrap(),
        Err(Spent::Credits {
            budget: 40,
            left: 18,
            needed: 20,
            ttl: 600
        })
    );
    let short = start(time(4), SECOND * 540);
    let admitted = store.admit_session(short.clone(), allowance).await;
    assert_eq!(admitted.unwrap(), Ok(()));
    store.forget_session(short.id).await.unwrap();
    assert_eq!(store.session(short.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_session_names_the_scrape_whose_browser_it_is() {
    let store = Store::in_memory().unwrap();
    let scrape = ScrapeId::generate();
    let of_scrape = SessionStart {
        kind: SessionKind::Interact(scrape),
        ..start(time(1000), SECOND * 600)
    };
    let standalone = start(time(1000), SECOND * 600);
    for (began, expected) in [(of_scrape, Some(scrape.to_string())), (standalone, None)] {
        let id = began.id.to_string();
        store.session_began(began).await.unwrap();
        let read = store.call(move |transaction| {
            let read = "SELECT scrape_id FROM sessions WHERE id = ?";
            transaction.query_row(read, [id], |row| row.get::<_, Option<String>>(0))
        });
        assert_eq!(read.await.unwrap(), expected);
    }
}
