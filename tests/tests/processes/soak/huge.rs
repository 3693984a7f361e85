//! Commands as large as a cluster takes, one at a time, and what they must have left behind.

use super::{Cluster, Stop};
use purlin_server::resp::{RespClient, Value};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

const VALUE_BYTES: usize = 500 << 10;
const VALUES: usize = 4;
/// Keys of one command.
const KEYS: usize = 8_192;
/// From one command to the next: 150 KB of log a second.
const PAUSE: Duration = Duration::from_millis(2_000);
const PATIENCE: Duration = Duration::from_secs(20);

/// What a key may hold: what the last command that was done has left there, and what each later command may
/// have left that perhaps was done. Nothing is no value.
type Possible = BTreeSet<Option<usize>>;

pub(super) struct Huge(JoinHandle<Left>);

/// What the commands have left behind.
pub(super) struct Left {
    values: Vec<Possible>,
    keys: Possible,
    done: usize,
}

struct Client {
    gateways: Vec<SocketAddr>,
    at: usize,
    connection: Option<RespClient>,
}

impl Huge {
    pub(super) fn start(gateways: Vec<SocketAddr>, stop: &Arc<Stop>) -> Self {
        let stop = Arc::clone(stop);
        let mut client = Client { gateways, at: 0, connection: None };
        let start = || Possible::from([None]);
        let mut left =
            Left { values: (0..VALUES).map(|_| start()).collect(), keys: start(), done: 0 };
        Self(thread::spawn(move || {
            for round in 0.. {
                if stop.wait(PAUSE) {
                    break;
                }
                left.command(&mut client, round);
            }
            left
        }))
    }

    pub(super) fn end(self) -> Left {
        self.0.join().expect("each command is answered as it must be")
    }
}

impl Left {
    fn command(&mut self, client: &mut Client, round: usize) {
        let name = value_name(round % VALUES);
        let (words, now): (Vec<String>, _) = match round % 3 {
            0 => (vec!["SET".into(), name, value(round)], Some(round)),
            1 => {
                let pairs = keys().flat_map(|key| [key, round.to_string()]);
                (["MSET".into()].into_iter().chain(pairs).collect(), Some(round))
            }
            _ => (["DEL".into()].into_iter().chain(keys()).collect(), None),
        };
        let possible =
            if round.is_multiple_of(3) { &mut self.values[round % VALUES] } else { &mut self.keys };
        if client.is_done(&words) {
            possible.clear();
            self.done += 1;
        }
        possible.insert(now);
    }

    /// Asserts that each node has what must be there.
    pub(super) fn check(&self, cluster: &Cluster) {
        assert!(self.done > 0, "no huge command was done");
        println!("{} huge commands done", self.done);
        for node in &cluster.nodes {
            let mut client = node.client();
            for (place, possible) in self.values.iter().enumerate() {
                let found = client.command(&["GET", &value_name(place)]).expect("it serves");
                let is_right = possible.iter().any(|round| found == bulk(round.map(value)));
                assert!(is_right, "value {place} of rounds {possible:?}");
            }
            let words: Vec<_> = ["MGET".into()].into_iter().chain(keys()).collect();
            let found = client.command(&words).expect("it serves");
            let Value::Array(found) = found else { panic!("MGET answers {found}") };
            assert_eq!(found.len(), KEYS);
            for found in found {
                let is_right =
                    self.keys.iter().any(|round| found == bulk(round.map(|it| it.to_string())));
                assert!(is_right, "a key holds {found}, of rounds {:?}", self.keys);
            }
        }
    }
}

impl Client {
    /// Whether the command is certainly done. The next node is asked when one fails.
    fn is_done(&mut self, words: &[String]) -> bool {
        let gateway = self.gateways[self.at % self.gateways.len()];
        let connection = self.connection.take();
        let connected = connection.map_or_else(|| RespClient::connect(gateway, PATIENCE), Ok);
        let reply = connected.and_then(|mut client| {
            let reply = client.command(words);
            self.connection = Some(client);
            reply
        });
        match reply {
            Ok(Value::Error(_)) => false,
            Ok(_) => true,
            Err(_) => {
                self.connection = None;
                self.at += 1;
                false
            }
        }
    }
}

fn value_name(place: usize) -> String {
    format!("huge:{place}")
}

fn value(round: usize) -> String {
    format!("{round:010}").repeat(VALUE_BYTES / 10)
}

fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|key| format!("many:{key}"))
}

fn bulk(text: Option<String>) -> Value {
    text.map_or(Value::Nil, |text| Value::Bulk(text.into_bytes()))
}
