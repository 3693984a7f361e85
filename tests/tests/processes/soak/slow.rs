//! Clients that ask for far more than they read.

use super::Stop;
use purlin_server::resp::RespClient;
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

const READERS: usize = 6;
/// Each asks so often for a value of so many bytes: 32 MiB in one pipeline.
const QUESTIONS: usize = 64;
const VALUE_BYTES: usize = 500 << 10;
/// It reads so many bytes, then rests; after so many times it leaves.
const READ_BYTES: usize = 64 << 10;
const REST: Duration = Duration::from_millis(100);
const READS: usize = 150;
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct SlowReaders(Vec<JoinHandle<u64>>);

impl SlowReaders {
    pub(super) fn start(gateways: Vec<SocketAddr>, stop: &Arc<Stop>) -> Self {
        let start = |number: usize| {
            let (gateway, stop) = (gateways[number % gateways.len()], Arc::clone(stop));
            thread::spawn(move || {
                let mut bytes = 0;
                while !stop.wait(REST) {
                    // A node that is down, or has cut off its slowest client, is asked again.
                    let _ = read_slowly(gateway, &stop, &mut bytes);
                }
                bytes
            })
        };
        Self((0..READERS).map(start).collect())
    }

    pub(super) fn end(self) -> String {
        let bytes = self.0.into_iter().map(|thread| thread.join().expect("it cannot fail"));
        format!("slow readers read {} MB", bytes.sum::<u64>() >> 20)
    }
}

fn read_slowly(gateway: SocketAddr, stop: &Stop, bytes: &mut u64) -> io::Result<()> {
    let value = "s".repeat(VALUE_BYTES);
    let mut client = RespClient::connect(gateway, PATIENCE)?;
    client.command(&["SET", "slow:value", &value, "NX"])?;
    drop(client);
    let mut stream = TcpStream::connect_timeout(&gateway, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all("GET slow:value\r\n".repeat(QUESTIONS).as_bytes())?;
    let mut piece = vec![0; READ_BYTES];
    for _ in 0..READS {
        match stream.read(&mut piece)? {
            0 => break,
            count => *bytes += count as u64,
        }
        if stop.wait(REST) {
            break;
        }
    }
    Ok(())
}
