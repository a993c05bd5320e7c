//! Why a server or a Sentinel gave no answer, or not the wanted one.

use std::time::Duration;

use crate::valkey::Endpoint;

/// Why a command got no useful answer. Arguments stay out of the texts: they can hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValkeyError {
    /// No connection, or it broke.
    #[error("cannot reach {endpoint}: {reason}")]
    Unreachable {
        /// Whom.
        endpoint: Endpoint,
        /// What the operating system said.
        reason: String,
    },
    /// Connected, but no answer in time; the command may still have been done.
    #[error("{endpoint} did not answer {command} within {} ms", after.as_millis())]
    Timeout {
        /// Whom.
        endpoint: Endpoint,
        /// Which command.
        command: &'static str,
        /// How long it was given.
        after: Duration,
    },
    /// User or password is not taken.
    #[error("cannot log in to {endpoint}: user or password is not accepted")]
    Auth {
        /// Whom.
        endpoint: Endpoint,
    },
    /// The server loads its data set.
    #[error("{endpoint} is loading its data set")]
    Loading {
        /// Who.
        endpoint: Endpoint,
    },
    /// A replica without its primary that does not serve old data.
    #[error("{endpoint} is a replica without a link to its primary")]
    PrimaryDown {
        /// Who.
        endpoint: Endpoint,
    },
    /// Writes are refused because too few replicas are in sync.
    #[error("{endpoint} refuses writes: too few replicas are in sync")]
    NoReplicas {
        /// Who.
        endpoint: Endpoint,
    },
    /// A write was sent to a replica.
    #[error("{endpoint} is a replica and takes no writes")]
    ReadOnly {
        /// Who.
        endpoint: Endpoint,
    },
    /// The user lacks a right.
    #[error("{endpoint} denies {command}: {text}")]
    NoPermission {
        /// Who.
        endpoint: Endpoint,
        /// Which command.
        command: &'static str,
        /// What it said.
        text: String,
    },
    /// Any other error that the server answered.
    #[error("{endpoint} refused {command}: {text}")]
    Refused {
        /// Who.
        endpoint: Endpoint,
        /// Which command.
        command: &'static str,
        /// What it said, with its error code.
        text: String,
    },
    /// An answer of another shape than expected.
    #[error("cannot understand the answer of {endpoint} to {command}: {problem}")]
    Shape {
        /// Whose.
        endpoint: Endpoint,
        /// To which command.
        command: &'static str,
        /// What does not fit.
        problem: String,
    },
}

impl ValkeyError {
    /// Whether nobody answered: not reachable, or not in time.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. })
    }

    /// Returns the error code and text of an answered error that has no variant of its own.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused { text, .. } => Some(text),
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Auth { .. }
            | Self::Loading { .. }
            | Self::PrimaryDown { .. }
            | Self::NoReplicas { .. }
            | Self::ReadOnly { .. }
            | Self::NoPermission { .. }
            | Self::Shape { .. } => None,
        }
    }

    /// Sorts an error of the client library.
    pub(super) fn sort(
        endpoint: &Endpoint,
        command: &'static str,
        err: &redis::RedisError,
    ) -> Self {
        let endpoint = endpoint.clone();
        let text = || {
            let code = err.code().unwrap_or("ERR");
            shorten(&format!("{code} {}", err.detail().unwrap_or_default()))
        };
        match (err.kind(), err.code()) {
            (redis::ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
                Self::Auth { endpoint }
            }
            (_, Some("LOADING")) => Self::Loading { endpoint },
            (_, Some("MASTERDOWN")) => Self::PrimaryDown { endpoint },
            (_, Some("NOREPLICAS")) => Self::NoReplicas { endpoint },
            (_, Some("READONLY")) => Self::ReadOnly { endpoint },
            (_, Some("NOPERM")) => Self::NoPermission {
                endpoint,
                command,
                text: text(),
            },
            (_, Some(_)) => Self::Refused {
                endpoint,
                command,
                text: text(),
            },
            (redis::ErrorKind::Parse | redis::ErrorKind::UnexpectedReturnType, None) => {
                Self::Shape {
                    endpoint,
                    command,
                    problem: shorten(&err.to_string()),
                }
            }
            (_, None) => Self::Unreachable {
                endpoint,
                reason: shorten(&err.to_string()),
            },
        }
    }
}

/// Cuts a foreign text to a line that fits a status or a log line.
fn shorten(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(300)
        .collect()
}
