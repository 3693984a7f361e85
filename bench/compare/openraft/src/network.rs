//! Messages between the nodes, over loopback: one connection from each node to each other one, for all groups.
//!
//! A frame is its length in 4 bytes and a [`Question`] or an [`Answer`]. What waits for a connection goes out in one
//! write. Nothing is sent again: openraft asks anew.

use crate::types::{GroupId, NodeId, Replica, TypeConfig};
use openraft::{
    BasicNode,
    error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable},
    network::{RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest,
        InstallSnapshotResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
};

/// The longest frame.
const FRAME_BYTES_MAX: usize = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Question {
    number: u64,
    group: GroupId,
    request: Request,
}

#[derive(Serialize, Deserialize)]
enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<NodeId>),
}

#[derive(Serialize, Deserialize)]
struct Answer {
    number: u64,
    response: Response,
}

#[derive(Serialize, Deserialize)]
enum Response {
    Append(Result<AppendEntriesResponse<NodeId>, RaftError<NodeId>>),
    Vote(Result<VoteResponse<NodeId>, RaftError<NodeId>>),
}

/// The replicas of a node, by their groups; complete before the first frame comes.
pub(crate) type Replicas = Arc<Vec<Replica>>;

/// Answers the other nodes, until the runtime ends.
pub(crate) async fn serve(listener: TcpListener, replicas: Replicas) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Ok((reader, sender)) = split(stream) {
            tokio::spawn(answer_all(reader, sender, replicas.clone()));
        }
    }
}

async fn answer_all(
    mut reader: BufReader<OwnedReadHalf>,
    sender: UnboundedSender<Vec<u8>>,
    replicas: Replicas,
) {
    while let Ok(Question { number, group, request }) = read(&mut reader).await {
        let (replica, sender) = (replicas[group as usize].clone(), sender.clone());
        tokio::spawn(async move {
            let response = match request {
                Request::Append(request) => Response::Append(replica.append_entries(request).await),
                Request::Vote(request) => Response::Vote(replica.vote(request).await),
            };
            // The connection may be gone: the other node asks again.
            let _ = sender.send(frame(&Answer { number, response }));
        });
    }
}

/// One half to read from, and the sender of frames to the other.
fn split(stream: TcpStream) -> io::Result<(BufReader<OwnedReadHalf>, UnboundedSender<Vec<u8>>)> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    // Bounded by what is under way: openraft sends a follower one request at a time for each group.
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(write_all(writer, receiver));
    Ok((BufReader::with_capacity(64 << 10, reader), sender))
}

/// Writes what waits, all of it at once.
async fn write_all(mut writer: OwnedWriteHalf, mut frames: UnboundedReceiver<Vec<u8>>) {
    while let Some(mut bytes) = frames.recv().await {
        while let Ok(more) = frames.try_recv() {
            bytes.extend_from_slice(&more);
        }
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn frame(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bincode::serialize_into(&mut bytes, message).expect("plain data can be written");
    let len = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes
}

async fn read<T: DeserializeOwned>(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<T> {
    let len = reader.read_u32_le().await? as usize;
    if len > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes).await?;
    bincode::deserialize(&bytes).map_err(io::Error::other)
}

/// The connection from one node to another. A clone is another handle.
#[derive(Clone)]
pub(crate) struct Link(Arc<LinkState>);

struct LinkState {
    sender: UnboundedSender<Vec<u8>>,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    newest: u64,
    /// The questions without an answer.
    waiting: HashMap<u64, oneshot::Sender<Response>>,
}

impl Link {
    /// Connects with a node.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(crate) async fn connect(address: &str) -> io::Result<Self> {
        let (mut reader, sender) = split(TcpStream::connect(address).await?)?;
        let open = Arc::<Mutex<Open>>::default();
        let answered = open.clone();
        tokio::spawn(async move {
            while let Ok(Answer { number, response }) = read(&mut reader).await {
                let mut open = answered.lock().expect("nobody panics with it");
                // Whoever asked may have given up.
                if let Some(waiting) = open.waiting.remove(&number) {
                    let _ = waiting.send(response);
                }
            }
        });
        Ok(Self(Arc::new(LinkState { sender, open })))
    }

    async fn ask(&self, group: GroupId, request: Request) -> io::Result<Response> {
        let (sender, receiver) = oneshot::channel();
        let number = {
            let mut open = self.0.open.lock().expect("nobody panics with it");
            open.newest += 1;
            let number = open.newest;
            open.waiting.insert(number, sender);
            number
        };
        let _guard = Forget { link: self, number };
        let gone = |_| io::ErrorKind::BrokenPipe;
        self.0.sender.send(frame(&Question { number, group, request })).map_err(|_| gone(()))?;
        Ok(receiver.await.map_err(|_| gone(()))?)
    }
}

/// A question is forgotten with whoever asked it, answered or not.
struct Forget<'a> {
    link: &'a Link,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut open = self.link.0.open.lock().expect("nobody panics with it");
        open.waiting.remove(&self.number);
    }
}

/// The way of one replica to the others.
pub(crate) struct Links {
    /// Its group.
    pub(crate) group: GroupId,
    /// The connections of its node, by the other node.
    pub(crate) links: HashMap<NodeId, Link>,
}

impl RaftNetworkFactory<TypeConfig> for Links {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, _: &BasicNode) -> Peer {
        Peer { group: self.group, target, link: self.links.get(&target).cloned() }
    }
}

/// The way to one other replica.
pub(crate) struct Peer {
    group: GroupId,
    target: NodeId,
    link: Option<Link>,
}

impl Peer {
    async fn ask<E: std::error::Error>(
        &self,
        request: Request,
    ) -> Result<Response, RPCError<NodeId, BasicNode, E>> {
        let nobody = io::Error::from(io::ErrorKind::NotConnected);
        let link = self.link.as_ref().ok_or_else(|| Unreachable::new(&nobody))?;
        Ok(link.ask(self.group, request).await.map_err(|error| Unreachable::new(&error))?)
    }

    fn told<T, E: std::error::Error>(
        &self,
        result: Result<T, E>,
    ) -> Result<T, RPCError<NodeId, BasicNode, E>> {
        result.map_err(|error| RemoteError::new(self.target, error).into())
    }
}

fn wrong_answer() -> NetworkError {
    NetworkError::new(&io::Error::from(io::ErrorKind::InvalidData))
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RPCError<NodeId, BasicNode, RaftError<NodeId>>> {
        match self.ask(Request::Append(request)).await? {
            Response::Append(result) => self.told(result),
            Response::Vote(_) => Err(wrong_answer().into()),
        }
    }

    /// No snapshot is made, so none is sent.
    async fn install_snapshot(
        &mut self,
        _: InstallSnapshotRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<
        InstallSnapshotResponse<NodeId>,
        RPCError<NodeId, BasicNode, RaftError<NodeId, InstallSnapshotError>>,
    > {
        Err(Unreachable::new(&io::Error::from(io::ErrorKind::Unsupported)).into())
    }

    async fn vote(
        &mut self,
        request: VoteRequest<NodeId>,
        _: RPCOption,
    ) -> Result<VoteResponse<NodeId>, RPCError<NodeId, BasicNode, RaftError<NodeId>>> {
        match self.ask(Request::Vote(request)).await? {
            Response::Vote(result) => self.told(result),
            Response::Append(_) => Err(wrong_answer().into()),
        }
    }
}
