//! Connections that others have dialled: on them we only read.
//!
//! ```text
//! accept ──► hello within its time? ──► known, and not another's? ──► answer ──► frames ──► lost
//!                   └─ no: closed              └─ no: refusal, closed
//! ```
//!
//! One task accepts, and one reads each connection. A newer connection of a peer replaces the older
//! one, which may be half open.

use crate::{
    codec::Malformed,
    connection::{self, Ended},
    event::{Event, PeerShard},
    exchanger::Exchanger,
    forward::{Forward, ForwardReply},
    frame::{Decoder, Frame, HEADER_BYTES, Kind},
    handshake::{Answer, Facts, HELLO_BYTES_MAX, Hello, common_version},
    heartbeat::Heartbeat,
    journal::Direction,
    net::{Listener, Net, Writer},
    signal::Leash,
    wire,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    rc::Rc,
};

/// The inbound connections of an exchanger.
#[derive(Default)]
pub(crate) struct Arrivals {
    /// Ends all accepting, or lets a failed one wait.
    pub(crate) accepting: Leash,
    /// All inbound connections in the order they came, strangers too.
    leashes: RefCell<BTreeMap<u64, Rc<Leash>>>,
    /// The connection that speaks for each peer.
    current: RefCell<BTreeMap<PeerShard, u64>>,
    /// Connections whose handshake is not done.
    strangers: Cell<usize>,
    next: Cell<u64>,
}

impl Arrivals {
    pub(crate) fn beat(&self, now: u64) {
        self.accepting.beat(now);
        self.leashes.borrow().values().for_each(|leash| leash.beat(now));
    }

    pub(crate) fn stop(&self) {
        self.accepting.drop_it();
        self.leashes.borrow().values().for_each(|leash| leash.drop_it());
    }

    pub(crate) fn is_connected(&self, peer: PeerShard) -> bool {
        self.current.borrow().contains_key(&peer)
    }

    /// Ends the connection that speaks for `peer`.
    pub(crate) fn drop_peer(&self, peer: PeerShard) {
        let current = self.current.borrow().get(&peer).copied();
        if let Some(id) = current {
            self.leashes.borrow()[&id].drop_it();
        }
    }

    fn open(&self, leash: &Rc<Leash>) -> u64 {
        let id = self.next.replace(self.next.get() + 1);
        self.leashes.borrow_mut().insert(id, leash.clone());
        id
    }

    /// Connection `id` speaks for `peer` from now on, if none that came later does. The one that
    /// did until now is dropped.
    fn install(&self, id: u64, peer: PeerShard) -> Installed {
        let before = self.current.borrow().get(&peer).copied();
        if before.is_some_and(|before| before > id) {
            return Installed::Late;
        }
        self.current.borrow_mut().insert(peer, id);
        match before {
            Some(before) => {
                purlin_rsm::sometimes!("half-open connection replaced");
                self.leashes.borrow()[&before].drop_it();
                Installed::Replaced
            }
            None => Installed::First,
        }
    }

    fn is_current(&self, id: u64, peer: PeerShard) -> bool {
        self.current.borrow().get(&peer) == Some(&id)
    }

    /// Connection `id` is over; whether it spoke for `peer` until now.
    fn close(&self, id: u64, peer: Option<PeerShard>) -> bool {
        self.leashes.borrow_mut().remove(&id);
        let was_current = peer.is_some_and(|peer| self.is_current(id, peer));
        if let Some(peer) = peer.filter(|_| was_current) {
            self.current.borrow_mut().remove(&peer);
        }
        was_current
    }
}

enum Installed {
    First,
    Replaced,
    Late,
}

/// The task that accepts.
pub(crate) async fn accept<N: Net>(exchanger: Rc<Exchanger<N>>, mut listener: N::Listener) {
    let accepting = &exchanger.arrivals.accepting;
    while !accepting.is_dropped() {
        match accepting.hold(listener.accept()).await {
            Ok(Ok((reader, writer))) => welcome(&exchanger, reader, writer),
            Ok(Err(error)) => {
                exchanger.ended(Direction::Inbound, None, &error.into());
                // Out of file descriptors, say: trying again at once would spin.
                accepting.set_deadline(Some(exchanger.in_beats(1)));
                let _ = accepting.hold(std::future::pending::<()>()).await;
                if !accepting.is_dropped() {
                    accepting.renew();
                }
            }
            Err(_) => return,
        }
    }
}

/// A stranger gets a task of its own, unless there are too many already.
fn welcome<N: Net>(exchanger: &Rc<Exchanger<N>>, reader: N::Reader, writer: N::Writer) {
    let strangers = &exchanger.arrivals.strangers;
    if strangers.get() >= exchanger.config.handshakes_max {
        let too_many = Malformed { what: "one handshake more than may go on at a time" };
        exchanger.ended(Direction::Inbound, None, &too_many.into());
        return;
    }
    strangers.set(strangers.get() + 1);
    let leash = Rc::new(Leash::default());
    leash.set_deadline(Some(exchanger.in_beats(exchanger.config.handshake_beats)));
    let id = exchanger.arrivals.open(&leash);
    let connection = Connection { id, leash, reader, decoder: Decoder::new(HELLO_BYTES_MAX) };
    exchanger.spawn(connection.run(exchanger.clone(), writer));
}

