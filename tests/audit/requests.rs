//! The ways of requests: what followed from what, and what can't be told.

use crate::support::scene::{Scene, used, who};
use cofferdam::audit::entry::{Entry, Facility, Form, Kind, Side, Who};
use cofferdam::audit::query::{Filter, query};
use cofferdam::audit::ways::{Found, Ways, What};
use cofferdam::audit::{Moment, Record, Store};

crate::support::suite::tests! {
    what_a_layer_does_at_a_request_belongs_to_it,
    two_requests_at_once_are_not_told_apart_and_that_is_said,
    reports_that_come_late_are_put_in_order,
    a_flood_is_bounded,
}

const POLICY: &str = r#"
cofferdam = 1
name = "three"
[layer.a]
run = "a"
[layer.b]
run = "b"
[layer.c]
run = "c"
[channel.ask]
from = "a"
to = "b"
audit = "digest"
methods = ["one", "two"]
[channel.sub]
from = "b"
to = "c"
audit = "digest"
methods = ["get"]
[file.data]
path = "/var/lib/three"
grant = { c = ["read"] }
"#;

fn found(play: impl FnOnce(&mut Scene, [Who; 3])) -> Found {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::begin(folder.path(), POLICY);
    play(&mut scene, [who(0, 1), who(1, 1), who(2, 1)]);
    scene.end();
    let mut ways = Ways::new(10);
    let store = Store::open(folder.path()).unwrap();
    query(&store, &Filter { full: true, ..Filter::default() }, |record| {
        ways.take(&record);
        true
    })
    .unwrap();
    ways.finish()
}

fn what_a_layer_does_at_a_request_belongs_to_it() {
    let found = found(|scene, [a, b, c]| {
        let ask = scene.call("ask", "two", a, b, 10);
        scene.pass(1_000);
        let sub = scene.call("sub", "get", b, c, 10);
        scene.asked(Entry { method: 1, ..used(Facility::File, 0, c, Side::None) }, 0);
        scene.answer(sub, Form::Reply, 10, 0);
        scene.pass(5_000_000);
        scene.answer(ask, Form::Refusal, 10, 0);
        // After its answer, the layer does this on its own.
        scene.pass(1_000);
        let own = scene.call("sub", "get", b, c, 10);
        scene.answer(own, Form::Reply, 10, 0);
    });
    assert_eq!((found.all, found.unsure), (2, 0));
    let way = &found.slowest[0];
    let parents: Vec<_> = way.steps.iter().map(|step| (step.what, step.parent)).collect();
    let expected = [(What::Request, None), (What::Request, Some(0)), (What::Asked, Some(1))];
    assert_eq!(parents, expected);
    assert!(way.steps[0].refused && !way.steps[1].refused);
    assert!((5_000_000..6_000_000).contains(&way.took()), "{}", way.took());
    assert_eq!(found.newest[0].steps.len(), 1);
}

fn two_requests_at_once_are_not_told_apart_and_that_is_said() {
    let found = found(|scene, [a, b, c]| {
        let first = scene.call("ask", "one", a, b, 10);
        let second = scene.call("ask", "two", a, b, 10);
        scene.pass(1_000);
        let sub = scene.call("sub", "get", b, c, 10);
        scene.answer(sub, Form::Reply, 10, 0);
        scene.answer(second, Form::Reply, 10, 0);
        scene.pass(1_000);
        // Now there is one alone.
        let sub = scene.call("sub", "get", b, c, 10);
        scene.answer(sub, Form::Reply, 10, 0);
        scene.answer(first, Form::Reply, 10, 0);
    });
    assert_eq!((found.all, found.unsure), (2, 1));
    let way = |method| found.newest.iter().find(|way| way.steps[0].method == method).unwrap();
    assert!(way(1).steps[1].unsure);
    assert!(!way(0).steps[1].unsure);
}

fn reports_that_come_late_are_put_in_order() {
    use Form::{Reply, Request};
    use Side::{Receiver, Sender};
    let record = |index: u64, reported: u64, entry: Entry| Record {
        index,
        at: Moment { real: index, monotonic: 1_000_000_000 + index },
        entry: Entry { reported, ..entry },
        payload: None,
    };
    let (a, b, c) = (who(0, 1), who(1, 1), who(2, 1));
    let said = |edge, form, value, side, reporter, peer| Entry {
        facility: Facility::Channel,
        edge,
        form,
        value,
        side,
        reporter,
        peer,
        ..Entry::new(Kind::Use)
    };
    // Each layer's reports come at once: the caller's first, then those of the one in between.
    let records = [
        record(0, 100, said(0, Request, 1, Sender, a, b)),
        record(1, 900, said(0, Reply, 1, Receiver, a, b)),
        record(2, 200, said(0, Request, 1, Receiver, b, a)),
        record(3, 300, said(1, Request, 7, Sender, b, c)),
        record(4, 700, said(1, Reply, 7, Receiver, b, c)),
        record(5, 800, said(0, Reply, 1, Sender, b, a)),
        record(6, 400, said(1, Request, 7, Receiver, c, b)),
        record(7, 600, said(1, Reply, 7, Sender, c, b)),
    ];
    let mut ways = Ways::new(5);
    for record in &records {
        ways.take(record);
    }
    let found = ways.finish();
    assert_eq!((found.all, found.unsure, found.newest.len()), (1, 0, 1));
    let way = &found.newest[0];
    assert_eq!((way.took(), way.steps.len(), way.steps[1].parent), (800, 2, Some(0)));
}

fn a_flood_is_bounded() {
    let mut ways = Ways::new(3);
    for n in 0..200_000_u32 {
        let entry = Entry {
            facility: Facility::Channel,
            edge: u16::try_from(n % 7).unwrap(),
            form: if n % 2 == 0 { Form::Request } else { Form::Message },
            value: n,
            sequence: n.into(),
            side: if n % 3 == 0 { Side::Sender } else { Side::Receiver },
            reporter: who(u16::try_from(n % 1_000).unwrap(), 1),
            peer: who(u16::try_from(n % 13).unwrap(), 1),
            reported: u64::from(n) * 10,
            ..Entry::new(Kind::Use)
        };
        let at = Moment { real: 0, monotonic: u64::from(n) * 10 };
        ways.take(&Record { index: n.into(), at, entry, payload: None });
    }
    let found = ways.finish();
    assert!(found.all > 0);
    let steps = |way: &std::sync::Arc<cofferdam::audit::ways::Way>| way.steps.len();
    assert!(found.newest.iter().chain(&found.slowest).map(steps).max().unwrap() <= 48);
}
