//! TCP on loopback: how long 64 bytes take there and back, and what a send and a receive cost.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use super::sample::{Bounds, micros, thread_cpu_micros, timed, times};

/// Bytes of a ping, and of its answer.
const PING_BYTES: usize = 64;
/// Bytes of a send in the streams.
pub const SEND_SIZES: [usize; 3] = [64, 4 << 10, 64 << 10];
const READ_BYTES: usize = 256 << 10;

/// What TCP on loopback can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpLimits {
    /// Both ends on one core.
    pub same_core: Option<RoundTrip>,
    /// The ends on two cores. `None` if this process may use one core only.
    pub across_cores: Option<RoundTrip>,
    /// One direction, as fast as it goes.
    pub streams: Vec<StreamCell>,
}

/// There and back, 64 bytes each, in blocking calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundTrip {
    /// Half of them took no longer, in microseconds.
    pub p50_micros: f64,
    /// 99 of 100 took no longer, in microseconds.
    pub p99_micros: f64,
}

/// Sends of one size, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamCell {
    /// Bytes of a send.
    pub bytes: usize,
    /// Sends a second.
    pub sends_per_second: f64,
    /// Processor time of the sender for each send, in microseconds. On loopback the delivery is in it.
    pub send_cpu_micros: f64,
    /// Processor time of the receiver for each send, in microseconds. A receive may take many small sends.
    pub receive_cpu_micros: f64,
}

/// How many cells there are.
pub const CELLS: usize = 2 + SEND_SIZES.len();

/// Measures all cells.
///
/// # Errors
/// When a socket of loopback fails.
pub fn measure(bounds: Bounds<'_>) -> io::Result<TcpLimits> {
    let cores = cores();
    let same = cores.first().map(|&core| (core, core));
    let across = cores.first().zip(cores.get(1)).map(|(&one, &other)| (one, other));
    let streams = SEND_SIZES.iter().map(|&bytes| stream(bytes, bounds));
    Ok(TcpLimits {
        same_core: same.map(|on| round_trip(on, bounds)).transpose()?,
        across_cores: across.map(|on| round_trip(on, bounds)).transpose()?,
        streams: streams.collect::<io::Result<_>>()?,
    })
}

/// The cores that this process may use.
fn cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

/// The cores of the client and of the answering end.
fn round_trip(on: (usize, usize), bounds: Bounds<'_>) -> io::Result<RoundTrip> {
    let (mut client, mut server) = pair()?;
    thread::scope(|scope| {
        let answers = scope.spawn(move || -> io::Result<()> {
            pin(on.1)?;
            let mut ping = [0; PING_BYTES];
            // The end of the connection ends the thread.
            while server.read_exact(&mut ping).is_ok() {
                server.write_all(&ping)?;
            }
            Ok(())
        });
        // A thread of its own, so that the caller keeps its cores.
        let asks = scope.spawn(move || -> io::Result<RoundTrip> {
            pin(on.0)?;
            let (mut times, mut ping) = (times(), [0; PING_BYTES]);
            let window = bounds.open();
            while times.is_empty() || window.is_open() {
                timed(&mut times, || {
                    client.write_all(&ping)?;
                    client.read_exact(&mut ping)
                })?;
            }
            Ok(RoundTrip { p50_micros: micros(&times, 0.5), p99_micros: micros(&times, 0.99) })
        });
        let result = asks.join().expect("the asking thread does not panic")?;
        answers.join().expect("the answering thread does not panic")?;
        Ok(result)
    })
}

fn stream(bytes: usize, bounds: Bounds<'_>) -> io::Result<StreamCell> {
    let (mut sender, mut receiver) = pair()?;
    thread::scope(|scope| {
        let receives = scope.spawn(move || -> io::Result<f64> {
            let mut buffer = vec![0; READ_BYTES];
            let before = thread_cpu_micros();
            while receiver.read(&mut buffer)? > 0 {}
            Ok(thread_cpu_micros() - before)
        });
        let (block, mut sends) = (vec![0; bytes], 0_u64);
        let before = thread_cpu_micros();
        let window = bounds.open();
        while sends == 0 || window.is_open() {
            sender.write_all(&block)?;
            sends += 1;
        }
        let (seconds, send_cpu) = (window.seconds(), thread_cpu_micros() - before);
        sender.shutdown(Shutdown::Write)?;
        let receive_cpu = receives.join().expect("the receiving thread does not panic")?;
        Ok(StreamCell {
            bytes,
            sends_per_second: sends as f64 / seconds,
            send_cpu_micros: send_cpu / sends as f64,
            receive_cpu_micros: receive_cpu / sends as f64,
        })
    })
}

/// Two ends of a connection.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

/// Keeps the calling thread on one core.
fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}
