//! One connection of a client: it writes bytes and reads replies, in pieces of any size.

use crate::sim::{SimReader, SimRuntime, SimWriter};
use purlin::{Reader, Runtime, Writer};
use purlin_server::resp::Value;
use purlin_transport::Net;
use std::{
    future::pending,
    io::{self, ErrorKind},
    pin::pin,
};

/// See the module.
pub struct Wire {
    reader: SimReader,
    /// Nothing once the client has said that it has no more to say.
    writer: Option<SimWriter>,
    /// What has come, from the beginning of a reply on.
    received: Vec<u8>,
}

impl Wire {
    /// Connects to a shard's front end.
    ///
    /// # Errors
    /// Nobody takes the connection in time.
    pub async fn connect(runtime: &SimRuntime, address: &str) -> io::Result<Self> {
        let (reader, writer) = runtime.net().connect(address).await?;
        Ok(Self { reader, writer: Some(writer), received: Vec::new() })
    }

    /// Sends bytes, whether they are requests or not.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.as_mut().expect("it was finished").write_all(bytes).await
    }

    /// Says that nothing more will come; replies that are due still come.
    pub fn finish(&mut self) {
        self.writer = None;
    }

    /// The next reply.
    ///
    /// # Errors
    /// `UnexpectedEof` when the server has closed the connection, or why it is lost, or `InvalidData`
    /// when what has come is no reply.
    pub async fn reply(&mut self) -> io::Result<Value> {
        loop {
            if let Some(reply) = self.take()? {
                return Ok(reply);
            }
            read(&mut self.reader, &mut self.received).await?;
        }
    }

    /// Sends `bytes`, and waits for replies: at least one. They are taken in while bytes still go out,
    /// so that neither side waits for the other to read.
    ///
    /// # Errors
    /// As `reply`. What came before stays in `replies`.
    pub(super) async fn exchange(
        &mut self,
        bytes: &[u8],
        replies: &mut Vec<Value>,
    ) -> io::Result<()> {
        let mut writer = self.writer.take().expect("it was finished");
        let mut is_written = false;
        {
            let mut write = pin!(writer.write_all(bytes));
            while !is_written || replies.is_empty() {
                let reading = async {
                    read(&mut self.reader, &mut self.received).await?;
                    Ok(false)
                };
                let writing = async {
                    if is_written {
                        pending::<()>().await;
                    }
                    write.as_mut().await?;
                    Ok::<_, io::Error>(true)
                };
                is_written |= futures_lite::future::or(reading, writing).await?;
                while let Some(reply) = self.take()? {
                    replies.push(reply);
                }
            }
        }
        self.writer = Some(writer);
        Ok(())
    }

    /// Takes a reply out of what has come.
    fn take(&mut self) -> io::Result<Option<Value>> {
        let mut rest = &self.received[..];
        match Value::read(&mut rest) {
            Ok(reply) => {
                let len = self.received.len() - rest.len();
                self.received.drain(..len);
                Ok(Some(reply))
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Reads some bytes to the end of `received`.
async fn read(reader: &mut SimReader, received: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    match reader.read(&mut buffer).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        len => {
            received.extend_from_slice(&buffer[..len]);
            Ok(())
        }
    }
}

/// A request as an array of its words.
pub fn request_bytes<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words.iter().map(AsRef::as_ref) {
        bytes.extend(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend(word);
        bytes.extend(b"\r\n");
    }
    bytes
}
