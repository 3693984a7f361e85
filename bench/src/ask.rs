//! Asks a server one question before or after a load, on a connection of its own. It blocks.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long one question may take, with its connection.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Sends one command, and returns the text (bulk string) that answers it.
///
/// # Errors
/// No connection or no whole answer within a second, an error of the server, or an answer that is no text or too long.
pub fn ask(address: SocketAddr, words: &[&str]) -> io::Result<String> {
    let until = Instant::now() + ANSWER_MAX;
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    let mut request = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| request += &format!("${}\r\n{word}\r\n", word.len()));
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        if let Some(text) = text_of(&answer)? {
            return Ok(text);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
}

/// The text of a whole answer; `None` while there is more to come.
fn text_of(answer: &[u8]) -> io::Result<Option<String>> {
    let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let Some(end) = answer.windows(2).position(|pair| pair == b"\r\n") else {
        let is_long = answer.len() > ANSWER_BYTES_MAX;
        return if is_long { Err(refused("the answer is too long")) } else { Ok(None) };
    };
    let head = String::from_utf8_lossy(&answer[..end]);
    if let Some(error) = head.strip_prefix('-') {
        return Err(refused(error));
    }
    let length = head.strip_prefix('$').and_then(|length| length.parse::<usize>().ok());
    let length = length.ok_or_else(|| refused("the answer is no text"))?;
    if length > ANSWER_BYTES_MAX {
        return Err(refused("the answer is too long"));
    }
    let text = answer.get(end + 2..end + 2 + length);
    Ok(text.map(|text| String::from_utf8_lossy(text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_when_it_is_whole() {
        let answer = b"$5\r\nhello\r\n";
        for at in 0..9 {
            assert_eq!(text_of(&answer[..at]).unwrap(), None, "{at}");
        }
        assert_eq!(text_of(answer).unwrap().unwrap(), "hello");
    }

    #[test]
    fn what_is_no_text_or_too_long_is_refused() {
        let long = format!("${}\r\n", ANSWER_BYTES_MAX + 1);
        let endless = vec![b'x'; ANSWER_BYTES_MAX + 1];
        for answer in [
            b"-ERR no\r\n".as_slice(),
            b":1\r\n",
            b"$-1\r\n",
            b"HTTP\r\n",
            long.as_bytes(),
            &endless,
        ] {
            assert!(
                text_of(answer).is_err(),
                "{}",
                String::from_utf8_lossy(&answer[..5.min(answer.len())])
            );
        }
    }
}
