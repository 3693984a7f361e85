//! The lower bound of latency and the upper bound of throughput of durable SETs, from what the machine can do.
//!
//! A write is durable when a majority of the nodes has synced it. With S the time of a sync, R a round trip
//! between nodes, q the majority, and B the operations of one write of the log:
//!
//! ```text
//! limit_p50 = client round trip + parse + q-th smallest of { S, R + S, R + S, … } + apply
//! limit_ops = least of
//!   sync        F · B             F: durable writes a second of one node, at its depth
//!   bandwidth   bytes a second of one node / bytes of the log for an operation
//!   processor   cores / c         c = c_op + c_client / pipeline + c_batch / B
//!   latency     clients · pipeline / limit_p50
//! ```
//!
//! Where two figures could be taken, the better one is. A result beyond a limit says that the machine was
//! slower while the limits were measured.

use serde::{Deserialize, Serialize};

use super::cpu::CpuLimits;
use super::disk::{DiskCell, FILES};
use super::tcp::TcpLimits;

/// Bytes of a key of the generator.
const KEY_BYTES: usize = 16;
/// Bytes of the log for an entry, beside key and value.
const ENTRY_BYTES: usize = 24;
/// Bytes of the log for a batch, beside its entries.
const BATCH_BYTES: usize = 64;
/// The log writes whole blocks of so many bytes.
const BLOCK_BYTES: usize = 4096;
/// Bytes of a SET on the wire, beside key and value.
const REQUEST_BYTES: usize = 34;
/// Bytes of the reply `+OK`.
const REPLY_BYTES: usize = 5;

/// What was measured of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The cores that a process may use.
    pub cores: usize,
    /// Whether writes passed by the page cache.
    pub is_direct: bool,
    /// The sync ladder; sizes that the disk does not take are not in it.
    pub disk: Vec<DiskCell>,
    /// Loopback.
    pub tcp: TcpLimits,
    /// One core.
    pub cpu: CpuLimits,
}

/// The load that the limits are for: SETs in a closed loop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Shards of a node; each has a log of its own.
    pub shards: usize,
    /// Nodes on this machine; they share its disk and its cores.
    pub nodes: usize,
    /// Connections of the generator.
    pub clients: usize,
    /// Operations that a connection sends in one write.
    pub pipeline: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
}

/// What the machine allows for a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// No write of an idle cluster can be faster in the median, in microseconds.
    pub limit_p50_micros: f64,
    /// The same when writes arrive while another sync runs: half a sync more, in microseconds.
    pub loaded_p50_micros: f64,
    /// No cluster can do more operations a second.
    pub limit_ops: f64,
    /// The term that `limit_ops` is.
    pub bound_by: Term,
    /// All terms of `limit_ops`, in operations a second.
    pub terms: Terms,
    /// Writes of the log that a node has under way, where the sync term is the largest.
    pub depth: usize,
    /// Operations of one write of the log, at that depth.
    pub batch_ops: f64,
    /// Bytes of that write.
    pub batch_bytes: usize,
}

/// A term of the upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Term {
    /// How often the disk syncs.
    Sync,
    /// How much the disk writes.
    Bandwidth,
    /// How much the cores compute.
    Processor,
    /// How long the clients wait for their replies.
    Latency,
}

impl Term {
    /// The term in the words of the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "the syncs of the disk",
            Self::Bandwidth => "the bandwidth of the disk",
            Self::Processor => "the processor",
            Self::Latency => "the latency of a write",
        }
    }
}

/// The terms of the upper bound, in operations a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// See [`Term::Sync`].
    pub sync: f64,
    /// See [`Term::Bandwidth`].
    pub bandwidth: f64,
    /// See [`Term::Processor`].
    pub processor: f64,
    /// See [`Term::Latency`].
    pub latency: f64,
}

impl Terms {
    fn least(&self) -> (Term, f64) {
        let all = [
            (Term::Sync, self.sync),
            (Term::Bandwidth, self.bandwidth),
            (Term::Processor, self.processor),
            (Term::Latency, self.latency),
        ];
        all.into_iter().min_by(|one, other| one.1.total_cmp(&other.1)).expect("four terms")
    }
}

/// One write of the log.
struct Batch<'a> {
    cell: &'a DiskCell,
    ops: f64,
    bytes: usize,
    /// Operations a second that a node makes durable in this way.
    rate: f64,
    /// Writes of the cell's size that this write takes.
    writes: f64,
}

