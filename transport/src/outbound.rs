//! The task of a peer that this shard dials: it keeps the connection on which we write to the peer.
//!
//! ```text
//!        ┌──────────────── pause: one or two beats, which never grow ◄─────────────┐
//!        ▼                                                                          │
//!      dial ──► hello ──► answer ──► up: write what waits, once per flush ──► lost ─┘
//!                                     └─ unwanted: write what waits, close our direction, wait for the peer to close
//! ```
//!
//! One task does all of this, for as long as the peer is wanted.

use crate::{
    connection::{self, Ended},
    event::Event,
    frame::{Decoder, Kind},
    handshake::{self, Answer, Facts, HELLO_BYTES_MAX, Hello, VERSIONS},
    handshakes::Source,
    hub::Hub,
    links::Direction,
    net::{Net, Reader, Writer},
    peer::{Peer, Want},
};
use futures_lite::future;
use std::rc::Rc;

/// A write of more than this is cut, so that a slow peer is told from a dead one.
const WRITE_BYTES: usize = 1 << 20;

/// The task of `peer`.
pub(crate) async fn run<N: Net>(hub: Rc<Hub<N>>, peer: Rc<Peer>) {
    while peer.want.get() != Want::Nothing {
        peer.cancel.reset();
        let Err(ended) = attempt(&hub, &peer).await;
        hub.ended(Direction::Outbound, peer.id, &ended);
        pause(&hub, &peer).await;
    }
    hub.forget(&peer);
}

/// Dials, greets, and writes until the connection ends.
async fn attempt<N: Net>(hub: &Rc<Hub<N>>, peer: &Peer) -> Result<std::convert::Infallible, Ended> {
    peer.cancel.set_deadline(Some(hub.in_beats(hub.config.handshake_beats)));
    let (mut reader, mut writer, facts) = peer.cancel.guard(dial(hub, peer)).await??;
    peer.cancel.set_deadline(None);
    let was_learning = peer.want.get() == Want::Learning;
    hub.learned(&facts);
    if peer.want.get() != Want::Sending {
        if was_learning {
            peer.want.set(Want::Nothing);
            hub.emit(Event::Learned(facts), 0);
        }
        let _ = writer.close().await;
        return Err(Ended::Dropped);
    }
    hub.outbound_up(peer, facts);
    purlin_rsm::sometimes!(peer.failures.replace(0) > 0, "connected again");
    let ended = match future::or(watch(&mut reader), write(hub, peer, &mut writer)).await {
        Ok(()) => {
            // The peer closes the connection once it has read all that was written.
            drop(writer);
            match peer.cancel.guard(watch(&mut reader)).await {
                Ok(Err(ended)) => ended,
                Ok(Ok(())) => Ended::Closed,
                Err(cancelled) => cancelled.into(),
            }
        }
        Err(ended) => ended,
    };
    hub.outbound_lost(peer);
    Err(ended)
}

async fn dial<N: Net>(hub: &Hub<N>, peer: &Peer) -> Result<(N::Reader, N::Writer, Facts), Ended> {
    let address = hub.address(peer.id).map_err(Ended::Nowhere)?;
    let (mut reader, mut writer) = hub.net.connect(&address).await?;
    let hello = Hello { versions: VERSIONS, wanted: peer.id, facts: hub.facts() };
    let durable = hub.durable.get();
    connection::write_frame(&mut writer, Kind::Hello, durable, |out| hello.encode(out)).await?;
    let mut decoder = Decoder::new(HELLO_BYTES_MAX);
    let frame = connection::read_frame(&mut reader, &mut decoder).await?;
    connection::expect(&frame, Kind::HelloAnswer)?;
    match Answer::decode(frame.body)? {
        Answer::Refused(refusal) => Err(Ended::Refused { refusal, by_them: true }),
        Answer::Accepted { facts, .. } => {
            let check = |ours: &Facts| handshake::check_answer(&facts, peer.id, ours);
            let judged = hub.judge(&facts, frame.durable, check);
            judged.map_err(|refusal| Ended::Refused { refusal, by_them: false })?;
            if let Some(address) = reader.remote() {
                hub.arrivals.handshakes.borrow_mut().know(peer.id.node, Source::Met, address);
            }
            Ok((reader, writer, facts))
        }
    }
}

/// Nothing comes on a connection that we dialled, except its end.
async fn watch(reader: &mut impl Reader) -> Result<(), Ended> {
    match reader.read(&mut [0; 1]).await? {
        0 => Err(Ended::Closed),
        _ => Err(crate::codec::Malformed { what: "bytes where it may only listen" }.into()),
    }
}

/// Writes what waits, until the connection ends, or until the peer is not wanted and nothing waits.
async fn write<N: Net>(hub: &Hub<N>, peer: &Peer, writer: &mut N::Writer) -> Result<(), Ended> {
    loop {
        peer.cancel.set_deadline(None);
        peer.cancel.guard(peer.ready.wait()).await?;
        loop {
            let piece = peer.outbox.borrow_mut().take(hub.durable.get());
            let Some(piece) = piece else { break };
            for bytes in piece.chunks(WRITE_BYTES) {
                peer.cancel.set_deadline(Some(hub.in_beats(hub.config.stall_beats)));
                peer.cancel.guard(writer.write_all(bytes)).await??;
            }
            let has_room = peer.outbox.borrow_mut().written(piece);
            if has_room {
                hub.emit(Event::Room(peer.id), 0);
            }
        }
        if peer.want.get() == Want::Nothing {
            peer.cancel.set_deadline(None);
            return Ok(());
        }
    }
}

async fn pause<N: Net>(hub: &Hub<N>, peer: &Peer) {
    let beats = peer.pause_beats(hub.config.seed ^ hub.now(), hub.config.dial_pause_beats);
    peer.failures.set(peer.failures.get().saturating_add(1));
    if peer.want.get() == Want::Nothing {
        return;
    }
    peer.cancel.reset();
    peer.cancel.set_deadline(Some(hub.in_beats(beats)));
    let _ = peer.cancel.guard(future::pending::<()>()).await;
}
