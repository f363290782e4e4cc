//! One publisher and several subscribers: order, gaps, the slow, the dead and the late.

use std::time::Duration;

use crate::support::channel::{End, LONG, pair, plan};
use cofferdam::channel::Side;
use cofferdam::ipc::message::{ChannelError, Event, Publisher, SendError, Subscriber, Violation};
use cofferdam::policy::plan::ChannelPlan;
use serde_json::json;

fn news(way: &str) -> ChannelPlan {
    let method = |name| json!({ "name": name, "max": 4096, "direction": way });
    plan(&json!([method("news"), method("other")]), 0, &[])
}

fn subscriber(end: &End) -> Subscriber {
    Subscriber::new(end.channel.clone(), "news")
}

fn met(one: &End, other: &End) {
    std::thread::scope(|scope| {
        scope.spawn(|| other.channel.blocking().wait_for_peer(Some(LONG)).unwrap());
        one.channel.blocking().wait_for_peer(Some(LONG)).unwrap();
    });
}

#[test]
fn every_subscriber_gets_every_message_in_order() {
    // To one it goes forth, to the other back.
    let ((a, one), (two, b)) = (pair(&news("Forth")), pair(&news("Back")));
    met(&a, &one);
    met(&b, &two);
    let publisher = Publisher::new(&[a.channel.clone(), b.channel.clone()], "news", 8).unwrap();
    let (mut one, mut two) = (subscriber(&one), subscriber(&two));
    for n in 0..100_u64 {
        assert_eq!(publisher.publish(&n.to_le_bytes()).unwrap(), 0);
        for subscriber in [&mut one, &mut two] {
            let got = subscriber.blocking().next(Some(LONG)).unwrap();
            assert_eq!((got.number, got.missed, got.body), (n, 0, n.to_le_bytes().to_vec()));
        }
    }
}

#[test]
fn the_slow_lose_the_oldest_and_know_how_many_and_hold_up_nobody() {
    let ((a, slow), (b, quick)) = (pair(&news("Forth")), pair(&news("Forth")));
    met(&a, &slow);
    met(&b, &quick);
    let publisher = Publisher::new(&[a.channel.clone(), b.channel.clone()], "news", 4).unwrap();
    let (mut slow, mut quick) = (subscriber(&slow), subscriber(&quick));
    let mut lost = 0;
    let count = 3_000_u64;
    for n in 0..count {
        lost += publisher.publish(&[&n.to_le_bytes()[..], &[0; 500]].concat()).unwrap();
        assert_eq!(quick.blocking().next(Some(LONG)).unwrap().number, n);
    }
    assert!(lost > 0, "the slow one was waited for");
    let (mut got, mut missed, mut last) = (0, 0, None);
    while last != Some(count - 1) {
        let publication = slow.blocking().next(Some(LONG)).unwrap();
        assert_eq!(publication.body[..8], publication.number.to_le_bytes());
        got += 1;
        missed += publication.missed;
        last = Some(publication.number);
        a.channel.try_recv();
    }
    assert_eq!((got + missed, missed), (count, lost));
}

#[test]
fn who_comes_late_gets_the_last_value_where_it_is_retained() {
    let plan = news("Forth");
    for retain in [true, false] {
        let from = End::new(&plan, Side::From, 0, 1);
        let publisher = Publisher::new(std::slice::from_ref(&from.channel), "news", 4).unwrap();
        let publisher = if retain { publisher.retaining() } else { publisher };
        for n in 0..3 {
            assert_eq!(publisher.publish(&[n]).unwrap(), 0);
        }
        for generation in 1..=3 {
            let end = End::new(&plan, Side::To, 0, generation);
            from.join(&end, &plan);
            met(&from, &end);
            let mut subscriber = subscriber(&end);
            if retain {
                from.channel.try_recv();
                let first = subscriber.blocking().next(Some(LONG)).unwrap();
                assert_eq!((first.number, first.missed, first.body), (2, 0, vec![2]));
            } else {
                let nothing = subscriber.blocking().next(Some(Duration::from_millis(20)));
                assert_eq!(nothing.unwrap_err(), ChannelError::Timeout);
            }
            from.channel.departed(&end.own);
        }
    }
}

