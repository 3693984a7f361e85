//! What these tests ask of a cluster beside what any scenario does: to talk over a connection, and
//! trouble that strikes clients too.

use purlin::{GroupId, NodeId, Runtime, ShardId};
use purlin_tests::{
    cluster::{ClusterOptions, scenario::Scenario},
    resp::{self, Value, Wire, request_bytes},
    sim::{Fault, FaultOptions, Nemesis, SimRuntime},
};
use std::{cell::RefCell, rc::Rc, time::Duration};

pub(crate) const GROUPS: u32 = 4;

/// Three nodes with front ends, to which so many visitors come.
pub(crate) fn served(visitors: u32) -> ClusterOptions {
    ClusterOptions {
        shards: vec![1, 2, 1],
        visitors: Some(visitors),
        pipeline: 12,
        ..ClusterOptions::calm(3, GROUPS)
    }
}

/// A cluster that serves at every node.
pub(crate) fn serving(seed: u64, options: ClusterOptions) -> Scenario {
    let s = Scenario::running_with(seed, options);
    s.nodes().for_each(|node| must_serve(&s, node));
    s
}

/// Talks with a shard over a connection from outside, within a bound.
pub(crate) fn talk<T: 'static>(
    s: &Scenario,
    node: NodeId,
    shard: ShardId,
    limit: Duration,
    talk: impl AsyncFnOnce(Wire) -> T + 'static,
) -> T {
    let runtime = s.world.outside();
    must_end(s, &format!("a talk with node {node} shard {shard}"), limit, async move {
        let address = resp::address(node, shard);
        talk(Wire::connect(&runtime, &address).await.expect("it is taken in")).await
    })
}

/// Talks with the admin port of a node, within a bound.
pub(crate) fn operate<T: 'static>(
    s: &Scenario,
    node: NodeId,
    limit: Duration,
    talk: impl AsyncFnOnce(Wire) -> T + 'static,
) -> T {
    let runtime = s.world.outside();
    must_end(s, &format!("an operator's talk with node {node}"), limit, async move {
        let address = resp::admin_address(node);
        talk(Wire::connect(&runtime, &address).await.expect("it is taken in")).await
    })
}

/// Every group takes a write at the first shard of a node, within a bound.
pub(crate) fn must_serve(s: &Scenario, node: NodeId) {
    const LIMIT: Duration = Duration::from_secs(30);
    let runtime = s.world.outside();
    must_end(s, &format!("node {node} serves"), LIMIT, async move {
        for group in (1..=GROUPS).map(GroupId) {
            while !write_into(&runtime, node, group).await {
                runtime.sleep(Duration::from_millis(50)).await;
            }
        }
    });
}

/// Writes a key of a group, and tells whether that is done.
async fn write_into(runtime: &SimRuntime, node: NodeId, group: GroupId) -> bool {
    let mut keys = (0..).map(|n| format!("probe-{n}"));
    let key = keys.find(|key| resp::group_of(key.as_bytes(), GROUPS) == group);
    let request = request_bytes(&["SET", &key.expect("there are enough"), "x"]);
    let address = resp::address(node, ShardId(0));
    let Ok(mut wire) = Wire::connect(runtime, &address).await else { return false };
    wire.write(&request).await.is_ok()
        && wire.reply().await.is_ok_and(|reply| reply == Value::Simple("OK".into()))
}

/// Runs until a task from outside has ended, and gives what it gave.
fn must_end<T: 'static>(
    s: &Scenario,
    what: &str,
    limit: Duration,
    task: impl Future<Output = T> + 'static,
) -> T {
    let end = Rc::new(RefCell::new(None));
    let given = end.clone();
    s.world.outside().spawn(async move {
        let outcome = task.await;
        *given.borrow_mut() = Some(outcome);
    });
    s.must_reach(what, limit, || end.borrow().is_some());
    end.take().expect("it was reached")
}

/// How many clients a node's first shard says that it has, this question not counted.
pub(crate) fn clients(s: &Scenario, node: NodeId) -> usize {
    let text = talk(s, node, ShardId(0), Duration::from_secs(10), async |mut wire| {
        wire.write(&request_bytes(&["CLIENT", "LIST"])).await.expect("it is sent");
        wire.reply().await.expect("a reply")
    });
    let Value::Bulk(text) = text else { panic!("{text:?} is no text") };
    String::from_utf8_lossy(&text).lines().count() - 1
}

/// Kills nodes, breaks links, those of clients too, and stops cores by chance, and leaves all well in
/// the end.
pub(crate) fn turmoil(s: &Scenario, duration: Duration) {
    let nodes: Vec<NodeId> = s.nodes().collect();
    let mut nemesis = Nemesis::new(FaultOptions {
        nodes: nodes.clone(),
        shards: 1,
        down_max: 1,
        pause_mean: Duration::from_millis(700),
        kinds: vec![
            Fault::Kill,
            Fault::PowerCut,
            Fault::Partition,
            Fault::OneWay,
            Fault::Reset,
            Fault::Pause,
        ],
        beyond: false,
    });
    let end = s.world.now() + duration;
    while s.world.now() < end {
        let pause = nemesis.act(&s.world);
        if s.world.faults().chance(0.2) {
            s.world.reset_connections(NodeId(0), *s.world.faults().pick(&nodes));
        }
        s.run_for(pause.min(end.saturating_sub(s.world.now())));
    }
    nemesis.calm(&s.world);
}

/// The visitors end, every node serves, and all that was told and written was right. Gives how many
/// requests were done, certainly not applied, and unknown.
pub(crate) fn judge(s: &Scenario) -> (usize, usize, usize) {
    let counts = s.judge();
    s.nodes().for_each(|node| must_serve(s, node));
    s.must_converge(Duration::from_secs(20));
    assert_sound(s);
    counts
}

/// No shard has stopped, nothing has panicked, no client was told what it must not be told.
pub(crate) fn assert_sound(s: &Scenario) {
    assert_eq!(s.stops(), []);
    s.assert_sound();
}
