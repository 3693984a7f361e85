//! One shard of another node, and the connection on which we write to it.
//!
//! ```text
//!        ┌──────────── pause: beats, doubled by each failure, with jitter ◄────────┐
//!        ▼                                                                          │
//!      dial ──► hello ──► answer ──► up: write what waits, once per flush ──► lost ─┘
//! ```
//!
//! One task does all of this, for as long as the peer is wanted.

use crate::{
    connection::{self, Ended},
    event::{Event, PeerShard},
    exchanger::Exchanger,
    frame::{Decoder, Kind},
    handshake::{self, Answer, Facts, HELLO_BYTES_MAX, Hello, VERSIONS},
    heartbeat::finalize,
    journal::Direction,
    net::{Net, Reader, Writer},
    outbox::Outbox,
    signal::{Leash, Signal},
};
use futures_lite::future;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// A peer that we dial.
pub(crate) struct Peer {
    pub(crate) pair: PeerShard,
    pub(crate) want: Cell<Want>,
    /// The handshake is done and the connection not yet lost.
    pub(crate) is_up: Cell<bool>,
    pub(crate) outbox: RefCell<Outbox>,
    /// Something waits in the outbox, and the turn is over.
    pub(crate) ready: Signal,
    /// It is in the exchanger's list for the next flush.
    pub(crate) is_dirty: Cell<bool>,
    /// Ends the current attempt, connection or pause.
    pub(crate) leash: Leash,
    /// In a row.
    failures: Cell<u32>,
    /// The beat at which the connection came up, if this attempt's did.
    up_since: Cell<Option<u64>>,
}

/// What a peer is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// Nothing any more: its task ends.
    Nothing,
    /// To say how many shards its node has.
    Learning,
    /// To be sent to.
    Sending,
}

/// A write of more than this is cut, so that a slow peer is told from a dead one.
const WRITE_BYTES: usize = 1 << 20;

impl Peer {
    pub(crate) fn new(pair: PeerShard, want: Want, outbox: Outbox) -> Self {
        Self {
            pair,
            want: Cell::new(want),
            is_up: Cell::new(false),
            outbox: RefCell::new(outbox),
            ready: Signal::default(),
            is_dirty: Cell::new(false),
            leash: Leash::default(),
            failures: Cell::new(0),
            up_since: Cell::new(None),
        }
    }

    /// Ends its task, unless it is wanted again before that has noticed.
    pub(crate) fn unwant(&self) {
        self.want.set(Want::Nothing);
        self.leash.drop_it();
    }

    /// Half of the pause is fixed and half is drawn, so that nodes that failed together do not try
    /// together.
    fn pause_beats(&self, seed: u64, min: u64, max: u64) -> u64 {
        let failures = self.failures.get();
        let pause = min.saturating_mul(1 << failures.min(32)).min(max);
        let place = u64::from(self.pair.node.0) << 16 | u64::from(self.pair.shard.0);
        let drawn = finalize(finalize(seed ^ place) ^ u64::from(failures));
        pause - pause / 2 + drawn % (pause / 2 + 1)
    }
}

/// The task of `peer`.
pub(crate) async fn run<N: Net>(exchanger: Rc<Exchanger<N>>, peer: Rc<Peer>) {
    while peer.want.get() != Want::Nothing {
        peer.leash.renew();
        let Err(ended) = attempt(&exchanger, &peer).await;
        exchanger.ended(Direction::Outbound, Some(peer.pair), &ended);
        pause(&exchanger, &peer).await;
    }
    exchanger.forget(&peer);
}

/// Dials, greets, and writes until the connection ends.
async fn attempt<N: Net>(
    exchanger: &Rc<Exchanger<N>>,
    peer: &Peer,
) -> Result<std::convert::Infallible, Ended> {
    peer.leash.set_deadline(Some(exchanger.in_beats(exchanger.config.handshake_beats)));
    let (mut reader, mut writer, facts) = peer.leash.hold(dial(exchanger, peer)).await??;
    peer.leash.set_deadline(None);
    let was_learning = peer.want.get() == Want::Learning;
    exchanger.learned(&facts);
    if peer.want.get() != Want::Sending {
        if was_learning {
            peer.want.set(Want::Nothing);
            exchanger.emit(Event::Learned(facts), 0);
        }
        let _ = writer.close().await;
        return Err(Ended::Dropped);
    }
    exchanger.outbound_up(peer, facts);
    purlin_rsm::sometimes!(peer.failures.get() > 0, "connected again");
    peer.up_since.set(Some(exchanger.now()));
    let ended = future::or(watch(&mut reader), write(exchanger, peer, &mut writer)).await;
    exchanger.outbound_lost(peer);
    ended
}

