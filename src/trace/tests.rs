use super::*;

fn trace(number: u8) -> Trace {
    Trace::new([number; 16], number.into(), 0).unwrap()
}

/// Each test has a thread of its own, and so a key.
#[test]
fn a_thread_is_at_what_it_received_until_it_has_answered_or_receives_again() {
    assert_eq!(current(), None);
    let held = Held::taken(Some(trace(1)));
    assert_eq!(current(), Some(trace(1)));
    let step = next().unwrap();
    assert_eq!((step.id(), step.parent()), ([1; 16], 1));
    assert_ne!(step.span(), next().unwrap().span());
    drop(held);
    assert_eq!(current(), None);
    heard(Some(trace(2)));
    assert_eq!(current(), Some(trace(2)));
    heard(None);
    assert_eq!(current(), None);
    heard(Some(trace(2)));
    done();
    assert_eq!(current(), None);
}

#[test]
fn who_is_at_several_things_is_at_none_for_certain() {
    let first = Held::taken(Some(trace(1)));
    done();
    assert_eq!(current(), None, "it goes on to receive with a request in its hands");
    let second = Held::taken(Some(trace(2)));
    assert_eq!(current(), None);
    heard(Some(trace(3)));
    assert_eq!(current(), None);
    drop(first);
    assert_eq!(current(), None);
    drop(second);
    let third = Held::taken(Some(trace(3)));
    assert_eq!(current(), Some(trace(3)));
    drop(third);
}

#[test]
fn what_is_dropped_elsewhere_is_over_here() {
    let held = Held::taken(Some(trace(1)));
    std::thread::spawn(move || {
        assert_eq!(current(), None);
        drop(held);
    })
    .join()
    .unwrap();
    assert_eq!(current(), None);
}

#[test]
fn a_connection_belongs_to_who_uses_it() {
    let connection = Held::carried(Some(trace(4)));
    assert_eq!(current(), None);
    connection.used();
    connection.used();
    assert_eq!(current(), Some(trace(4)));
    let connection = std::thread::spawn(move || {
        connection.used();
        assert_eq!(current(), Some(trace(4)));
        connection
    })
    .join()
    .unwrap();
    assert_eq!(current(), None);
    run(Some(trace(5)), || {
        connection.used();
        assert_eq!(current(), Some(trace(5)), "who says what it is at, knows better");
    });
}

async fn held(number: u8) {
    assert_eq!(current(), Some(trace(number)));
    tokio::task::yield_now().await;
    assert_eq!(current(), Some(trace(number)));
}

#[test]
fn tasks_of_one_thread_are_told_apart() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let task = |number| async move {
            let held = Held::taken(Some(trace(number)));
            tokio::task::yield_now().await;
            assert_eq!(current(), Some(trace(number)));
            let known = spawn(async { current() }).await.unwrap();
            assert_eq!(known, Some(trace(number)));
            assert_eq!(tokio::spawn(async { current() }).await.unwrap(), None);
            drop(held);
            assert_eq!(current(), None);
        };
        let all: Vec<_> = (1..9).map(|number| tokio::spawn(task(number))).collect();
        for one in all {
            one.await.unwrap();
        }
        tokio::join!(within(Some(trace(1)), held(1)), within(Some(trace(2)), held(2)));
        assert_eq!(current(), None);
    });
}

#[test]
fn who_works_under_a_trace_may_take_another_up_or_receive() {
    let outside = Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    run(Some(trace(1)), || {
        let taken = take_up(outside);
        assert_eq!(current(), Some(taken));
        assert_eq!((taken.id(), taken.parent()), (outside.unwrap().id(), outside.unwrap().span()));
        heard(Some(trace(2)));
        assert_eq!(current(), Some(trace(2)));
        done();
        assert_eq!(current(), None);
        assert_eq!(run(Some(trace(3)), current), Some(trace(3)));
        assert_eq!(current(), None);
    });
    run(Some(trace(1)), || {
        done();
        assert_eq!(current(), None);
    });
    assert_eq!(current(), None);
}

#[test]
fn no_two_traces_are_the_same() {
    let (one, two) = (begin(), begin());
    assert_ne!(one.id(), two.id());
    assert_ne!(one.span(), two.span());
    assert_eq!(one.id()[..8], two.id()[..8], "a process's traces begin alike");
}
