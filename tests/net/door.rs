//! Who is let in to shake hands, and how many at a time.

use cogmesh::net::{DoorBounds, InboxBounds, NetEvent};
use tokio::time::timeout;

use crate::{
    common::{PATIENCE, config, identity, link, node, open},
    raw::Shows,
};

/// One at a time from one address, which must be proved; and loopback is an address like others.
const ONE_AT_A_TIME: DoorBounds = DoorBounds {
    all_per_second: 1_000,
    address_per_second: 100,
    address_at_once: 1,
    unproved_per_second: 0,
    at_once: 128,
    loopback_too: true,
};

#[tokio::test]
async fn the_next_of_an_address_gets_in_when_the_one_before_it_is_admitted() {
    let mut strict = config(1);
    strict.door = ONE_AT_A_TIME;
    let (mut one, mut two, mut three) = (open(strict, InboxBounds::default()), node(2), node(3));
    let (_, from_one) = link(&mut two, &mut one).await;
    assert_eq!(one.endpoint.door_counts().taken, 1);
    assert!(one.endpoint.door_counts().asked > 0, "no handshake without a proved address");
    three.dial(Some(one.id), &[one.address]);
    timeout(PATIENCE, async {
        while one.endpoint.door_counts().address == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the second of an address is ignored while the first is not admitted");
    assert_eq!(one.endpoint.door_counts().taken, 1);
    one.endpoint.admit(from_one);
    one.connected().await;
    three.connected().await;
    assert_eq!(one.endpoint.door_counts().taken, 2);
}

#[tokio::test]
async fn the_next_of_an_address_gets_in_when_the_one_before_it_is_gone() {
    let mut strict = config(1);
    strict.door = ONE_AT_A_TIME;
    let (mut one, mut three) = (open(strict, InboxBounds::default()), node(3));
    let stranger = Shows::honest(&identity(2)).client();
    let silent = stranger.connect(one.address, "x").unwrap().await.unwrap();
    one.connected().await;
    silent.close(0_u32.into(), b"");
    one.disconnected().await;
    link(&mut three, &mut one).await;
}

#[tokio::test]
async fn a_budget_that_is_spent_for_all_is_counted_and_fills_up_again() {
    let mut strict = config(1);
    // Two at once, then one a second.
    strict.door = DoorBounds { all_per_second: 1, unproved_per_second: 0, ..DoorBounds::default() };
    let mut one = open(strict, InboxBounds::default());
    let mut others: Vec<_> = (2..5).map(node).collect();
    for other in &others {
        other.dial(Some(one.id), &[one.address]);
    }
    for _ in 2..5 {
        assert!(matches!(one.next().await, NetEvent::Connected { .. }));
    }
    for other in &mut others {
        other.connected().await;
    }
    let counts = one.endpoint.door_counts();
    // A dialler whose first packets were ignored may have begun afresh.
    assert!(counts.taken >= 3 && counts.rate > 0, "{counts:?}");
}
