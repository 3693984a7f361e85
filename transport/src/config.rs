//! The bounds and times of an exchanger.

/// The bounds and times of an exchanger. Its times are counted in beats: a beat is a call of
/// `Exchanger::beat`, once in a heartbeat interval. The defaults suit an interval of 100 ms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExchangerConfig {
    /// The longest body of a frame, in bytes. No item may be longer either. Default 16 MiB. It must
    /// be equal on all nodes: a node with a lower limit refuses the longer frames of the others.
    pub frame_bytes_max: usize,
    /// What waits to be written to one peer, in bytes. Default 32 MiB. With a lower limit a slow
    /// peer costs less memory; with a higher limit it may fall further behind before messages are
    /// dropped.
    pub outbox_bytes_max: usize,
    /// What has arrived from all peers and the engine has not fetched yet, in bytes of frames.
    /// Default 32 MiB. Beyond it nothing more is read, so that TCP slows the senders down. Each
    /// connection may exceed it by one frame.
    pub inbox_bytes_max: usize,
    /// Inbound connections whose handshake is not finished: so many from addresses of members, and so many
    /// from others. For one more the oldest is closed. Default 64.
    pub handshakes_max: usize,
    /// An inbound connection has this long to say whose it is, and this long again to take the answer. The
    /// wait for room in our inbox does not count. Default 5 beats.
    pub hello_beats: u64,
    /// A dial with its handshake may take this long. Default 20 beats.
    pub handshake_beats: u64,
    /// A connection that takes no bytes for this long is dropped. Default 50 beats.
    pub stall_beats: u64,
    /// A connection on which nothing came at all for this long is dropped. It must be much longer than a
    /// heartbeat interval. Default 300 beats.
    pub idle_beats: u64,
    /// A peer that was heard on a connection and then not for this long is silent: the connection is dropped,
    /// and the peer is dialled again. This is how a cut of the network is noticed: the kernel itself sends again
    /// after pauses that double up to 120 seconds, so a connection that outlives a cut would stay dead for up to as
    /// long again. It must be longer than an election timeout. Default 15 beats.
    pub silence_beats: u64,
    /// The pause before the next dial is drawn from 1 to this many beats. It does not grow: how soon a peer is
    /// dialled again bounds how long a cut of the network lasts on. Default 2 beats.
    pub dial_pause_beats: u64,
    /// The pause between log lines about connections that are not admitted. One that gives the name of a known
    /// peer has a line of its own, at most once in this time for each peer. One that gives another name has a
    /// line once for each name that is remembered. All the others are counted, and share one line in this time.
    /// Default 50 beats.
    pub unidentified_log_beats: u64,
    /// The seed of the random part of the pauses. Equal seeds give equal pauses.
    pub seed: u64,
}

impl Default for ExchangerConfig {
    fn default() -> Self {
        Self {
            frame_bytes_max: 16 << 20,
            outbox_bytes_max: 32 << 20,
            inbox_bytes_max: 32 << 20,
            handshakes_max: 64,
            hello_beats: 5,
            handshake_beats: 20,
            stall_beats: 50,
            idle_beats: 300,
            silence_beats: 15,
            dial_pause_beats: 2,
            unidentified_log_beats: 50,
            seed: 0,
        }
    }
}

impl ExchangerConfig {
    /// Panics when a bound or a time is zero, or when two of them contradict each other.
    pub(crate) fn assert_valid(&self) {
        let frame = crate::frame::HEADER_BYTES..=u32::MAX as usize;
        assert!(frame.contains(&self.frame_bytes_max), "{self:?}");
        assert!(self.outbox_bytes_max > 0 && self.inbox_bytes_max > 0, "{self:?}");
        assert!(self.handshakes_max > 0, "{self:?}");
        assert!(self.hello_beats > 0 && self.handshake_beats > 0, "{self:?}");
        assert!(self.stall_beats > 0 && self.dial_pause_beats > 0, "{self:?}");
        assert!(0 < self.silence_beats && self.silence_beats <= self.idle_beats, "{self:?}");
    }
}
