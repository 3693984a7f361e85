//! The production runtimes as one type, so that a configuration chooses, and the engine is compiled once.

use super::{ClientFiles, DirectoryLock, ShardMesh, SharedPort};
use crate::glommio::{
    Aligned, DirectFile, Directory, Glommio, Sleep as GlommioSleep, Tcp, TcpAcceptor, TcpReader,
    TcpWriter,
};
use crate::ring::{
    Ring, RingAcceptor, RingBlock, RingDirectory, RingFile, RingReader, RingTcp, RingWriter,
    Sleep as RingSleep,
};
use crate::{Disk, Durability, File, Listener, Net, Pace, Reader, Runtime, Writer};
use std::{
    fmt,
    future::Future,
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// Which runtime the shards of a node run on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum RuntimeKind {
    /// The library glommio: see [`crate::glommio`].
    #[default]
    Glommio,
    /// One ring for each shard: see [`crate::ring`]. It needs Linux 6.1.
    Ring,
}

impl RuntimeKind {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Glommio, Self::Ring];
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Glommio => "glommio",
            Self::Ring => "ring",
        })
    }
}

/// What a shard runs on. It belongs to the executor that made it.
#[derive(Clone)]
pub enum OsRuntime {
    /// See [`RuntimeKind::Glommio`].
    Glommio(Glommio),
    /// See [`RuntimeKind::Ring`].
    Ring(Ring),
}

impl OsRuntime {
    /// The listener of this executor at a port, for clients that may have the descriptors `files`.
    pub fn listener(&self, port: SharedPort, files: ClientFiles) -> OsListener {
        match self {
            Self::Glommio(it) => OsListener::Glommio(it.listener(port, files)),
            Self::Ring(it) => OsListener::Ring(it.listener(port, files)),
        }
    }
}

impl Runtime for OsRuntime {
    type Disk = OsDisk;
    type Net = OsNet;
    type Mesh<T: Send + 'static> = ShardMesh<T>;

    fn disk(&self) -> OsDisk {
        match self {
            Self::Glommio(it) => OsDisk::Glommio(it.disk()),
            Self::Ring(it) => OsDisk::Ring(it.disk()),
        }
    }

    fn net(&self) -> OsNet {
        match self {
            Self::Glommio(it) => OsNet::Glommio(it.net()),
            Self::Ring(it) => OsNet::Ring(it.net()),
        }
    }

    fn now(&self) -> Duration {
        match self {
            Self::Glommio(it) => it.now(),
            Self::Ring(it) => it.now(),
        }
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        match self {
            Self::Glommio(it) => OsSleep::Glommio(it.sleep_for(duration)),
            Self::Ring(it) => OsSleep::Ring(it.sleep_for(duration)),
        }
    }

    async fn yield_now(&self) {
        match self {
            Self::Glommio(it) => it.yield_now().await,
            Self::Ring(it) => it.yield_now().await,
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        match self {
            Self::Glommio(it) => it.spawn(task),
            Self::Ring(it) => it.spawn(task),
        }
    }

    fn random(&self) -> u64 {
        super::random()
    }
}

/// A sleep of a runtime.
enum OsSleep {
    Glommio(GlommioSleep),
    Ring(RingSleep),
}

impl Future for OsSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Self::Glommio(it) => Pin::new(it).poll(cx),
            Self::Ring(it) => Pin::new(it).poll(cx),
        }
    }
}

/// A directory of a runtime.
#[derive(Clone)]
#[expect(missing_docs, reason = "one for each runtime")]
pub enum OsDisk {
    Glommio(Directory),
    Ring(RingDirectory),
}

/// A file of a runtime.
#[expect(missing_docs, reason = "one for each runtime")]
pub enum OsFile {
    Glommio(DirectFile),
    Ring(RingFile),
}

/// A buffer of a file.
#[expect(missing_docs, reason = "one for each runtime")]
pub enum OsBlock {
    Glommio(Aligned),
    Ring(RingBlock),
}

impl Disk for OsDisk {
    type File = OsFile;
    type Lock = DirectoryLock;

    fn subdirectory(&self, name: &str) -> Self {
        match self {
            Self::Glommio(it) => Self::Glommio(it.subdirectory(name)),
            Self::Ring(it) => Self::Ring(it.subdirectory(name)),
        }
    }

    fn location(&self) -> String {
        match self {
            Self::Glommio(it) => it.location(),
            Self::Ring(it) => it.location(),
        }
    }

    async fn create_dir(&self) -> io::Result<()> {
        match self {
            Self::Glommio(it) => it.create_dir().await,
            Self::Ring(it) => it.create_dir().await,
        }
    }

    async fn lock(&self) -> io::Result<DirectoryLock> {
        match self {
            Self::Glommio(it) => it.lock().await,
            Self::Ring(it) => it.lock().await,
        }
    }

    async fn create_paced(
        &self,
        name: &str,
        head: &[u8],
        len: u64,
        durability: Durability,
        pace: &Pace,
    ) -> io::Result<OsFile> {
        Ok(match self {
            Self::Glommio(it) => {
                OsFile::Glommio(it.create_paced(name, head, len, durability, pace).await?)
            }
            Self::Ring(it) => {
                OsFile::Ring(it.create_paced(name, head, len, durability, pace).await?)
            }
        })
    }

    async fn open(&self, name: &str, durability: Durability) -> io::Result<OsFile> {
        Ok(match self {
            Self::Glommio(it) => OsFile::Glommio(it.open(name, durability).await?),
            Self::Ring(it) => OsFile::Ring(it.open(name, durability).await?),
        })
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        match self {
            Self::Glommio(it) => it.list().await,
            Self::Ring(it) => it.list().await,
        }
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        match self {
            Self::Glommio(it) => it.remove(name).await,
            Self::Ring(it) => it.remove(name).await,
        }
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        match self {
            Self::Glommio(it) => it.rename(from, to).await,
            Self::Ring(it) => it.rename(from, to).await,
        }
    }

