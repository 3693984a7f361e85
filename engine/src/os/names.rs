//! Look-ups of host names, each on a thread of its own.
//!
//! A name server that does not answer holds a look-up for half a minute. So a look-up never runs on the
//! executor's own blocking thread, which renames and removes the files of the log. Of each name at most one
//! look-up runs at a time, and one begins at most once in [`PAUSE`]; the names are those of the members. What
//! was found last is kept, and dialled first: so a name that cannot be looked up any more harms no
//! connection.

use super::sockets::{self, no_address, parts};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    thread,
    time::{Duration, Instant},
};

/// The shortest time between the beginnings of two look-ups of a name.
const PAUSE: Duration = Duration::from_secs(1);

/// How names are looked up.
type Resolve = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// The names that one executor has looked up. Clones share them.
#[derive(Clone)]
pub(crate) struct Names {
    resolve: Resolve,
    pause: Duration,
    hosts: Rc<RefCell<BTreeMap<String, Host>>>,
}

/// What is known of one name.
#[derive(Default)]
struct Host {
    /// What the last look-up has found that found anything. The address that was reached last is the first.
    found: Vec<IpAddr>,
    /// The last look-up, which may still run, and when it began.
    last: Option<(Arc<Answer>, Instant)>,
}

/// What a look-up has found, once it has ended.
#[derive(Default)]
struct Answer(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// The addresses, or the kind and the text of the error.
    outcome: Option<Result<Vec<IpAddr>, (io::ErrorKind, String)>>,
    /// The tasks that wait for it.
    wakers: Vec<Waker>,
}

/// A look-up, and what was known before it.
pub(crate) struct LookUp {
    /// What an earlier one has found.
    pub(crate) known: Vec<IpAddr>,
    answer: Arc<Answer>,
}

impl LookUp {
    /// What it finds, once it has ended.
    pub(crate) async fn found(&self) -> io::Result<Vec<IpAddr>> {
        self.answer.ended().await.map_err(|(kind, text)| io::Error::new(kind, text))
    }
}

