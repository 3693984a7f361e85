//! A tiny server of the Redis protocol for the tests: loopback, a free port, a thread a connection.
//!
//! It reads whole commands and answers each as the test says, by the number of the command since the
//! server started, or by its words. It stops, and its threads with it, when it is dropped.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What becomes of one command.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These bytes are sent.
    Send(&'static [u8]),
    /// This text is sent.
    Say(String),
    /// Nothing is sent, and the connection stays.
    Nothing,
    /// The connection ends.
    Close,
    /// The server dies: listener and all connections end, as if killed.
    Die,
}

type Script = dyn Fn(u64, &[String]) -> Answer + Send + Sync;

/// A running server.
pub(crate) struct TinyServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    script: Box<Script>,
    /// Commands seen.
    commands: AtomicU64,
    is_dead: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
    /// The commands themselves, as words.
    seen: Mutex<Vec<Vec<String>>>,
}

impl TinyServer {
    /// A server on a free port.
    pub(crate) fn start(script: impl Fn(u64) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub(crate) fn start_on(
        listener: TcpListener,
        script: impl Fn(u64) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::answer_on(listener, move |number, _| script(number))
    }

    /// A server that answers each command by its number and its words.
    pub(crate) fn answer_on(
        listener: TcpListener,
        script: impl Fn(u64, &[String]) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            commands: AtomicU64::new(0),
            is_dead: AtomicBool::new(false),
            connections: Mutex::new(Vec::new()),
            seen: Mutex::new(Vec::new()),
        });
        let accepting = shared.clone();
        let acceptor = Some(thread::spawn(move || accept(&listener, &accepting)));
        Self { address, shared, acceptor }
    }

    /// How many commands came.
    pub(crate) fn commands(&self) -> u64 {
        self.shared.commands.load(Ordering::SeqCst)
    }

    /// Takes the commands that came, word by word.
    pub(crate) fn take_seen(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }

    /// Waits until the server has died of [`Answer::Die`].
    pub(crate) fn wait_for_death(&mut self) {
        self.acceptor.take().unwrap().join().unwrap();
    }
}

impl Drop for TinyServer {
    fn drop(&mut self) {
        self.shared.die(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
    }
}

impl Shared {
    fn die(&self, address: SocketAddr) {
        self.is_dead.store(true, Ordering::SeqCst);
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // The acceptor waits for a connection: give it one, so that it looks.
        let _ = TcpStream::connect(address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((connection, _)) = listener.accept() {
        if shared.is_dead.load(Ordering::SeqCst) {
            break;
        }
        connection.set_nodelay(true).unwrap();
        shared.connections.lock().unwrap().push(connection.try_clone().unwrap());
        let shared = shared.clone();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(&connection, &shared, address));
    }
}

fn serve(connection: &TcpStream, shared: &Shared, address: SocketAddr) {
    let mut reader = BufReader::new(connection);
    while let Some(words) = command(&mut reader) {
        let number = shared.commands.fetch_add(1, Ordering::SeqCst);
        let answer = (shared.script)(number, &words);
        shared.seen.lock().unwrap().push(words);
        let is_sent = |bytes: &[u8]| (&mut &*connection).write_all(bytes).is_ok();
        match answer {
            Answer::Send(bytes) if !is_sent(bytes) => return,
            Answer::Say(text) if !is_sent(text.as_bytes()) => return,
            Answer::Send(_) | Answer::Say(_) => {}
            Answer::Nothing => {}
            Answer::Close => {
                let _ = connection.shutdown(Shutdown::Both);
                return;
            }
            Answer::Die => return shared.die(address),
        }
    }
}

fn command(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let count = announced(reader, '*')?;
    (0..count)
        .map(|_| {
            let mut word = vec![0; announced(reader, '$')? + 2];
            reader.read_exact(&mut word).ok()?;
            assert_eq!(word.split_off(word.len() - 2), b"\r\n");
            Some(String::from_utf8(word).unwrap())
        })
        .collect()
}

fn announced(reader: &mut impl BufRead, kind: char) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let number = line.strip_suffix("\r\n")?.strip_prefix(kind)?;
    Some(number.parse().unwrap())
}
