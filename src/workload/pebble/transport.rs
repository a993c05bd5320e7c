//! One call of Pebble: HTTP over its socket, a connection for each call.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::error::PebbleError;
use crate::limits::{PEBBLE_ANSWER_BYTES_MAX, PEBBLE_CALL_LIMIT};

/// Any reason for which a body cannot be sent.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// What is sent with a call.
pub(super) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A client of Pebble's interface.
///
/// Every call has a time limit and an answer of bounded size.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// What a call came to.
pub(super) struct Answer {
    /// What Pebble returns.
    pub result: Value,
    /// The change that goes on behind it, if one does.
    pub change: Option<String>,
}

/// The form of all answers but those with files and log lines.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    status_code: u16,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    change: Option<String>,
}

/// What `result` is when Pebble refuses.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Refusal {
    pub message: String,
    pub kind: String,
}

impl Refusal {
    pub(super) fn into_error(self, what: &'static str, status: u16) -> PebbleError {
        PebbleError::Refused {
            what,
            status,
            kind: self.kind,
            message: self.message,
        }
    }
}

/// The task that drives a connection; it ends with whoever holds this.
pub(super) struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Gives something a time limit.
pub(super) async fn limited<T>(
    what: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, PebbleError>>,
) -> Result<T, PebbleError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(PebbleError::Timeout { what, limit }))
}

/// Returns a body of these bytes.
pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Adds a query to a path.
pub(super) fn with_query<'a>(
    path: &str,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

/// Understands the bytes of an answer.
pub(super) fn open_envelope(what: &'static str, bytes: &[u8]) -> Result<Answer, PebbleError> {
    let envelope: Envelope =
        serde_json::from_slice(bytes).map_err(|source| PebbleError::Shape { what, source })?;
    if envelope.kind == "error" {
        let refusal: Refusal = serde_json::from_value(envelope.result).unwrap_or_default();
        return Err(refusal.into_error(what, envelope.status_code));
    }
    Ok(Answer {
        result: envelope.result,
        change: envelope.change,
    })
}

/// Understands what Pebble returned; an empty list can be `null`.
pub(super) fn understand<T: DeserializeOwned>(
    what: &'static str,
    result: Value,
) -> Result<T, PebbleError> {
    serde_json::from_value(result).map_err(|source| PebbleError::Shape { what, source })
}

/// Reads a whole body of bounded size.
async fn collect(what: &'static str, body: Incoming) -> Result<Bytes, PebbleError> {
    match Limited::new(body, PEBBLE_ANSWER_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(PebbleError::TooLarge {
            what,
            limit_bytes: PEBBLE_ANSWER_BYTES_MAX,
        }),
        Err(source) => Err(PebbleError::Broken { what, source }),
    }
}

impl Client {
    /// Talks to the Pebble that listens on `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Returns the socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Connects to the socket.
    pub(super) async fn connect(&self) -> Result<UnixStream, PebbleError> {
        UnixStream::connect(&self.socket)
            .await
            .map_err(|source| PebbleError::Unreachable {
                socket: self.socket.clone(),
                source,
            })
    }

    /// Sends a request and returns the head of its answer, with the connection that the rest comes by.
    pub(super) async fn send(
        &self,
        what: &'static str,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Connection), PebbleError> {
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = http1::handshake(stream)
            .await
            .map_err(PebbleError::broken(what))?;
        let connection = Connection(tokio::spawn(async move {
            // What goes wrong is told to whoever waits for the answer.
            let _ = connection.await;
        }));
        let response = sender
            .send_request(request)
            .await
            .map_err(PebbleError::broken(what))?;
        Ok((response, connection))
    }

    /// Builds a request.
    pub(super) fn request(
        what: &'static str,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: Body,
    ) -> Result<Request<Body>, PebbleError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        request.body(body).map_err(PebbleError::broken(what))
    }

    /// Makes a call, and returns the bytes of its answer.
    pub(super) async fn exchange(
        &self,
        what: &'static str,
        request: Request<Body>,
        limit: Duration,
    ) -> Result<Bytes, PebbleError> {
        // On the heap: what waits for a connection is large, and most callers keep several.
        let asked = Box::pin(async {
            let (response, _connection) = self.send(what, request).await?;
            collect(what, response.into_body()).await
        });
        limited(what, limit, asked).await
    }

    /// Makes a call with JSON both ways.
    pub(super) async fn call(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        document: Option<&Value>,
        limit: Duration,
    ) -> Result<Answer, PebbleError> {
        let body = document.map(Value::to_string).unwrap_or_default();
        let headers = [(header::CONTENT_TYPE, "application/json")];
        let request = Self::request(what, method, path, &headers, whole(body))?;
        open_envelope(what, &self.exchange(what, request, limit).await?)
    }

    /// Asks for something.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
    ) -> Result<T, PebbleError> {
        let answer = self
            .call(what, Method::GET, path, None, PEBBLE_CALL_LIMIT)
            .await?;
        understand(what, answer.result)
    }

    /// Asks for something to be done.
    pub(super) async fn post(
        &self,
        what: &'static str,
        path: &str,
        document: &Value,
    ) -> Result<Answer, PebbleError> {
        self.call(what, Method::POST, path, Some(document), PEBBLE_CALL_LIMIT)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_opened_and_refusals_keep_pebbles_words() {
        let sync = br#"{"type":"sync","status-code":200,"status":"OK","result":true}"#;
        assert_eq!(open_envelope("x", sync).unwrap().result, Value::Bool(true));
        let later = br#"{"type":"async","status-code":202,"change":"7","result":null}"#;
        assert_eq!(
            open_envelope("x", later).unwrap().change.as_deref(),
            Some("7")
        );
        let refused = br#"{"type":"error","status-code":404,"result":{"message":"no such","kind":"not-found"}}"#;
        let error = open_envelope("do it", refused).err().unwrap();
        assert!(error.is_not_found());
        assert_eq!(
            error.to_string(),
            "cannot do it: Pebble refuses it: no such"
        );
        for damaged in ["", "[]", "{}", r#"{"type":"sync"}"#] {
            let error = open_envelope("do it", damaged.as_bytes()).err();
            assert!(
                matches!(error, Some(PebbleError::Shape { .. })),
                "{damaged}"
            );
        }
    }

    #[test]
    fn queries_are_quoted() {
        assert_eq!(with_query("/v1/x", []), "/v1/x");
        assert_eq!(
            with_query("/v1/x", [("path", "/a b&c"), ("q", "ü")]),
            "/v1/x?path=%2Fa+b%26c&q=%C3%BC"
        );
    }
}