/// One inbound connection.
struct Connection<N: Net> {
    id: u64,
    leash: Rc<Leash>,
    reader: N::Reader,
    decoder: Decoder,
}

impl<N: Net> Connection<N> {
    /// Its task. The writer stays open until the end, since dropping it might close the connection.
    async fn run(mut self, exchanger: Rc<Exchanger<N>>, mut writer: N::Writer) {
        let mut peer = None;
        let leash = self.leash.clone();
        let greeted = leash.hold(self.greet(&exchanger, &mut writer, &mut peer)).await;
        let strangers = &exchanger.arrivals.strangers;
        strangers.set(strangers.get() - 1);
        let ended = match greeted.unwrap_or_else(|cut| Err(cut.into())) {
            Ok(facts) => match self.read(&exchanger, &facts).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            },
            Err(ended) => ended,
        };
        if exchanger.arrivals.close(self.id, peer) {
            exchanger.emit(Event::InboundLost(peer.expect("only a named one was current")), 0);
        }
        exchanger.ended(Direction::Inbound, peer, &ended);
        let _ = writer.close().await;
    }

    /// Who is it? Sets `peer` to who it says it is.
    async fn greet(
        &mut self,
        exchanger: &Exchanger<N>,
        writer: &mut N::Writer,
        peer: &mut Option<PeerShard>,
    ) -> Result<Facts, Ended> {
        // What becomes of it is an event, and strangers shall not fill the inbox with those.
        room(exchanger).await;
        let frame = connection::read_frame(&mut self.reader, &mut self.decoder).await?;
        connection::expect(&frame, Kind::Hello)?;
        let durable = frame.durable;
        let judged = Hello::decode(frame.body)?.and_then(|hello| {
            *peer = Some(hello.facts.pair());
            let version = common_version(hello.versions).expect("checked when it was read");
            exchanger.judge(&hello.facts, durable, |ours| hello.check(ours))?;
            Ok((version, hello.facts))
        });
        let answer = match &judged {
            // With the table as it is now that the peer is in it.
            Ok((version, _)) => Answer::Accepted { version: *version, facts: exchanger.facts() },
            Err(refusal) => Answer::Refused(*refusal),
        };
        let durable = exchanger.durable.get();
        connection::write_frame(writer, Kind::HelloAnswer, durable, |out| answer.encode(out))
            .await?;
        let (_, facts) = judged.map_err(|refusal| Ended::Refused { refusal, by_them: false })?;
        Ok(facts)
    }

    /// Hands in frames until the connection ends.
    async fn read(
        &mut self,
        exchanger: &Rc<Exchanger<N>>,
        facts: &Facts,
    ) -> Result<std::convert::Infallible, Ended> {
        let peer = facts.pair();
        match exchanger.arrivals.install(self.id, peer) {
            Installed::Late => return Err(Ended::Dropped),
            Installed::Replaced => exchanger.emit(Event::InboundLost(peer), 0),
            Installed::First => {}
        }
        exchanger.told_by_dialler(facts);
        exchanger.inbound_up(facts.clone());
        self.decoder.set_body_bytes_max(exchanger.config.frame_bytes_max);
        loop {
            self.leash.set_deadline(None);
            self.leash.hold(room(exchanger)).await?;
            self.leash.set_deadline(Some(exchanger.in_beats(exchanger.config.idle_beats)));
            let read = connection::read_frame(&mut self.reader, &mut self.decoder);
            let frame = self.leash.hold(read).await??;
            if !exchanger.saw(facts, frame.durable) {
                return Err(Ended::Dropped);
            }
            hand_in(exchanger, peer, frame)?;
        }
    }
}

async fn room<N: Net>(exchanger: &Exchanger<N>) {
    poll_fn(|context| exchanger.inbox.borrow_mut().poll_room(context)).await
}

/// The items of a frame become events; nothing of it does if any item is malformed.
fn hand_in<N: Net>(
    exchanger: &Exchanger<N>,
    peer: PeerShard,
    frame: Frame,
) -> Result<(), Malformed> {
    let bytes = HEADER_BYTES + frame.body.len();
    match frame.kind {
        Kind::Messages => {
            let envelopes = wire::decode(frame.body, peer.node, exchanger.node())?;
            exchanger.emit(Event::Messages(peer, envelopes), bytes);
        }
        Kind::Heartbeat => {
            emit_each(exchanger, Heartbeat::decode(frame.body)?, bytes, |heartbeat| {
                Event::Heartbeat(peer, heartbeat)
            });
        }
        Kind::Forward => {
            emit_each(exchanger, Forward::decode(frame.body)?, bytes, |forward| {
                Event::Forward(peer, forward)
            });
        }
        Kind::ForwardReply => {
            emit_each(exchanger, ForwardReply::decode(frame.body)?, bytes, |reply| {
                Event::ForwardReply(peer, reply)
            });
        }
        Kind::Hello | Kind::HelloAnswer => connection::expect(&frame, Kind::Messages)?,
    }
    Ok(())
}

/// The items of a frame share what it costs.
fn emit_each<N: Net, T>(
    exchanger: &Exchanger<N>,
    items: Vec<T>,
    bytes: usize,
    event: impl Fn(T) -> Event,
) {
    let share = bytes / items.len().max(1);
    items.into_iter().for_each(|item| exchanger.emit(event(item), share));
}