    async fn sync_dir(&self) -> io::Result<()> {
        match self {
            Self::Glommio(it) => it.sync_dir().await,
            Self::Ring(it) => it.sync_dir().await,
        }
    }
}

impl AsRef<[u8]> for OsBlock {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Glommio(it) => it.as_ref(),
            Self::Ring(it) => it.as_ref(),
        }
    }
}

impl AsMut<[u8]> for OsBlock {
    fn as_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Glommio(it) => it.as_mut(),
            Self::Ring(it) => it.as_mut(),
        }
    }
}

impl File for OsFile {
    type Block = OsBlock;

    fn block(&self, len: usize) -> OsBlock {
        match self {
            Self::Glommio(it) => OsBlock::Glommio(it.block(len)),
            Self::Ring(it) => OsBlock::Ring(it.block(len)),
        }
    }

    async fn size(&self) -> io::Result<u64> {
        match self {
            Self::Glommio(it) => it.size().await,
            Self::Ring(it) => it.size().await,
        }
    }

    async fn read_at(&self, position: u64, len: usize) -> io::Result<OsBlock> {
        Ok(match self {
            Self::Glommio(it) => OsBlock::Glommio(it.read_at(position, len).await?),
            Self::Ring(it) => OsBlock::Ring(it.read_at(position, len).await?),
        })
    }

    async fn write_at(&self, block: OsBlock, position: u64) -> io::Result<()> {
        match (self, block) {
            (Self::Glommio(it), OsBlock::Glommio(block)) => it.write_at(block, position).await,
            (Self::Ring(it), OsBlock::Ring(block)) => it.write_at(block, position).await,
            _ => panic!("a file is given a buffer of another runtime"),
        }
    }

    async fn sync(&self) -> io::Result<()> {
        match self {
            Self::Glommio(it) => it.sync().await,
            Self::Ring(it) => it.sync().await,
        }
    }

    async fn close(self) -> io::Result<()> {
        match self {
            Self::Glommio(it) => it.close().await,
            Self::Ring(it) => it.close().await,
        }
    }
}

impl AsFd for OsFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Glommio(it) => it.as_fd(),
            Self::Ring(it) => it.as_fd(),
        }
    }
}

/// The network of a runtime.
#[derive(Clone)]
#[expect(missing_docs, reason = "one for each runtime")]
pub enum OsNet {
    Glommio(Tcp),
    Ring(RingTcp),
}

/// Waits for connections.
#[expect(missing_docs, reason = "one for each runtime")]
pub enum OsListener {
    Glommio(TcpAcceptor),
    Ring(RingAcceptor),
}

/// The inbound half of a connection.
#[expect(missing_docs, reason = "one for each runtime")]
pub enum OsReader {
    Glommio(TcpReader),
    Ring(RingReader),
}

/// The outbound half of a connection.
#[expect(missing_docs, reason = "one for each runtime")]
pub enum OsWriter {
    Glommio(TcpWriter),
    Ring(RingWriter),
}

impl Net for OsNet {
    type Reader = OsReader;
    type Writer = OsWriter;
    type Listener = OsListener;

    fn between_nodes(&self) -> Self {
        match self {
            Self::Glommio(it) => Self::Glommio(it.between_nodes()),
            Self::Ring(it) => Self::Ring(it.between_nodes()),
        }
    }

    async fn listen(&self, address: &str) -> io::Result<OsListener> {
        Ok(match self {
            Self::Glommio(it) => OsListener::Glommio(it.listen(address).await?),
            Self::Ring(it) => OsListener::Ring(it.listen(address).await?),
        })
    }

    async fn connect(&self, address: &str) -> io::Result<(OsReader, OsWriter)> {
        Ok(match self {
            Self::Glommio(it) => of_glommio(it.connect(address).await?),
            Self::Ring(it) => of_ring(it.connect(address).await?),
        })
    }
}

fn of_glommio((reader, writer): (TcpReader, TcpWriter)) -> (OsReader, OsWriter) {
    (OsReader::Glommio(reader), OsWriter::Glommio(writer))
}

fn of_ring((reader, writer): (RingReader, RingWriter)) -> (OsReader, OsWriter) {
    (OsReader::Ring(reader), OsWriter::Ring(writer))
}

impl Listener for OsListener {
    type Reader = OsReader;
    type Writer = OsWriter;

    async fn accept(&mut self) -> io::Result<(OsReader, OsWriter)> {
        Ok(match self {
            Self::Glommio(it) => of_glommio(it.accept().await?),
            Self::Ring(it) => of_ring(it.accept().await?),
        })
    }

    fn port(&self) -> u16 {
        match self {
            Self::Glommio(it) => it.port(),
            Self::Ring(it) => it.port(),
        }
    }

    fn has_room(&self) -> bool {
        match self {
            Self::Glommio(it) => it.has_room(),
            Self::Ring(it) => it.has_room(),
        }
    }
}

impl Reader for OsReader {
    fn remote(&self) -> Option<IpAddr> {
        match self {
            Self::Glommio(it) => it.remote(),
            Self::Ring(it) => it.remote(),
        }
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Glommio(it) => it.read(buffer).await,
            Self::Ring(it) => it.read(buffer).await,
        }
    }
}

impl Writer for OsWriter {
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Glommio(it) => it.write_all(bytes).await,
            Self::Ring(it) => it.write_all(bytes).await,
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Glommio(it) => it.close().await,
            Self::Ring(it) => it.close().await,
        }
    }
}
