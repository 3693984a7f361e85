//! The request edge of a shard: how requests reach their groups, and how outcomes get back.
//!
//! # The way of a request
//!
//! ```text
//! any thread       Client ─► Inlet ─► InletCaller ─┐
//! the shard's core                         Caller ─┴─► Lane ─► RequestBatch ─┬─► the group, on this shard
//!                                                                            ├─► mesh ─► another shard
//!                                                                            └─► Forward ─► another node
//! another shard or node   RequestBatch ─► AcceptedBatch ─────────────────────►   the group, on this shard
//! ```
//!
//! - A **caller** hands in requests under tags of its own. Requests of other threads come through the
//!   shard's **inlet**, and the inlet's two callers hand them in.
//! - A **lane** holds the requests of one caller to one group, in order. It owns each request until its
//!   outcome: *queued* first, then *sent*.
//! - Lanes send requests of one kind as a [`RequestBatch`](purlin_transport::RequestBatch): what the lanes of a shard
//!   send to one group of another shard or node in one turn travels together ([`outgoing`]).
//! - A batch that went to another shard is **away** ([`away`]): the table remembers who waits for it. The
//!   shard that gets it either *bounces* it whole or **accepts** it whole ([`accepted`]).
//! - The group holds a **ticket** for each request it was handed. A ticket ends exactly once.
//!
//! # The way back
//!
//! What comes back for a request is its **outcome**: a ticket puts it into the lane, and from there it goes
//! to the caller; or it puts it into the accepted batch. When the batch is complete, its outcomes travel
//! back as one **reply**. A reply that finds a full channel waits among the [`late`] replies.
//!
//! # Rules
//!
//! - Order (safety E1): of a lane, one batch is away at a time. A batch that bounced was never appended; its
//!   requests go out again before anything younger. A proposal that was once appended is never sent again by
//!   us: it ends applied, not applied or unknown.
//! - Reads (safety E2): a lane sends requests of one kind at a time, so a query sees the proposals before it.
//! - A shard that does not lead a group never passes a batch of another node on (safety E1).
//! - A full channel hands a batch back and never waits (safety E4).
//!
//! # Deadlines
//!
//! A request ends at the latest soon after [`IntakeOptions::deadline`](crate::IntakeOptions::deadline), and one
//! that has found no leader, or no room on its way to the leader, after
//! [`IntakeOptions::leader_deadline`](crate::IntakeOptions::leader_deadline), whatever comes behind it. When
//! the client of a caller has gone, its requests that have found no leader end at once ([`Caller::leave`]). A
//! query whose answer has no room with its caller waits for that caller, and has no deadline meanwhile. After the time for
//! finding a leader it counts no more in what the shard has taken in: it keeps no other caller out.
//!
//! [`Caller::leave`]: crate::Caller::leave
//! All deadlines are in one queue ([`deadlines`]): whoever holds requests (a caller, a group, the table of
//! batches away, the late replies) stands there at most once, with its oldest. To expire costs what expires.
//!
//! # Bounds
//!
//! | what | bound |
//! | --- | --- |
//! | requests of other threads before the shard takes them in | the inlet's capacity |
//! | requests of this shard's callers, and their bytes | `IntakeOptions`; more are refused as busy, and a caller that has much is refused at three quarters; each caller by itself has no more, also of what is not counted |
//! | answers that a caller has not taken | `Caller::bound_answers` and one answer; more are made later |
//! | requests accepted from other shards, and their bytes | as many again |
//! | batches away | one for each lane, and one for each accepted by this node's other shards |
//! | requests of one batch for another shard, and their bytes | constants of [`caller`]; a lane sends the rest later |
//! | callers that are gone in the queue of deadlines | a constant of [`requests`], or as many as the others there |
//! | late replies, and their bytes | constants of [`late`]; more are dropped, and their requests expire |

pub(crate) mod client;
pub(crate) mod inlet;
pub(crate) mod local;

pub(crate) mod caller;
pub(crate) mod lane;
pub(crate) mod request;
pub(crate) mod without_room;

pub(crate) mod away;
pub(crate) mod other_shard;
pub(crate) mod outgoing;

pub(crate) mod accepted;
pub(crate) mod late;
pub(crate) mod ticket;

pub(crate) mod deadlines;
pub(crate) mod requests;
