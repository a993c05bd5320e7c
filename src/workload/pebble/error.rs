//! What can go wrong between the charm and Pebble.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why Pebble did not do what was wanted. Contents of files and arguments stay out of the texts.
#[derive(Debug, thiserror::Error)]
pub enum PebbleError {
    /// Nobody listens.
    #[error("cannot reach Pebble at {}: is its container up?", .socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No answer in time.
    #[error("cannot {what}: Pebble did not answer within {} s", .limit.as_secs_f64())]
    Timeout {
        /// What was wanted.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection ended in the middle, or what came is not the protocol.
    #[error("cannot {what}: the connection to Pebble broke")]
    Broken {
        /// What was wanted.
        what: &'static str,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More came than can rightly come.
    #[error("cannot {what}: more than {limit_bytes} bytes came back")]
    TooLarge {
        /// What was wanted.
        what: &'static str,
        /// The bound in bytes.
        limit_bytes: usize,
    },
    /// Pebble says no.
    #[error("cannot {what}: Pebble refuses it: {message}")]
    Refused {
        /// What was wanted.
        what: &'static str,
        /// The status of HTTP; 200 where one of several things was refused.
        status: u16,
        /// What kind of refusal, as in `not-found`; often empty.
        kind: String,
        /// Pebble's words.
        message: String,
    },
    /// The answer is not what this version of Pebble's interface promises.
    #[error("cannot {what}: Pebble's answer does not fit")]
    Shape {
        /// What was wanted.
        what: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// What Pebble began did not succeed.
    #[error("cannot {what}: {reason}")]
    Failed {
        /// What was wanted.
        what: &'static str,
        /// Pebble's words.
        reason: String,
    },
    /// The other end of a stream, on this side, failed.
    #[error("cannot {what}: reading or writing on this side failed")]
    Local {
        /// What was wanted.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl PebbleError {
    /// Says whether there is no such thing as was asked for.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, kind, .. } if *status == 404 || kind == "not-found")
    }

    /// Says whether no Pebble is there: neither it nor anything that it ran lives then.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { source, .. }
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
        )
    }

    /// Makes a function that says what a connection broke in.
    pub(super) fn broken<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Broken {
            what,
            source: source.into(),
        }
    }
}
