//! A small blocking client of Valkey's protocol, with a time limit on everything.

use std::{
    fmt::{self, Write as _},
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longest array and longest text that are read; the tests store far less.
const LONGEST: usize = 64 * 1024 * 1024;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Text, simple or bulk.
    Text(String),
    /// A number.
    Number(i64),
    /// Nothing.
    Nil,
    /// Several replies.
    List(Vec<Reply>),
    /// The server refused.
    Refused(String),
}

impl Reply {
    /// Returns the text of a text or a number.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Number(number) => Some(number.to_string()),
            Self::Nil | Self::List(_) | Self::Refused(_) => None,
        }
    }

    /// Returns the elements of a list; nothing for everything else.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            Self::Text(_) | Self::Number(_) | Self::Nil | Self::Refused(_) => &[],
        }
    }

    /// Returns the value of `name` in a flat list of names and values.
    pub fn field(&self, name: &str) -> Option<String> {
        self.list()
            .chunks_exact(2)
            .find(|pair| pair[0].text().as_deref() == Some(name))
            .and_then(|pair| pair[1].text())
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Nil => formatter.write_str("nothing"),
            Self::List(list) => write!(formatter, "a list of {}", list.len()),
            Self::Refused(reason) => write!(formatter, "refused: {reason}"),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    /// Connects and logs in; `timeout` bounds the connection and each later reply.
    pub fn connect(
        address: SocketAddr,
        user: &str,
        password: &str,
        timeout: Duration,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        Self::over(stream, user, password, timeout)
    }

    /// Logs in over a connection; `timeout` bounds each reply.
    pub fn over(
        stream: TcpStream,
        user: &str,
        password: &str,
        timeout: Duration,
    ) -> io::Result<Self> {
        let address = stream.peer_addr()?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.set_nodelay(true)?;
        let mut wire = Self {
            stream: BufReader::new(stream),
        };
        match wire.call(&["AUTH", user, password])? {
            Reply::Refused(reason) => Err(io::Error::other(format!(
                "cannot log in as {user} at {address}: {reason}"
            ))),
            _ => Ok(wire),
        }
    }

    /// Sends a command and reads its reply.
    pub fn call(&mut self, command: &[&str]) -> io::Result<Reply> {
        self.send(command)?;
        self.receive()
    }

    /// Sends a command without waiting for its reply.
    pub fn send(&mut self, command: &[&str]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", command.len());
        for argument in command {
            let _ = write!(bytes, "${}\r\n{argument}\r\n", argument.len());
        }
        self.stream.get_mut().write_all(bytes.as_bytes())
    }

    /// Reads the next reply.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.by_ref().take(64 * 1024).read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Ok(Reply::Refused(rest.to_owned())),
            ":" => rest.parse().map(Reply::Number).map_err(io::Error::other),
            "$" => match length(rest)? {
                None => Ok(Reply::Nil),
                Some(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
                }
            },
            "*" => match length(rest)? {
                None => Ok(Reply::Nil),
                Some(length) => (0..length)
                    .map(|_| self.receive())
                    .collect::<io::Result<_>>()
                    .map(Reply::List),
            },
            _ => Err(io::Error::other(format!("not a reply: {line}"))),
        }
    }
}

fn length(text: &str) -> io::Result<Option<usize>> {
    if text == "-1" {
        return Ok(None);
    }
    let length = text.parse().map_err(io::Error::other)?;
    if length > LONGEST {
        Err(io::ErrorKind::InvalidData.into())
    } else {
        Ok(Some(length))
    }
}

/// Returns the value of `name` in the text of `INFO`.
pub fn info_field(info: &str, name: &str) -> Option<String> {
    info.lines()
        .find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
        .map(str::to_owned)
}