#[test]
fn a_dead_subscriber_is_none_and_a_publishers_next_life_begins_anew() {
    let plan = news("Forth");
    let end = End::new(&plan, Side::To, 0, 1);
    let mut subscriber = subscriber(&end);
    for generation in 1..=3 {
        let from = End::new(&plan, Side::From, 0, generation);
        from.join(&end, &plan);
        met(&from, &end);
        let publisher = Publisher::new(std::slice::from_ref(&from.channel), "news", 4).unwrap();
        for n in 0..5 {
            publisher.publish(&[]).unwrap();
            let got = subscriber.blocking().next(Some(LONG)).unwrap();
            assert_eq!((got.number, got.missed, got.from.generation), (n, 0, generation));
        }
        drop((publisher, from));
    }
    let (from, to) = pair(&plan);
    met(&from, &to);
    let publisher = Publisher::new(std::slice::from_ref(&from.channel), "news", 4).unwrap();
    drop(to);
    for _ in 0..1_000 {
        publisher.publish(&[0; 4_000]).unwrap();
    }
    publisher.blocking().flush(Some(LONG)).unwrap();
}

#[test]
fn a_publisher_can_wait_instead_of_losing() {
    let (from, to) = pair(&news("Forth"));
    met(&from, &to);
    let publisher = Publisher::new(std::slice::from_ref(&from.channel), "news", 1).unwrap();
    let reading = std::thread::spawn(move || {
        let mut subscriber = subscriber(&to);
        for n in 0..2_000 {
            let got = subscriber.blocking().next(Some(LONG)).unwrap();
            assert_eq!((got.number, got.missed), (n, 0));
        }
        to
    });
    for _ in 0..2_000 {
        assert_eq!(publisher.publish(&[0; 1_000]).unwrap(), 0);
        publisher.blocking().flush(Some(LONG)).unwrap();
    }
    let to = reading.join().unwrap();
    // Nobody reads now.
    let full = loop {
        publisher.publish(&[0; 4_000]).unwrap();
        match publisher.blocking().flush(Some(Duration::from_millis(20))) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(full, SendError::Timeout);
    drop(to);
}

#[test]
fn the_policy_bounds_what_is_published_and_by_whom() {
    let (from, to) = pair(&news("Forth"));
    let publisher = Publisher::new(std::slice::from_ref(&from.channel), "news", 4).unwrap();
    assert!(publisher.publish(&[0; 4_096 - 8]).is_ok());
    let large = publisher.publish(&[0; 4_096 - 7]).unwrap_err();
    assert!(large.to_string().contains("`[channel.test] methods.news.max`"), "{large}");
    let backwards = Publisher::new(&[to.channel], "news", 4).unwrap_err();
    assert!(matches!(backwards, Violation::Direction { .. }), "{backwards}");
    assert!(Publisher::new(&[from.channel], "weather", 4).is_err());
}

#[test]
fn what_is_no_publication_is_given_back() {
    let (from, to) = pair(&news("Forth"));
    met(&from, &to);
    let sender = from.channel.blocking();
    sender.send("other", vec![1; 20], Some(LONG)).unwrap();
    sender.send("news", vec![1; 7], Some(LONG)).unwrap();
    sender.send("news", vec![255; 8], Some(LONG)).unwrap();
    sender.send("news", vec![0; 8], Some(LONG)).unwrap();
    let mut subscriber = subscriber(&to);
    let mut read = || subscriber.read(to.channel.blocking().recv(Some(LONG)).unwrap());
    assert!(matches!(read(), Err(Event::Message { method, .. }) if method == "other"));
    assert!(matches!(read(), Err(Event::Message { message, .. }) if message.body == [1; 7]));
    // Numbers that a liar makes up are counted without harm.
    assert_eq!(read().unwrap().missed, 0);
    assert_eq!(read().unwrap().missed, 0);
}
