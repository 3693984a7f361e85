//! The tasks of the connections that other nodes have dialled. On these connections we only read.
//!
//! ```text
//! accept ──► hello within its time? ──► room ──► known, and not another's? ──► answer ──► frames ──► lost
//!                   └─ no: closed                       └─ no: refusal, closed
//! ```
//!
//! One task accepts, and one reads each connection. A newer connection of a peer replaces the older
//! one, which may be half open.

use crate::{
    arrivals::Installed,
    cancel::CancelToken,
    codec::Malformed,
    connection::{self, Ended},
    event::Event,
    forward::{BatchReply, RequestBatch},
    frame::{Decoder, Frame, HEADER_BYTES, Kind},
    handshake::{Answer, Facts, HELLO_BYTES_MAX, Hello, common_version},
    handshakes::Source,
    heartbeat::Heartbeat,
    hub::Hub,
    links::Direction,
    net::{Listener, Net, Reader, Writer},
    peer_shard::PeerShard,
    wire,
};
use futures_lite::future;
use std::{future::poll_fn, rc::Rc};

/// The task that accepts.
pub(crate) async fn accept<N: Net>(hub: Rc<Hub<N>>, mut listener: N::Listener) {
    let accepting = &hub.arrivals.accepting;
    while !accepting.is_dropped() {
        match accepting.guard(listener.accept()).await {
            Ok(Ok((reader, writer))) => {
                start_handshake(&hub, reader, writer);
                // A crowd at the port comes in one by one: each gets to say its name before its place is
                // wanted.
                future::yield_now().await;
            }
            Ok(Err(error)) => {
                hub.not_admitted(None, &error.into());
                // Out of file descriptors, say: trying again at once would spin.
                accepting.set_deadline(Some(hub.in_beats(1)));
                let _ = accepting.guard(std::future::pending::<()>()).await;
                if !accepting.is_dropped() {
                    accepting.reset();
                }
            }
            Err(_) => return,
        }
    }
}

/// Gives a new connection a task of its own, and a place until it has said whose it is.
fn start_handshake<N: Net>(hub: &Rc<Hub<N>>, reader: N::Reader, writer: N::Writer) {
    let token = Rc::new(CancelToken::default());
    token.set_deadline(Some(hub.in_beats(hub.config.hello_beats)));
    let id = hub.arrivals.open(&token);
    let most = hub.config.handshakes_max;
    hub.arrivals.handshakes.borrow_mut().enter(id, &token, reader.remote(), most);
    let connection = Connection { id, token, reader, decoder: Decoder::new(HELLO_BYTES_MAX) };
    hub.spawn(connection.run(hub.clone(), writer));
}

/// One inbound connection.
struct Connection<N: Net> {
    id: u64,
    token: Rc<CancelToken>,
    reader: N::Reader,
    decoder: Decoder,
}

impl<N: Net> Connection<N> {
    /// Its task. The writer stays open until the end, since dropping it might close the connection.
    async fn run(mut self, hub: Rc<Hub<N>>, mut writer: N::Writer) {
        let mut peer = None;
        let token = self.token.clone();
        let admitted = token.guard(self.handshake(&hub, &mut writer, &mut peer)).await;
        hub.arrivals.handshakes.borrow_mut().leave(self.id);
        match admitted.unwrap_or_else(|cancelled| Err(cancelled.into())) {
            Ok(facts) => {
                let Err(ended) = self.read(&hub, &facts).await;
                if hub.arrivals.close(self.id, peer) {
                    hub.emit(Event::InboundLost(facts.pair()), 0);
                }
                hub.ended(Direction::Inbound, facts.pair(), &ended);
            }
            Err(ended) => {
                hub.arrivals.close(self.id, peer);
                hub.not_admitted(peer, &ended);
            }
        }
        let _ = writer.close().await;
    }

    /// Finds out whose connection it is, and answers. Sets `peer` to the name that the dialler gives.
    async fn handshake(
        &mut self,
        hub: &Hub<N>,
        writer: &mut N::Writer,
        peer: &mut Option<PeerShard>,
    ) -> Result<Facts, Ended> {
        let frame = connection::read_frame(&mut self.reader, &mut self.decoder).await?;
        self.wait_for_its_turn(hub).await?;
        connection::expect(&frame, Kind::Hello)?;
        let durable = frame.durable;
        let judged = Hello::decode(frame.body)?.and_then(|hello| {
            *peer = Some(hello.facts.pair());
            let version = common_version(hello.versions).expect("checked when it was read");
            hub.judge(&hello.facts, durable, |ours| hello.check(ours))?;
            Ok((version, hello.facts))
        });
        if let (Ok((_, facts)), Some(address)) = (&judged, self.reader.remote()) {
            hub.arrivals.handshakes.borrow_mut().know(facts.node, Source::Met, address);
        }
        let answer = match &judged {
            // With the table as it is now that the peer is in it.
            Ok((version, _)) => Answer::Accepted { version: *version, facts: hub.facts() },
            Err(refusal) => Answer::Refused(*refusal),
        };
        let durable = hub.durable.get();
        connection::write_frame(writer, Kind::HelloAnswer, durable, |out| answer.encode(out))
            .await?;
        let (_, facts) = judged.map_err(|refusal| Ended::Refused { refusal, by_them: false })?;
        Ok(facts)
    }

