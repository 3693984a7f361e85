//! Takes connections of clients in, a task for each.

use super::{
    backend::{Backend, NodeFacts, ShardBackend},
    connection::{refuse_client, serve_client},
    front::{ClientPort, FrontEnd, FrontEndOptions},
};
use futures_lite::future;
use purlin::{Listener, LocalShard, Net, Runtime};
use std::{rc::Rc, time::Duration};
use tracing::warn;

/// Where clients come to a shard.
pub struct ClientListeners<L> {
    /// To the gateway of its node.
    pub gateway: L,
    /// To the shard's own port.
    pub shard: Option<L>,
}

/// Serves every client that comes to a shard, on the shard's own core, until the shard stops. Then it accepts no more
/// and takes no more requests, and the shard waits until the replies that are due are written.
pub fn serve_shard<R: Runtime>(
    local: &LocalShard<R>,
    listeners: ClientListeners<<R::Net as Net>::Listener>,
    options: FrontEndOptions,
    facts: NodeFacts,
) {
    let (runtime, local, facts) = (local.runtime().clone(), local.clone(), Rc::new(facts));
    let (front, hold) = (FrontEnd::new(options), local.hold());
    let backend = move || ShardBackend::new(&local, &facts);
    let ClientListeners { gateway, shard } = listeners;
    let ports = [(Some(gateway), ClientPort::Gateway), (shard, ClientPort::Shard)];
    for (listener, port) in ports {
        let Some(listener) = listener else { continue };
        let (front, backend) = (Rc::clone(&front), backend.clone());
        runtime.spawn(serve_clients(runtime.clone(), front, listener, port, backend));
    }
    runtime.spawn(async move {
        hold.begun().await;
        front.stop().await;
    });
}

/// Serves every client that comes, until the front end stops. `backend` makes a way to the groups for each
/// connection.
pub async fn serve_clients<R: Runtime, B: Backend>(
    runtime: R,
    front: Rc<FrontEnd>,
    mut listener: <R::Net as Net>::Listener,
    port: ClientPort,
    backend: impl Fn() -> B,
) {
    /// Long enough for some connection to end when there are too many files open.
    const PAUSE: Duration = Duration::from_millis(100);
    loop {
        let accept = async { Some(listener.accept().await) };
        let stops = async {
            front.stops(port).await;
            None
        };
        let Some(accepted) = future::or(stops, accept).await else { return };
        match accepted {
            Ok((_, writer)) if !listener.has_room() => {
                const WHY: &str = "the other file descriptors are kept for the log and other nodes";
                runtime.spawn(refuse_client(runtime.clone(), Rc::clone(&front), writer, WHY));
            }
            Ok((reader, writer)) => {
                let (front, backend) = (Rc::clone(&front), backend());
                let runtime = runtime.clone();
                runtime.clone().spawn(serve_client(runtime, front, port, backend, reader, writer));
            }
            Err(error) => {
                if front.may_log(runtime.now()) {
                    warn!(
                        port = listener.port(),
                        %error,
                        "a client's connection could not be accepted; the shard tries again; if this \
                         lasts, raise the limit of open files (ulimit -n)"
                    );
                }
                runtime.sleep(PAUSE).await;
            }
        }
    }
}
