//! The limits as a table, and as JSON.
//!
//! This module only formats. The JSON (version 1) is one object:
//!
//! ```text
//! { "version": 1, "host": {…}, "seconds_a_cell", "measured": { "cores", "is_direct", "disk": [ {…}, … ],
//!   "tcp": {…}, "cpu": {…} }, "load": {…}, "limits": {…}, "assumptions": [ "…", … ] }
//! ```
//!
//! Names in it end with their unit. `load` and `measured` are what `purlin-bench --limits` reads.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::cpu::ByteCell;
use super::disk::{DEPTHS, Durable, FILE_BYTES, FILES, SIZES, WRITERS};
use super::formula::{Limits, Load, Measured};
use super::tcp::RoundTrip;
use crate::host::HostFacts;

/// The version of the JSON.
const VERSION: u32 = 1;

/// All that a run of `limits` says.
#[derive(Debug, Serialize)]
pub struct LimitsReport {
    version: u32,
    host: HostFacts,
    seconds_a_cell: f64,
    measured: Measured,
    load: Load,
    limits: Limits,
    assumptions: Vec<String>,
}

/// What a later run of the generator reads of it.
#[derive(Clone, Debug, Deserialize)]
pub struct SavedLimits {
    version: u32,
    /// What was measured.
    pub measured: Measured,
    /// The load of that run.
    pub load: Load,
}

impl SavedLimits {
    /// Reads the JSON of a former run.
    ///
    /// # Errors
    /// The text says what is wrong with it.
    pub fn parse(json: &str) -> Result<Self, String> {
        let saved: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if saved.version != VERSION {
            return Err(format!("its version is {}, and {VERSION} is read", saved.version));
        }
        Ok(saved)
    }
}

impl LimitsReport {
    /// The report of a run.
    pub fn new(
        host: HostFacts,
        seconds_a_cell: f64,
        measured: Measured,
        load: Load,
        limits: Limits,
    ) -> Self {
        let assumptions = Limits::assumptions(&load);
        Self { version: VERSION, host, seconds_a_cell, measured, load, limits, assumptions }
    }

    /// Everything, as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings only")
    }

    /// Everything, as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write_host(&mut text);
        self.write_disk(&mut text);
        self.write_tcp(&mut text);
        self.write_cpu(&mut text);
        self.write_limits(&mut text);
        text
    }

    fn write_host(&self, text: &mut String) {
        let HostFacts { cpu, kernel, cores, load_average, .. } = &self.host;
        let load = load_average.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"));
        let seconds = self.seconds_a_cell;
        let _ = writeln!(
            text,
            "host      {cpu}, kernel {kernel}, cores {cores}, load average {load}\n\
             time      {seconds} s for each cell"
        );
    }

    fn write_disk(&self, text: &mut String) {
        let cache = if self.measured.is_direct { "O_DIRECT" } else { "through the page cache" };
        let _ = writeln!(
            text,
            "disk      overwrites of {FILES} preallocated files of {} MiB, {cache}; a thread for each write under way",
            FILE_BYTES >> 20
        );
        let depths = DEPTHS.map(|depth| format!("depth {depth}: /s  p50 µs  p99 µs"));
        let depths = depths.iter().fold(String::new(), |all, depth| format!("{all}{depth:>30}"));
        let _ = writeln!(text, "          {:<10}{:>8}{:>9}{depths}", "durable", "bytes", "writers");
        for (way, name) in [(Durable::Dsync, "O_DSYNC"), (Durable::Fdatasync, "fdatasync")] {
            for writers in WRITERS {
                for bytes in SIZES {
                    let cells = DEPTHS.map(|depth| self.disk_cell(way, bytes, depth, writers));
                    let cells = cells.concat();
                    let _ = writeln!(text, "          {name:<10}{bytes:>8}{writers:>9}{cells}");
                }
            }
        }
    }

    /// Writes a second and two percentiles of one cell; dashes if the disk takes no such writes.
    fn disk_cell(&self, durable: Durable, bytes: usize, depth: usize, writers: usize) -> String {
        let load = super::disk::DiskLoad { durable, bytes, depth, writers };
        match self.measured.disk.iter().find(|cell| cell.load == load) {
            None => format!("{:>14}{:>8}{:>8}", "–", "–", "–"),
            Some(cell) => format!(
                "{:>14.0}{:>8.0}{:>8.0}",
                cell.writes_per_second, cell.p50_micros, cell.p99_micros
            ),
        }
    }

    fn write_tcp(&self, text: &mut String) {
        let tcp = &self.measured.tcp;
        let trip = |trip: &Option<RoundTrip>| match trip {
            None => "not measured".to_owned(),
            Some(trip) => format!("p50 {:.1} µs, p99 {:.1} µs", trip.p50_micros, trip.p99_micros),
        };
        let _ = writeln!(text, "tcp       64 B there and back on loopback");
        let _ = writeln!(text, "          same core      {}", trip(&tcp.same_core));
        let _ = writeln!(text, "          across cores   {}", trip(&tcp.across_cores));
        let _ = writeln!(
            text,
            "          one direction: bytes, sends a second, processor µs of a send, of its receive"
        );
        for cell in &tcp.streams {
            let _ = writeln!(
                text,
                "          {:>14}{:>16.0}{:>12.2}{:>12.2}",
                cell.bytes, cell.sends_per_second, cell.send_cpu_micros, cell.receive_cpu_micros
            );
        }
    }

    fn write_cpu(&self, text: &mut String) {
        let cpu = &self.measured.cpu;
        let bytes = |cells: &[ByteCell]| {
            let one = |cell: &ByteCell| {
                format!(
                    "{} B {:.0} ns ({:.1} GB/s)",
                    cell.bytes,
                    cell.nanos,
                    cell.gigabytes_per_second()
                )
            };
            cells.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(
            text,
            "cpu       system call {:.0} ns; parse of one SET {:.0} ns; replacing a value in a hash map {:.0} ns\n          \
             CRC32C  {}\n          memcpy  {}",
            cpu.syscall_nanos,
            cpu.resp_parse_nanos,
            cpu.map_set_nanos,
            bytes(&cpu.crc32c),
            bytes(&cpu.memcpy)
        );
    }

    fn write_limits(&self, text: &mut String) {
        let Self { load, limits, .. } = self;
        let _ = writeln!(
            text,
            "load      SET of {} B, {} clients × pipeline {}, nodes {}, shards of a node {}",
            load.value_bytes, load.clients, load.pipeline, load.nodes, load.shards
        );
        let _ = writeln!(
            text,
            "limit_p50 {:.3} ms for a write alone; {:.3} ms when it waits for half a sync before its own",
            limits.limit_p50_micros / 1e3,
            limits.loaded_p50_micros / 1e3
        );
        let terms = &limits.terms;
        let _ = writeln!(
            text,
            "limit_ops {:.0} a second, bound by {}: sync {:.0}, bandwidth {:.0}, processor {:.0}, latency {:.0}\n          \
             writes of a node under way: {}, each of {:.0} operations and {} B",
            limits.limit_ops,
            limits.bound_by.name(),
            terms.sync,
            terms.bandwidth,
            terms.processor,
            terms.latency,
            limits.depth,
            limits.batch_ops,
            limits.batch_bytes
        );
        for (at, assumption) in self.assumptions.iter().enumerate() {
            let name = if at == 0 { "assumed" } else { "" };
            let _ = writeln!(text, "{name:<10}{assumption}");
        }
    }
}