    /// Waits for room in the inbox: the result of a handshake is an event, and the inbox must not fill with
    /// events of unfinished handshakes. This wait is ours, and counts as no silence of the peer. But when it
    /// was longer than a dial may take, the dialler has given up, and its hello is old.
    async fn wait_for_its_turn(&self, hub: &Hub<N>) -> Result<(), Ended> {
        let since = hub.now();
        self.token.set_deadline(None);
        wait_for_room(hub).await;
        if hub.now() - since >= hub.config.handshake_beats {
            purlin_rsm::sometimes!("hello waited for room for too long");
            return Err(Ended::Dropped);
        }
        self.token.set_deadline(Some(hub.in_beats(hub.config.hello_beats)));
        Ok(())
    }

    /// Delivers frames to the inbox until the connection ends.
    async fn read(
        &mut self,
        hub: &Rc<Hub<N>>,
        facts: &Facts,
    ) -> Result<std::convert::Infallible, Ended> {
        let peer = facts.pair();
        match hub.arrivals.install(self.id, peer) {
            Installed::Late => return Err(Ended::Dropped),
            Installed::Replaced => hub.emit(Event::InboundLost(peer), 0),
            Installed::First => {}
        }
        hub.told_by_dialler(facts);
        hub.inbound_up(facts.clone());
        self.decoder.set_body_bytes_max(hub.config.frame_bytes_max);
        // A shard that has not met the others says nothing (safety I2).
        let mut was_heard = false;
        loop {
            self.token.set_deadline(None);
            self.token.guard(wait_for_room(hub)).await?;
            let config = &hub.config;
            let silence = if was_heard { config.silence_beats } else { config.idle_beats };
            let frame = self.next_frame(hub, silence).await;
            if was_heard && matches!(frame, Err(Ended::Late)) {
                hub.dial_again(peer);
            }
            let frame = frame?;
            was_heard = true;
            if !hub.saw(facts, frame.durable) {
                return Err(Ended::Dropped);
            }
            deliver(hub, peer, frame)?;
        }
    }
}

impl<N: Net> Connection<N> {
    /// The next frame. Bytes of a long one, on a slow link, are no silence.
    async fn next_frame(&mut self, hub: &Hub<N>, silence_beats: u64) -> Result<Frame, Ended> {
        loop {
            if let Some(frame) = self.decoder.next()? {
                return Ok(frame);
            }
            self.token.set_deadline(Some(hub.in_beats(silence_beats)));
            let count = self.token.guard(self.reader.read(self.decoder.space())).await??;
            if count == 0 {
                return Err(Ended::Closed);
            }
            self.decoder.filled(count);
        }
    }
}

/// Waits until the inbox has room for another frame.
async fn wait_for_room<N: Net>(hub: &Hub<N>) {
    poll_fn(|context| hub.inbox.borrow_mut().poll_room(context)).await
}

/// Puts an event for each item of a frame into the inbox, or none if any item is malformed.
fn deliver<N: Net>(hub: &Hub<N>, peer: PeerShard, frame: Frame) -> Result<(), Malformed> {
    let bytes = HEADER_BYTES + frame.body.len();
    match frame.kind {
        Kind::Messages => {
            let envelopes = wire::decode(frame.body, peer.node, hub.node())?;
            hub.emit(Event::Messages(peer, envelopes), bytes);
        }
        Kind::Heartbeat => {
            emit_each(hub, Heartbeat::decode(frame.body)?, bytes, |heartbeat| {
                Event::Heartbeat(peer, heartbeat)
            });
        }
        Kind::Forward => {
            emit_each(hub, RequestBatch::decode(frame.body)?, bytes, |forward| {
                Event::Forward(peer, forward)
            });
        }
        Kind::ForwardReply => {
            emit_each(hub, BatchReply::decode(frame.body)?, bytes, |reply| {
                Event::ForwardReply(peer, reply)
            });
        }
        Kind::Hello | Kind::HelloAnswer => connection::expect(&frame, Kind::Messages)?,
    }
    Ok(())
}

/// Puts events into the inbox that share the cost of their frame.
fn emit_each<N: Net, T>(hub: &Hub<N>, items: Vec<T>, bytes: usize, event: impl Fn(T) -> Event) {
    let share = bytes / items.len().max(1);
    items.into_iter().for_each(|item| hub.emit(event(item), share));
}
