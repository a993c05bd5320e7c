//! Makes a replica acknowledge at once what it has received.
//!
//! A replica acknowledges once a second; the primary of a planned failover waits for that. Asked by
//! `REPLCONF GETACK *` on any connection it acknowledges at once, to its primary: the asker gets
//! no reply, which is why this is no ordinary client.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{COMMAND_TIMEOUT, CONNECT_TIMEOUT};
use crate::valkey::{Credentials, Endpoint, InternalUser, names};

const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// A connection to a replica, for nothing but this; it does without if it cannot be made.
pub(super) struct AckPump(Option<TcpStream>);

impl AckPump {
    /// Connects and logs in.
    pub(super) async fn connect(replica: &Endpoint, credentials: &Credentials) -> Self {
        let stream = timeout(
            CONNECT_TIMEOUT + COMMAND_TIMEOUT,
            open(replica, credentials),
        )
        .await;
        match stream {
            Ok(Ok(stream)) => Self(Some(stream)),
            Ok(Err(err)) => {
                tracing::warn!(server = %replica, error = %err, "Acknowledgements are not sped up");
                Self(None)
            }
            Err(_) => Self(None),
        }
    }

    /// Asks for an acknowledgement.
    pub(super) async fn ask(&mut self) {
        let Some(stream) = &mut self.0 else { return };
        let sent = timeout(Duration::from_millis(100), stream.write_all(GETACK)).await;
        if !matches!(sent, Ok(Ok(()))) {
            self.0 = None;
        }
    }
}

async fn open(replica: &Endpoint, credentials: &Credentials) -> std::io::Result<TcpStream> {
    let hosts = names::resolve(replica.host())
        .await
        .map_err(std::io::Error::other)?;
    let host = hosts
        .first()
        .ok_or_else(|| std::io::Error::other("its name has no address"))?;
    let mut stream = TcpStream::connect((host.as_str(), replica.port())).await?;
    stream.set_nodelay(true)?;
    let user = InternalUser::CharmedOperator;
    let words = ["AUTH", user.name(), credentials.password(user).expose()];
    let words = words.map(|word| format!("${}\r\n{word}\r\n", word.len()));
    let auth = format!("*{}\r\n{}", words.len(), words.concat());
    stream.write_all(auth.as_bytes()).await?;
    let mut answer = [0_u8; 5];
    stream.read_exact(&mut answer).await?;
    if &answer == b"+OK\r\n" {
        Ok(stream)
    } else {
        Err(std::io::Error::other("user or password is not accepted"))
    }
}