impl Limits {
    /// The limits for a load.
    ///
    /// # Errors
    /// When a cell that they need was not measured. The text names the cell.
    pub fn of(measured: &Measured, load: &Load) -> Result<Self, String> {
        let machine = Machine { measured, load };
        let (sync, limit_p50_micros) = machine.lower_bound()?;
        let batch = machine.best_batch()?;
        let in_flight = (load.clients * load.pipeline) as f64;
        let terms = Terms {
            sync: batch.rate,
            bandwidth: machine.bytes_per_second() / (batch.bytes as f64 / batch.ops),
            processor: measured.cores as f64 * 1e6 / machine.processor_micros(&batch)?,
            latency: in_flight * 1e6 / limit_p50_micros,
        };
        let (bound_by, limit_ops) = terms.least();
        Ok(Self {
            limit_p50_micros,
            loaded_p50_micros: limit_p50_micros + sync / 2.0,
            limit_ops,
            bound_by,
            terms,
            depth: batch.cell.load.depth,
            batch_ops: batch.ops,
            batch_bytes: batch.bytes,
        })
    }

    /// What the limits take for granted, as sentences.
    pub fn assumptions(load: &Load) -> Vec<String> {
        vec![
            format!("all {} nodes share this disk, these cores and loopback", load.nodes),
            format!(
                "a sync of {} nodes costs what it costs {} writers at once",
                load.nodes,
                load.writers()
            ),
            format!(
                "an operation takes {} B of the log, a batch {BATCH_BYTES} B more, rounded up to {BLOCK_BYTES} B",
                load.log_bytes()
            ),
            "the better of O_DSYNC and fdatasync, of the same core and across cores, of all depths"
                .to_owned(),
            "all operations of the clients are always in a write of the log".to_owned(),
            "the generator takes no processor time, and raft takes none".to_owned(),
        ]
    }
}

impl Load {
    fn log_bytes(&self) -> usize {
        KEY_BYTES + self.value_bytes + ENTRY_BYTES
    }

    fn batch_bytes(&self, ops: f64) -> usize {
        let bytes = BATCH_BYTES + (ops * self.log_bytes() as f64).ceil() as usize;
        bytes.next_multiple_of(BLOCK_BYTES)
    }

    /// The writers of the cells that count: one was measured, and as many as there are files.
    fn writers(&self) -> usize {
        if self.nodes == 1 { 1 } else { FILES }
    }

    fn majority(&self) -> usize {
        self.nodes / 2 + 1
    }
}

/// A machine under a load.
struct Machine<'a> {
    measured: &'a Measured,
    load: &'a Load,
}

impl<'a> Machine<'a> {
    /// A sync, and the lower bound of latency, in microseconds.
    fn lower_bound(&self) -> Result<(f64, f64), String> {
        let sync = self.cells(1, self.load.batch_bytes(1.0))?.0;
        let sync = sync.iter().map(|cell| cell.p50_micros).fold(f64::INFINITY, f64::min);
        let round_trip = self.round_trip_micros()?;
        let mut durable = vec![sync];
        durable.resize(self.load.nodes, round_trip + sync);
        // One node syncs alone; the others hear of the write first.
        let replicated = durable[self.load.majority() - 1];
        let cpu = &self.measured.cpu;
        let work = (cpu.resp_parse_nanos + cpu.map_set_nanos) / 1e3;
        Ok((sync, round_trip + replicated + work))
    }

    fn round_trip_micros(&self) -> Result<f64, String> {
        let both = [self.measured.tcp.same_core, self.measured.tcp.across_cores];
        let both = both.iter().flatten().map(|trip| trip.p50_micros);
        both.reduce(f64::min).ok_or_else(|| "no round trip was measured".to_owned())
    }

    /// The cells of this depth in which a write of this many bytes fits, and how many such writes it takes.
    fn cells(&self, depth: usize, bytes: usize) -> Result<(Vec<&'a DiskCell>, f64), String> {
        let writers = self.load.writers();
        let is_meant = |cell: &&DiskCell| (cell.load.depth, cell.load.writers) == (depth, writers);
        let all = || self.measured.disk.iter().filter(is_meant);
        let largest = all().map(|cell| cell.load.bytes).max();
        let missing = || format!("no cell of depth {depth} with {writers} writers was measured");
        let largest = largest.ok_or_else(missing)?;
        let sizes = all().map(|cell| cell.load.bytes).filter(|&size| size >= bytes);
        let size = sizes.min().unwrap_or(largest);
        let writes = bytes.div_ceil(size) as f64;
        Ok((all().filter(|cell| cell.load.bytes == size).collect(), writes))
    }

