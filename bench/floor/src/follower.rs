//! A follower: writes the frames of the leader to its log, acknowledges what is durable, applies what is
//! committed.

use std::collections::VecDeque;
use std::net::TcpListener;

use crate::connection::{Connection, READ_BYTES};
use crate::failure::Failure;
use crate::frame;
use crate::log::{Log, WRITE_BYTES_MAX};
use crate::options::NodeOptions;
use crate::poll::{self, Poll, STOP, Watch};
use crate::store::Store;

const LISTENER: u64 = 1;
const LEADER: u64 = 2;
const LOG: u64 = 3;

/// Runs a follower until a signal ends it.
///
/// # Errors
/// When it cannot start, when its log fails, or when the leader goes or sends no frames.
pub(crate) fn run(options: &NodeOptions) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let log = Log::create(&options.dir, options.log_bytes, options.depth)?;
    let listener = poll::listen(options.listen)?;
    poll.add(&listener, LISTENER, Watch::Level)?;
    poll.add(&log, LOG, Watch::Level)?;
    poll::say_ready(&listener);
    let mut follower = Follower {
        log,
        store: Store::default(),
        leader: None,
        has_more: false,
        last: 0,
        committed: 0,
        acknowledged: 0,
        unapplied: VecDeque::new(),
        memory: Vec::new(),
    };
    let (mut tokens, mut scratch) = (Vec::new(), vec![0; READ_BYTES]);
    loop {
        let may_sleep = !(follower.has_more && follower.log.has_room());
        tokens.clear();
        poll.wait(may_sleep, &mut tokens)?;
        if tokens.contains(&STOP) {
            return Ok(());
        }
        if tokens.contains(&LISTENER) {
            follower.meet(&listener, &poll)?;
        }
        follower.has_more |= tokens.contains(&LEADER);
        follower.turn(&mut scratch)?;
    }
}

struct Follower {
    log: Log,
    store: Store,
    leader: Option<Connection>,
    /// Whether the leader may have sent more than was read.
    has_more: bool,
    /// The sequence of the last frame that went to the log.
    last: u64,
    /// What the leader said last. Invariant: `committed <= last`.
    committed: u64,
    /// Invariant: durable in the log, `acknowledged <= last`.
    acknowledged: u64,
    /// Frames of the log that are not known to be committed, with their sequences.
    unapplied: VecDeque<(u64, Vec<u8>)>,
    /// Memory of applied frames, to use again.
    memory: Vec<Vec<u8>>,
}

impl Follower {
    /// Takes the connection of the leader. There is one leader for the whole run.
    fn meet(&mut self, listener: &TcpListener, poll: &Poll) -> Result<(), Failure> {
        let Ok((socket, _)) = listener.accept() else { return Ok(()) };
        if self.leader.is_none()
            && let Ok(leader) = Connection::new(socket)
        {
            poll.add(&leader, LEADER, Watch::Edge)?;
            poll.remove(listener);
            self.leader = Some(leader);
        }
        Ok(())
    }

    /// The acknowledgement goes out first, since the leader waits for it.
    fn turn(&mut self, scratch: &mut [u8]) -> Result<(), Failure> {
        let durable = self.log.reap()?;
        let Some(mut leader) = self.leader.take() else { return Ok(()) };
        if durable > self.acknowledged {
            self.acknowledged = durable;
            leader.send(&durable.to_le_bytes());
        }
        leader.flush();
        if self.has_more {
            self.has_more = leader.read(scratch);
        }
        self.append(&mut leader.input)?;
        if leader.has_ended {
            return Err(no_leader("the leader closed its connection"));
        }
        self.leader = Some(leader);
        self.apply();
        Ok(())
    }

    /// Starts writes of all whole frames, as many of them in one write as it holds.
    fn append(&mut self, input: &mut Vec<u8>) -> Result<(), Failure> {
        let mut used = 0;
        while self.log.has_room() {
            let start = used;
            while let Some(frame) = frame::first(&input[used..]).map_err(no_leader)? {
                if used + frame.bytes.len() - start > WRITE_BYTES_MAX {
                    break;
                }
                if frame.sequence != self.last + 1 || frame.committed >= frame.sequence {
                    return Err(no_leader("a frame does not follow the one before it"));
                }
                (self.last, self.committed) = (frame.sequence, frame.committed);
                used += frame.bytes.len();
                let mut copy = self.memory.pop().unwrap_or_default();
                copy.clear();
                copy.extend_from_slice(frame.bytes);
                self.unapplied.push_back((frame.sequence, copy));
            }
            if used == start {
                break;
            }
            self.log.append(&input[start..used], self.last)?;
        }
        input.drain(..used);
        Ok(())
    }

    fn apply(&mut self) {
        while let Some((_, bytes)) =
            self.unapplied.pop_front_if(|(sequence, _)| *sequence <= self.committed)
        {
            for (key, value) in frame::entries(&bytes) {
                self.store.set(key, value);
            }
            self.memory.push(bytes);
        }
    }
}

fn no_leader(what: &'static str) -> Failure {
    Failure::new(
        what,
        "the connection of the leader",
        "nobody sends frames any more, and this follower ends",
        "when the leader did not end by itself, read its output; then start the three processes again",
    )
}