impl Answer {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, outcome: io::Result<Vec<IpAddr>>) {
        let mut waiting = self.lock();
        waiting.outcome = Some(outcome.map_err(|error| (error.kind(), error.to_string())));
        waiting.wakers.drain(..).for_each(Waker::wake);
    }

    /// Returns once the look-up has ended.
    async fn ended(&self) -> Result<Vec<IpAddr>, (io::ErrorKind, String)> {
        poll_fn(|context| {
            let mut waiting = self.lock();
            if let Some(outcome) = &waiting.outcome {
                return Poll::Ready(outcome.clone());
            }
            if !waiting.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Names {
    /// As the machine looks names up.
    pub(crate) fn new() -> Self {
        let resolve = |host: &str| Ok((host, 0).to_socket_addrs()?.map(|at| at.ip()).collect());
        Self::with(Arc::new(resolve), PAUSE)
    }

    pub(crate) fn with(resolve: Resolve, pause: Duration) -> Self {
        Self { resolve, pause, hosts: Rc::default() }
    }

    /// The look-up of `host` that runs, or began a moment ago, or begins now.
    pub(crate) fn look_up(&self, host: &str) -> LookUp {
        self.settle(host);
        let mut hosts = self.hosts.borrow_mut();
        let host_of = hosts.entry(host.to_owned()).or_default();
        let known = host_of.found.clone();
        if let Some((answer, began)) = &host_of.last
            && (answer.lock().outcome.is_none() || began.elapsed() < self.pause)
        {
            return LookUp { known, answer: answer.clone() };
        }
        let answer = Arc::new(Answer::default());
        host_of.last = Some((answer.clone(), Instant::now()));
        let (resolve, name, told) = (self.resolve.clone(), host.to_owned(), answer.clone());
        let run = move || told.end(resolve(&name));
        if let Err(error) = thread::Builder::new().name("name look-up".into()).spawn(run) {
            answer.end(Err(error));
        }
        LookUp { known, answer }
    }

    /// A connection was made to this address of `host`.
    pub(crate) fn reached(&self, host: &str, address: IpAddr) {
        self.settle(host);
        if let Some(host) = self.hosts.borrow_mut().get_mut(host) {
            host.put_first(address);
        }
    }

    /// Takes over what the last look-up has found, if it has ended.
    fn settle(&self, host: &str) {
        let mut hosts = self.hosts.borrow_mut();
        let Some(host) = hosts.get_mut(host) else { return };
        let Some((answer, _)) = &host.last else { return };
        let outcome = answer.lock().outcome.clone();
        let Some(Ok(found)) = outcome else { return };
        if !found.is_empty() {
            let first = host.found.first().copied();
            host.found = found;
            first.into_iter().for_each(|address| host.put_first(address));
        }
    }
}

impl Host {
    /// Puts an address first, if it is one of the name.
    fn put_first(&mut self, address: IpAddr) {
        if let Some(place) = self.found.iter().position(|found| *found == address) {
            self.found[..=place].rotate_right(1);
        }
    }
}

/// Connects to `address`, as `host:port`, by `dial`. Of a name, the addresses that are known are dialled first, and a
/// look-up waited for only if none of them takes the connection.
///
/// # Errors
/// The address is none, is not known, or the last of its addresses takes no connection.
pub(crate) async fn connect<C>(
    names: &Names,
    address: &str,
    dial: impl AsyncFn(SocketAddr) -> io::Result<C>,
) -> io::Result<C> {
    let (host, port) = parts(address)?;
    if let Ok(number) = host.parse() {
        return dial(SocketAddr::new(number, port)).await;
    }
    let look_up = names.look_up(host);
    let mut dialled = dial_first(&look_up.known, port, &dial).await;
    if !matches!(dialled, Some(Ok(_))) {
        let mut found = look_up.found().await?;
        found.retain(|address| !look_up.known.contains(address));
        dialled = dial_first(&found, port, &dial).await.or(dialled);
    }
    let (reached, connection) = dialled.unwrap_or_else(|| Err(no_address(address)))?;
    names.reached(host, reached);
    Ok(connection)
}

/// Connects to the first of these addresses that takes a connection.
async fn dial_first<C>(
    addresses: &[IpAddr],
    port: u16,
    dial: impl AsyncFn(SocketAddr) -> io::Result<C>,
) -> Option<io::Result<(IpAddr, C)>> {
    let mut last = None;
    for &address in addresses {
        match dial(SocketAddr::new(address, port)).await {
            Ok(connection) => return Some(Ok((address, connection))),
            Err(error) => last = Some(Err(error)),
        }
    }
    last
}

/// A socket that listens at `address`, as `host:port`.
///
/// # Errors
/// The address is none or is not known, or the last of its addresses is taken or not of this machine.
pub(crate) async fn listen(names: &Names, address: &str) -> io::Result<OwnedFd> {
    let (host, port) = parts(address)?;
    let addresses = match host.parse() {
        Ok(number) => vec![number],
        Err(_) => names.look_up(host).found().await?,
    };
    let mut last = no_address(address);
    for at in addresses {
        match sockets::listen(SocketAddr::new(at, port)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    /// Look-ups that give these answers one after the other, and then stand still until the sender is dropped.
    /// Counts those that have begun.
    pub(crate) fn scripted(
        answers: Vec<Vec<IpAddr>>,
    ) -> (Names, Arc<AtomicUsize>, mpsc::Sender<()>) {
        let (sender, still) = mpsc::channel::<()>();
        let (still, begun) = (Mutex::new(still), Arc::new(AtomicUsize::new(0)));
        let count = begun.clone();
        let resolve = move |_: &str| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            answers.get(number).cloned().ok_or_else(|| {
                still.lock().unwrap().recv().ok();
                io::Error::other("nobody answers")
            })
        };
        (Names::with(Arc::new(resolve), Duration::ZERO), begun, sender)
    }

    #[test]
    fn what_was_found_last_stays_known_and_one_look_up_runs_at_a_time() {
        let address = |last| IpAddr::from([127, 0, 0, last]);
        let (names, begun, _still) = scripted(vec![vec![address(1), address(2)]]);
        let found = futures_lite::future::block_on(names.look_up("host").found());
        assert_eq!(found.unwrap(), [address(1), address(2)]);
        names.reached("host", address(2));
        for _ in 0..100 {
            assert_eq!(names.look_up("host").known, [address(2), address(1)]);
        }
        // The second one, which stands still, may not have begun yet.
        assert!(begun.load(Ordering::SeqCst) <= 2);
    }
}