    /// The depth at which a node makes the most operations durable. Each shard has one write under way at
    /// least.
    fn best_batch(&self) -> Result<Batch<'a>, String> {
        let depths = self.measured.disk.iter().map(|cell| cell.load.depth);
        let deepest = depths.clone().max().ok_or("no cell of the disk was measured")?;
        let least = self.load.shards.min(deepest);
        let mut depths: Vec<_> = depths.filter(|&depth| depth >= least).collect();
        depths.sort_unstable();
        depths.dedup();
        let mut best: Option<Batch<'a>> = None;
        for depth in depths {
            let ops = ((self.load.clients * self.load.pipeline) as f64 / depth as f64).max(1.0);
            let bytes = self.load.batch_bytes(ops);
            let (cells, writes) = self.cells(depth, bytes)?;
            for cell in cells {
                let rate = cell.writes_per_second / self.load.nodes as f64 / writes * ops;
                if best.as_ref().is_none_or(|best| rate > best.rate) {
                    best = Some(Batch { cell, ops, bytes, rate, writes });
                }
            }
        }
        best.ok_or_else(|| "no cell of the disk was measured".to_owned())
    }

    /// The most bytes that one node can make durable in a second.
    fn bytes_per_second(&self) -> f64 {
        let writers = self.load.writers();
        let cells = self.measured.disk.iter().filter(|cell| cell.load.writers == writers);
        let all = cells.map(|cell| cell.writes_per_second * cell.load.bytes as f64);
        all.fold(0.0, f64::max) / self.load.nodes as f64
    }

    /// Processor time of an operation on all nodes together, in microseconds.
    fn processor_micros(&self, batch: &Batch<'_>) -> Result<f64, String> {
        let (load, cpu) = (self.load, &self.measured.cpu);
        let nodes = load.nodes as f64;
        let pipeline = load.pipeline as f64;
        let crc = cpu.crc32c.iter().map(|cell| cell.nanos / cell.bytes as f64);
        let copy = cpu.memcpy.iter().map(|cell| cell.nanos / cell.bytes as f64);
        let (crc, copy) = (crc.fold(f64::INFINITY, f64::min), copy.fold(f64::INFINITY, f64::min));
        if !(crc.is_finite() && copy.is_finite()) {
            return Err("no checksum or no copy was measured".to_owned());
        }
        let each_node = cpu.map_set_nanos + (crc + copy) * load.log_bytes() as f64;
        let operation = (cpu.resp_parse_nanos + nodes * each_node) / 1e3;
        let request = (KEY_BYTES + load.value_bytes + REQUEST_BYTES) * load.pipeline;
        let client = self.stream(request)?.1 + self.stream(REPLY_BYTES * load.pipeline)?.0;
        let (frame, ack) = (self.stream(batch.bytes)?, self.stream(1)?);
        let exchange = frame.0 + frame.1 + ack.0 + ack.1;
        let writes = nodes * batch.writes * batch.cell.cpu_micros;
        Ok(operation + client / pipeline + ((nodes - 1.0) * exchange + writes) / batch.ops)
    }

    /// Processor time of one send, and of its receive, in microseconds.
    fn stream(&self, bytes: usize) -> Result<(f64, f64), String> {
        let cells = &self.measured.tcp.streams;
        let fits = cells.iter().filter(|cell| cell.bytes >= bytes).min_by_key(|cell| cell.bytes);
        let cell = fits.or_else(|| cells.iter().max_by_key(|cell| cell.bytes));
        let cell = cell.ok_or("no stream was measured")?;
        let sends = bytes.div_ceil(cell.bytes) as f64;
        Ok((sends * cell.send_cpu_micros, sends * cell.receive_cpu_micros))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cpu::ByteCell;
    use super::super::disk::{Durable, loads};
    use super::super::tcp::{RoundTrip, StreamCell};
    use super::*;

    /// One writer syncs in 80 µs, three in 100 µs each; more depth gives more; `fdatasync` takes twice as
    /// long. A round trip takes 10 µs.
    fn machine() -> Measured {
        let cell = |load: super::super::disk::DiskLoad| {
            let times = if load.durable == Durable::Dsync { 1.0 } else { 2.0 };
            let p50_micros = times * if load.writers == 1 { 80.0 } else { 100.0 };
            let writes_per_second = (load.writers * load.depth) as f64 * 1e6 / p50_micros;
            DiskCell {
                load,
                writes_per_second,
                p50_micros,
                p99_micros: p50_micros,
                cpu_micros: 10.0,
            }
        };
        let trip = |p50_micros| Some(RoundTrip { p50_micros, p99_micros: p50_micros });
        let stream = |bytes| StreamCell {
            bytes,
            sends_per_second: 1e5,
            send_cpu_micros: 3.0,
            receive_cpu_micros: 2.0,
        };
        Measured {
            cores: 2,
            is_direct: true,
            disk: loads().map(cell).collect(),
            tcp: TcpLimits {
                same_core: trip(10.0),
                across_cores: trip(30.0),
                streams: [64, 4096, 65_536].map(stream).to_vec(),
            },
            cpu: CpuLimits {
                syscall_nanos: 100.0,
                crc32c: vec![ByteCell { bytes: 4096, nanos: 4096.0 }],
                memcpy: vec![ByteCell { bytes: 4096, nanos: 4096.0 }],
                resp_parse_nanos: 100.0,
                map_set_nanos: 200.0,
            },
        }
    }

    const LOAD: Load = Load { shards: 1, nodes: 3, clients: 1, pipeline: 1, value_bytes: 16 };

    fn is_near(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-9 * other.abs()
    }

    #[test]
    fn the_lower_bound_is_a_round_trip_of_the_client_and_the_second_of_three_syncs() {
        let limits = Limits::of(&machine(), &LOAD).unwrap();
        assert!(is_near(limits.limit_p50_micros, 10.0 + 0.1 + (10.0 + 100.0) + 0.2), "{limits:?}");
        assert!(is_near(limits.loaded_p50_micros, limits.limit_p50_micros + 50.0));
        let alone = Limits::of(&machine(), &Load { nodes: 1, ..LOAD }).unwrap();
        assert!(is_near(alone.limit_p50_micros, 10.0 + 0.1 + 80.0 + 0.2), "{alone:?}");
        // Of five nodes three must have it, of two both.
        for nodes in [2, 5] {
            let limits = Limits::of(&machine(), &Load { nodes, ..LOAD }).unwrap();
            assert!(is_near(limits.limit_p50_micros, 120.3), "{nodes} nodes: {limits:?}");
        }
    }

    #[test]
    fn one_client_is_bound_by_its_own_waiting() {
        let limits = Limits::of(&machine(), &LOAD).unwrap();
        assert_eq!(limits.bound_by, Term::Latency);
        assert!(is_near(limits.limit_ops, 1e6 / 120.3), "{limits:?}");
        assert_eq!(limits.batch_bytes, 4096);
    }

    #[test]
    fn the_terms_of_many_clients_are_those_of_the_formulas() {
        let load = Load { clients: 64, pipeline: 16, ..LOAD };
        let limits = Limits::of(&machine(), &load).unwrap();
        // A node has 10,000 writes a second at depth 1, each with all 1,024 operations. At depth d there
        // are d times as many writes, each with a d-th of the operations.
        assert_eq!((limits.depth, limits.batch_ops), (1, 1024.0));
        assert_eq!(limits.batch_bytes, 57_408_usize.next_multiple_of(4096));
        assert!(is_near(limits.terms.sync, 10_000.0 * 1024.0), "{limits:?}");
        // 40,000 writes of 256 KiB a second at depth 4, and 57,344 + 64 B, rounded up, for 1,024 operations.
        let bandwidth = 40_000.0 * 262_144.0 / (61_440.0 / 1024.0);
        assert!(is_near(limits.terms.bandwidth, bandwidth), "{limits:?}");
        // Per operation: parse 0.1, and on each of 3 nodes 0.2 and 56 B at 2 ns. Per packet of 16: a
        // receive of 2 and a send of 3. Per batch: two exchanges of 10, and three writes of 10.
        let micros = 0.1 + 3.0 * (0.2 + 0.112) + 5.0 / 16.0 + (2.0 * 10.0 + 3.0 * 10.0) / 1024.0;
        assert!(is_near(limits.terms.processor, 2e6 / micros), "{limits:?}");
        assert!(is_near(limits.terms.latency, 1024.0 * 1e6 / 120.3), "{limits:?}");
        assert_eq!(limits.bound_by, Term::Processor);
        assert_eq!(limits.limit_ops, limits.terms.processor);
    }

    #[test]
    fn each_shard_has_a_write_under_way() {
        let load = Load { clients: 64, pipeline: 16, shards: 2, ..LOAD };
        let limits = Limits::of(&machine(), &load).unwrap();
        assert_eq!((limits.depth, limits.batch_ops), (2, 512.0));
        let many = Limits::of(&machine(), &Load { shards: 9, ..load }).unwrap();
        assert_eq!(many.depth, 4, "no more was measured");
    }

    #[test]
    fn a_write_beyond_the_ladder_is_several_writes() {
        let load = Load { clients: 64, pipeline: 16, value_bytes: 1024, ..LOAD };
        let limits = Limits::of(&machine(), &load).unwrap();
        let (deep, bytes) = (limits.depth as f64, limits.batch_bytes);
        let writes = bytes.div_ceil(262_144) as f64;
        assert!(
            is_near(limits.terms.sync, deep * 10_000.0 / writes * limits.batch_ops),
            "{limits:?}"
        );
    }

    #[test]
    fn a_cell_that_is_missing_is_named() {
        let mut measured = machine();
        measured.disk.retain(|cell| cell.load.writers == 1);
        let why = Limits::of(&measured, &LOAD).unwrap_err();
        assert!(why.contains("3 writers"), "{why}");
        measured.disk.clear();
        assert!(Limits::of(&measured, &LOAD).is_err());
    }
}
