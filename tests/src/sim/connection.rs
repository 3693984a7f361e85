//! One connection between two nodes, with the behaviour of TCP: the bytes are ordered and stall
//! while the link is cut, and one end may learn late, or never, that the other end is gone.
//!
//! ```text
//! write ─► segments, each with its arrival ─► arrived, unread ─► read
//!          '------------ occupied, up to the capacity ------------'
//! ```
//!
//! An end is *gone* when its process has closed it or died: bytes that arrive there get a reset as
//! the reply, if the node has power. An end has *failed* when it received a reset or gave up
//! waiting.

use super::{
    executor::Process,
    watch::SeenBytes,
    world::{Core, Event},
};
use purlin_rsm::NodeId;
use purlin_transport::UNACKNOWLEDGED_MAX;
use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, ErrorKind},
    rc::Rc,
    task::Waker,
    time::Duration,
};

pub(crate) type Shared = Rc<RefCell<Connection>>;

/// Linux sends again after this time, and then after twice as long each time, up to the longest pause.
const FIRST_TRY: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(120);
/// After 15 tries without an acknowledgement Linux gives up, unless the socket says otherwise.
const GIVE_UP: Duration = Duration::from_millis(924_600);

/// How long after the loss the sender tries again, if it has waited for so long already.
pub(crate) fn next_try(waited: Duration) -> Duration {
    let (mut at, mut pause) = (FIRST_TRY, FIRST_TRY);
    while at <= waited {
        pause = (pause * 2).min(PAUSE_MAX);
        at += pause;
    }
    at
}

/// Which end of a connection: 0 dialled, 1 accepted.
pub(crate) type Side = usize;

pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) ends: [End; 2],
    /// Nothing gets through any more: who sends is answered by a reset.
    is_broken: bool,
}

/// One end, with the bytes that it sends.
pub(crate) struct End {
    pub(crate) process: Process,
    /// Which halves its owner still has.
    pub(crate) has_reader: bool,
    pub(crate) has_writer: bool,
    gone: bool,
    failed: Option<ErrorKind>,
    /// How long it waits for an acknowledgement before it fails.
    unacknowledged_max: Duration,
    /// Shut down by its own owner: reads return 0.
    shut: bool,
    outbound: Pipe,
    reading: Option<Waker>,
    writing: Option<Waker>,
}

/// The bytes from one end to the other.
#[derive(Default)]
struct Pipe {
    segments: VecDeque<Segment>,
    arrived: VecDeque<u8>,
    occupied: usize,
    /// Read at the far end while the way back was cut: still occupied.
    unacknowledged: usize,
    last_arrival: Duration,
    finished: bool,
    finish_arrived: bool,
    /// Since when the sender has had no acknowledgement for what it sent.
    stuck_since: Option<Duration>,
    /// Something was lost on its way: the sender sends nothing new before it has sent that again.
    is_lossy: bool,
}

struct Segment {
    at: Duration,
    /// None closes the direction.
    bytes: Option<Vec<u8>>,
}

impl End {
    /// An end of `process`, of a connection between two nodes or not.
    pub(crate) fn new(process: Process, between_nodes: bool) -> Self {
        Self {
            process,
            unacknowledged_max: if between_nodes { UNACKNOWLEDGED_MAX } else { GIVE_UP },
            has_reader: true,
            has_writer: true,
            gone: false,
            failed: None,
            shut: false,
            outbound: Pipe::default(),
            reading: None,
            writing: None,
        }
    }

    /// Whether bytes that arrive here are answered by a reset.
    fn is_over(&self) -> bool {
        self.gone || self.failed.is_some()
    }

