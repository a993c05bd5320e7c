//! Why the API server did not do what was asked.

use std::{io, path::PathBuf};

use crate::limits::{API_ANSWER_BYTES_MAX, API_CALL_TIMEOUT, API_CONNECT_TIMEOUT, API_KEEP_LIMIT};

/// Why the API server did not do what was asked. Its texts hold no token.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A file of the pod's service account is missing.
    #[error("cannot read {} of the pod's service account", path.display())]
    Account {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of the pod's service account cannot be used.
    #[error("cannot use the pod's service account: {0}")]
    Unusable(String),
    /// No connection.
    #[error("cannot reach the Kubernetes API at {host}:{port}")]
    Connect {
        /// Host of the API server.
        host: String,
        /// Port of the API server.
        port: u16,
        /// What the system, or TLS, says.
        source: io::Error,
    },
    /// No connection in time.
    #[error("cannot reach the Kubernetes API at {host}:{port} within {} s", API_CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout {
        /// Host of the API server.
        host: String,
        /// Port of the API server.
        port: u16,
    },
    /// The connection broke.
    #[error("cannot {what}: the Kubernetes API broke off")]
    Broken {
        /// What was asked.
        what: String,
        /// What HTTP says.
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("cannot {what}: the Kubernetes API did not answer within {} s", API_CALL_TIMEOUT.as_secs())]
    Timeout {
        /// What was asked.
        what: String,
    },
    /// It said no.
    #[error("cannot {what}: the Kubernetes API answers {code}: {reason}")]
    Refused {
        /// What was asked.
        what: String,
        /// HTTP's number for it.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// It said what nobody understands.
    #[error("cannot {what}: the answer of the Kubernetes API does not fit")]
    Shape {
        /// What was asked.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It said too much, or broke off in the middle of it.
    #[error(
        "cannot {what}: the answer of the Kubernetes API broke off, or is larger than {API_ANSWER_BYTES_MAX} bytes"
    )]
    Unread {
        /// What was asked.
        what: String,
    },
    /// A name that cannot be part of a request.
    #[error("cannot ask the Kubernetes API for `{0}`: that is no name of an object")]
    Name(String),
    /// All of it took too long.
    #[error("cannot keep labels and Services right within {} s", API_KEEP_LIMIT.as_secs())]
    Late,
}

impl ApiError {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Returns whether the pod's service account may not do this.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// Returns whether the object is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.code() == Some(404)
    }

    /// Returns whether somebody else changed or made the object meanwhile.
    #[must_use]
    pub fn is_outrun(&self) -> bool {
        matches!(self.code(), Some(404 | 409))
    }
}
