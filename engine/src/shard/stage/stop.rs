//! Ends a shard that was asked to stop, or has to; `shard/drain.rs` tells the way.

use crate::{error::Error, runtime::Runtime, shard::Shard};
use purlin_rsm::{GroupId, Tick};
use std::time::Duration;

/// So long a shard that was asked to stop works on what is under way.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// So long the last answers and the closing batch may take then.
const END_MAX: Duration = Duration::from_millis(500);
/// So often a shard that ends looks whether other nodes have read what it has written to them.
const LOOK: Duration = Duration::from_millis(2);

impl<R: Runtime> Shard<R> {
    /// Whether the shard was asked to stop and may end now. The first call after that lets it drain.
    pub(crate) fn may_end(&mut self) -> bool {
        // A record of the identity that is cut off would be there or not.
        if !self.inlet.is_stopping() || self.meeting.is_recording() {
            return false;
        }
        let at = self.runtime.now();
        let Some(since) = self.drain.since else {
            self.begin_drain(at);
            return false;
        };
        let is_drained = self.is_drained(at);
        if is_drained {
            self.drain.say_drained(&self.inlet);
        }
        let is_late = at.saturating_sub(since) >= DRAIN_MAX;
        purlin_rsm::sometimes!(is_late, "stop of a shard does not wait for what is under way");
        // Another node may have sent requests since this shard has said so.
        is_late || is_drained && self.drain.are_all_drained()
    }

    fn begin_drain(&mut self, at: Duration) {
        purlin_rsm::sometimes!("shard asked to stop drains");
        tracing::info!("{} stops: it answers what is under way, and takes no more", self.site.name);
        self.drain.since = Some(at);
        self.drain.stops.begin();
        self.requests.callers.take_no_more();
        let now: Tick = self.timing.tick_at(at);
        // Nobody hands a group back to a node that stops.
        self.send_heartbeats(now);
        self.hand_over.cursor = GroupId(0);
        self.hand_over(now);
        // The next turn sends them.
        self.wake().notify();
    }

    /// Whether nothing has been under way here for a beat, if other nodes can send anything.
    fn is_drained(&mut self, at: Duration) -> bool {
        if !self.is_quiet() {
            self.drain.quiet_since = None;
            return false;
        }
        let since = *self.drain.quiet_since.get_or_insert(at);
        let beat = self.timing.time_of(Tick(self.timing.beat_ticks));
        at.saturating_sub(since) >= beat || self.others.pairs.reached().is_empty()
    }

    /// Whether nothing is under way here, and nobody on this core has anything to end.
    fn is_quiet(&mut self) -> bool {
        self.inlet.is_empty()
            && self.others.exchanger.waiting_bytes() == 0
            && self.requests.are_ended()
            && !self.drain.is_moving(&self.groups)
            && !self.drain.stops.is_held()
    }

    /// Ends everything that waits, lets callers take the answers, and closes the connections. Whoever does not take
    /// an answer keeps no shard for longer than [`END_MAX`].
    pub(crate) async fn end(&mut self, outcome: &Result<(), Error>) {
        let end = self.runtime.now() + END_MAX;
        self.drain.stops.begin();
        self.inlet.close();
        self.requests.stop();
        match outcome {
            // What was written to other nodes has answers of their clients in it.
            Ok(()) => {
                self.flush();
                self.others.exchanger.finish();
                let late = self.runtime.sleep(END_MAX);
                futures_lite::future::or(self.append.close(), late).await;
            }
            // The other nodes need not find out by themselves.
            Err(_) => self.others.exchanger.stop(),
        }
        self.close_control(self.now(), outcome);
        while (self.drain.stops.is_held() || !self.others.exchanger.is_finished())
            && self.runtime.now() < end
        {
            futures_lite::future::or(self.inlet.wake().wait(), self.runtime.sleep(LOOK)).await;
        }
        self.others.exchanger.stop();
        // Their tasks close the connections: a process that ended before would leave that to the kernel.
        self.runtime.sleep(LOOK).await;
    }
}