    fn wake(&mut self) {
        for waker in [self.reading.take(), self.writing.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn fail(&mut self, kind: ErrorKind) {
        self.failed.get_or_insert(kind);
        self.outbound.segments.clear();
        self.wake();
    }
}

impl Connection {
    pub(crate) fn new(number: u64, ends: [End; 2]) -> Self {
        Self { number, ends, is_broken: false }
    }

    /// What is on its way is lost, and so is all that either end sends from now on: behind lost bytes none
    /// may arrive. The ends do not know.
    pub(crate) fn break_off(&mut self) {
        self.is_broken = true;
        self.ends.iter_mut().for_each(|end| end.outbound.segments.clear());
    }

    /// Whether it is between these two nodes.
    pub(crate) fn joins(&self, one: NodeId, two: NodeId) -> bool {
        let ends = [0, 1].map(|side| self.ends[side].process.node);
        ends == [one, two] || ends == [two, one]
    }

    /// Whether nobody can use it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_broken || self.ends.iter().all(End::is_over)
    }

    /// Reads into `buffer`, or leaves `waker` to be told.
    pub(crate) fn read(
        &mut self,
        core: &Core,
        side: Side,
        buffer: &mut [u8],
        waker: &Waker,
    ) -> Option<io::Result<usize>> {
        if let Some(kind) = self.ends[side].failed {
            return Some(Err(kind.into()));
        }
        if self.ends[side].shut || buffer.is_empty() {
            return Some(Ok(0));
        }
        let acknowledged = !self.is_cut(core, side);
        let other = &mut self.ends[1 - side];
        let pipe = &mut other.outbound;
        if pipe.arrived.is_empty() {
            if pipe.finish_arrived {
                return Some(Ok(0));
            }
            self.ends[side].reading = Some(waker.clone());
            return None;
        }
        let count = partial(core, buffer.len().min(pipe.arrived.len()));
        for (place, byte) in buffer.iter_mut().zip(pipe.arrived.drain(..count)) {
            *place = byte;
        }
        if acknowledged {
            pipe.occupied -= count;
            if !pipe.is_lossy {
                pipe.stuck_since = None;
            }
            if let Some(waker) = other.writing.take() {
                waker.wake();
            }
        } else {
            pipe.unacknowledged += count;
        }
        Some(Ok(count))
    }

    /// From which node to which goes what `side` sends.
    fn way(&self, side: Side) -> (NodeId, NodeId) {
        (self.ends[side].process.node, self.ends[1 - side].process.node)
    }

    /// Whether what `side` sends does not arrive for now.
    fn is_cut(&self, core: &Core, side: Side) -> bool {
        let (from, to) = self.way(side);
        core.network.borrow().is_cut(from, to)
    }
}

/// A read gives now and then less than it could.
fn partial(core: &Core, len: usize) -> usize {
    if len > 1 && core.random.net.chance(0.2) {
        return 1 + core.random.net.below(len as u64 - 1) as usize;
    }
    len
}

/// Takes a part of `bytes` to send, or leaves `waker` to be told when there is room.
pub(crate) fn send(
    core: &Rc<Core>,
    connection: &Shared,
    side: Side,
    bytes: &[u8],
    waker: &Waker,
) -> Option<io::Result<usize>> {
    let mut guard = connection.borrow_mut();
    let end = &mut guard.ends[side];
    if let Some(kind) = end.failed {
        return Some(Err(kind.into()));
    }
    if end.shut || end.outbound.finished {
        return Some(Err(ErrorKind::BrokenPipe.into()));
    }
    let room = core.options.net.pipe_bytes.saturating_sub(end.outbound.occupied);
    if room == 0 {
        end.writing = Some(waker.clone());
        drop(guard);
        // Linux counts a window that stays closed as it counts what is not acknowledged.
        stall(core, connection, side);
        return None;
    }
    let count = partial(core, bytes.len().min(room));
    end.outbound.occupied += count;
    let (from, to) = guard.way(side);
    let seen = SeenBytes { connection: guard.number, side, from, to, bytes: &bytes[..count] };
    core.watchers.tell(|watcher| watcher.sent(core.clock.now(), &seen));
    drop(guard);
    let mut bytes = bytes[..count].to_vec();
    let trouble = core.network.borrow().trouble(from, to);
    let chance = trouble.map_or(0.0, |trouble| trouble.flip_chance);
    flip(core, &mut bytes, chance.max(core.options.net.flip_chance));
    push(core, connection, side, Some(bytes));
    Some(Ok(count))
}

/// Damages a segment, seldom.
fn flip(core: &Core, bytes: &mut [u8], chance: f64) {
    let random = &core.random.net;
    if chance > 0.0 && random.chance(chance) {
        let place = random.below(bytes.len() as u64) as usize;
        bytes[place] ^= 1 << random.below(8);
    }
}

/// Closes the direction from `side`, behind what was sent.
pub(crate) fn finish(core: &Rc<Core>, connection: &Shared, side: Side) {
    let mut guard = connection.borrow_mut();
    let end = &mut guard.ends[side];
    if end.outbound.finished || end.failed.is_some() || end.gone {
        return;
    }
    end.outbound.finished = true;
    drop(guard);
    push(core, connection, side, None);
}

/// Closes both directions for `side`.
pub(crate) fn shut(core: &Rc<Core>, connection: &Shared, side: Side) {
    finish(core, connection, side);
    let mut guard = connection.borrow_mut();
    let end = &mut guard.ends[side];
    end.shut = true;
    end.gone = true;
    end.wake();
}

/// The process of `side` is gone. `told` says what the other side receives.
pub(crate) fn abandon(core: &Rc<Core>, connection: &Shared, side: Side, told: HowEnded) {
    match told {
        HowEnded::Finish => finish(core, connection, side),
        HowEnded::Reset => send_reset(core, connection, 1 - side),
        HowEnded::Silence => connection.borrow_mut().ends[side].outbound.segments.clear(),
    }
    connection.borrow_mut().ends[side].gone = true;
}

/// What the other side of a connection receives when a process is gone.
#[derive(Clone, Copy)]
pub(crate) enum HowEnded {
    /// The end of the stream, behind the bytes on their way.
    Finish,
    /// A reset, before the bytes on their way.
    Reset,
    /// Nothing: the other side notices when it writes.
    Silence,
}

/// `side` learns at once that the connection is no more; what was on its way there is lost.
pub(crate) fn fail(connection: &Shared, side: Side, kind: ErrorKind) {
    let mut guard = connection.borrow_mut();
    guard.ends[1 - side].outbound.segments.clear();
    guard.ends[side].fail(kind);
}

/// Sends a reset to `side`: it is lost when the link is cut.
pub(crate) fn send_reset(core: &Rc<Core>, connection: &Shared, side: Side) {
    let (from, to) = connection.borrow().way(1 - side);
    let latency = core.network.borrow().latency(core, from, to);
    let connection = connection.clone();
    core.clock.after(latency, move |core| {
        if !connection.borrow().is_cut(core, 1 - side) {
            fail(&connection, side, ErrorKind::ConnectionReset);
        }
    });
}

/// The link works again: what stalled goes on with the sender's next try.
pub(crate) fn resume(core: &Rc<Core>, connection: &Shared) {
    let now = core.clock.now();
    for side in [0, 1] {
        let since = connection.borrow().ends[side].outbound.stuck_since.unwrap_or(now);
        let again = since + next_try(now - since) - now;
        let connection = connection.clone();
        core.clock.after(again, move |core| {
            if !connection.borrow().is_cut(core, side) {
                connection.borrow_mut().ends[side].outbound.is_lossy = false;
                deliver(core, &connection, side);
                acknowledge(core, &connection, side);
            }
        });
    }
}

/// What is on its way from `node` was slow, and arrives as soon as it is sent again.
pub(crate) fn hasten(core: &Rc<Core>, connection: &Shared, node: NodeId) {
    let again = core.random.net.duration(Duration::ZERO..core.options.net.retransmit_max);
    let at = core.clock.now() + again;
    for side in [0, 1] {
        let mut guard = connection.borrow_mut();
        if guard.ends[side].process.node != node {
            continue;
        }
        let pipe = &mut guard.ends[side].outbound;
        if pipe.last_arrival <= at {
            continue;
        }
        pipe.last_arrival = at;
        pipe.segments.iter_mut().for_each(|segment| segment.at = segment.at.min(at));
        let connection = connection.clone();
        core.clock.after(again, move |core| deliver(core, &connection, side));
    }
}

/// Sends a segment behind those before it.
fn push(core: &Rc<Core>, connection: &Shared, side: Side, bytes: Option<Vec<u8>>) {
    let mut guard = connection.borrow_mut();
    let (from, to) = guard.way(side);
    let len = bytes.as_ref().map_or(0, Vec::len) as u32;
    let latency = core.network.borrow().latency(core, from, to)
        + core.options.net.time_per_kilobyte * len / 1_000;
    let narrow = core.network.borrow().trouble(from, to).map(|trouble| trouble.time_per_kilobyte);
    let pipe = &mut guard.ends[side].outbound;
    let at = pipe.last_arrival.max(core.clock.now() + latency);
    // A narrow link passes one segment after the other.
    let at = at + narrow.unwrap_or(Duration::ZERO) * len / 1_000;
    pipe.last_arrival = at;
    pipe.segments.push_back(Segment { at, bytes });
    drop(guard);
    let connection = connection.clone();
    core.clock.after(at - core.clock.now(), move |core| deliver(core, &connection, side));
}

/// What `side` sent and is due arrives, or stalls, or is answered by a reset.
fn deliver(core: &Rc<Core>, connection: &Shared, side: Side) {
    let mut guard = connection.borrow_mut();
    let due =
        guard.ends[side].outbound.segments.front().is_some_and(|it| it.at <= core.clock.now());
    if !due || guard.ends[side].outbound.is_lossy {
        return;
    }
    if guard.is_cut(core, side) {
        guard.ends[side].outbound.is_lossy = true;
        drop(guard);
        return stall(core, connection, side);
    }
    core.trace.event(Event::Deliver, guard.number, side as u64);
    let mut unwanted = false;
    while let Some(segment) =
        guard.ends[side].outbound.segments.pop_front_if(|it| it.at <= core.clock.now())
    {
        if guard.is_broken || guard.ends[1 - side].is_over() {
            unwanted |= segment.bytes.is_some();
            continue;
        }
        let ends = [side, 1 - side].map(|side| guard.ends[side].process.node);
        let pipe = &mut guard.ends[side].outbound;
        match segment.bytes {
            Some(bytes) => {
                core.network.borrow_mut().count(ends, bytes.len());
                pipe.arrived.extend(bytes);
            }
            None => pipe.finish_arrived = true,
        }
    }
    if let Some(waker) = guard.ends[1 - side].reading.take() {
        waker.wake();
    }
    let answers = core.is_powered(guard.ends[1 - side].process.node);
    let cut_back = guard.is_cut(core, 1 - side);
    drop(guard);
    match (unwanted, answers && !cut_back) {
        (true, true) => send_reset(core, connection, side),
        (true, false) => stall(core, connection, side),
        (false, _) if cut_back => stall(core, connection, side),
        (false, _) => {
            let is_waiting = {
                let end = &mut connection.borrow_mut().ends[side];
                end.outbound.stuck_since = None;
                end.writing.is_some()
            };
            // A writer waits for room: from now on the window is closed.
            if is_waiting {
                stall(core, connection, side);
            }
        }
    }
}

/// The acknowledgements of what `side` sent come through.
fn acknowledge(core: &Rc<Core>, connection: &Shared, side: Side) {
    let mut guard = connection.borrow_mut();
    if guard.is_cut(core, 1 - side) || guard.is_cut(core, side) || guard.ends[1 - side].is_over() {
        return;
    }
    let end = &mut guard.ends[side];
    end.outbound.occupied -= std::mem::take(&mut end.outbound.unacknowledged);
    end.outbound.stuck_since = None;
    if let Some(waker) = end.writing.take() {
        waker.wake();
    }
}

/// `side` waits for an acknowledgement, and gives up after a time.
fn stall(core: &Rc<Core>, connection: &Shared, side: Side) {
    let mut guard = connection.borrow_mut();
    let pipe = &mut guard.ends[side].outbound;
    if pipe.stuck_since.is_some() {
        return;
    }
    let since = core.clock.now();
    pipe.stuck_since = Some(since);
    let patience = guard.ends[side].unacknowledged_max;
    let connection = connection.clone();
    core.clock.after(patience, move |_| {
        let still = connection.borrow().ends[side].outbound.stuck_since == Some(since);
        if still {
            connection.borrow_mut().ends[side].fail(ErrorKind::TimedOut);
        }
    });
}