async fn dial<N: Net>(
    exchanger: &Exchanger<N>,
    peer: &Peer,
) -> Result<(N::Reader, N::Writer, Facts), Ended> {
    let address = exchanger.address(peer.pair).map_err(Ended::Nowhere)?;
    let (mut reader, mut writer) = exchanger.net.connect(&address).await?;
    let hello = Hello { versions: VERSIONS, wanted: peer.pair, facts: exchanger.facts() };
    let durable = exchanger.durable.get();
    connection::write_frame(&mut writer, Kind::Hello, durable, |out| hello.encode(out)).await?;
    let mut decoder = Decoder::new(HELLO_BYTES_MAX);
    let frame = connection::read_frame(&mut reader, &mut decoder).await?;
    connection::expect(&frame, Kind::HelloAnswer)?;
    match Answer::decode(frame.body)? {
        Answer::Refused(refusal) => Err(Ended::Refused { refusal, by_them: true }),
        Answer::Accepted { facts, .. } => {
            let check = |ours: &Facts| handshake::check_answer(&facts, peer.pair, ours);
            let judged = exchanger.judge(&facts, frame.durable, check);
            judged.map_err(|refusal| Ended::Refused { refusal, by_them: false })?;
            Ok((reader, writer, facts))
        }
    }
}

/// Nothing comes on a connection that we dialled, except its end.
async fn watch(reader: &mut impl Reader) -> Result<std::convert::Infallible, Ended> {
    match reader.read(&mut [0; 1]).await? {
        0 => Err(Ended::Closed),
        _ => Err(crate::codec::Malformed { what: "bytes where it may only listen" }.into()),
    }
}

async fn write<N: Net>(
    exchanger: &Exchanger<N>,
    peer: &Peer,
    writer: &mut N::Writer,
) -> Result<std::convert::Infallible, Ended> {
    loop {
        peer.leash.set_deadline(None);
        peer.leash.hold(peer.ready.wait()).await?;
        let bytes = peer.outbox.borrow_mut().take(exchanger.durable.get());
        for piece in bytes.chunks(WRITE_BYTES) {
            peer.leash.set_deadline(Some(exchanger.in_beats(exchanger.config.stall_beats)));
            peer.leash.hold(writer.write_all(piece)).await??;
        }
        peer.outbox.borrow_mut().written(bytes);
    }
}

async fn pause<N: Net>(exchanger: &Exchanger<N>, peer: &Peer) {
    let config = &exchanger.config;
    // A connection that lived for a while has earned a fresh start; one that is dropped at once,
    // again and again, has not.
    let lived = peer.up_since.take().map_or(0, |since| exchanger.now() - since);
    if lived >= 2 * config.backoff_beats_max {
        peer.failures.set(0);
    }
    let beats = peer.pause_beats(config.seed, config.backoff_beats_min, config.backoff_beats_max);
    peer.failures.set(peer.failures.get().saturating_add(1));
    if peer.want.get() == Want::Nothing {
        return;
    }
    peer.leash.renew();
    peer.leash.set_deadline(Some(exchanger.in_beats(beats)));
    let _ = peer.leash.hold(future::pending::<()>()).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{NodeId, ShardId};

    #[test]
    fn pauses_double_up_to_a_bound_and_differ_between_peers() {
        let peer = |node| {
            Peer::new(PeerShard::new(NodeId(node), ShardId(0)), Want::Sending, Outbox::new(1, 1))
        };
        let pauses = |peer: &Peer| -> Vec<u64> {
            let pause = |failures| {
                peer.failures.set(failures);
                peer.pause_beats(9, 4, 64)
            };
            (0..40).map(pause).collect()
        };
        let one = pauses(&peer(1));
        for (failures, beats) in one.iter().enumerate() {
            let most = (4u64 << failures.min(10)).min(64);
            assert!((most / 2..=most).contains(beats), "{failures} failures: {beats}");
        }
        assert_eq!(one, pauses(&peer(1)));
        assert_ne!(one, pauses(&peer(2)));
    }
}
