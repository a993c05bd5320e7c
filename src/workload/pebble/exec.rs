//! Commands that Pebble runs in the container.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::answers::Change;
use super::error::PebbleError;
use super::layer::go_text;
use super::transport::{Client, limited, understand};
use crate::limits::{
    PEBBLE_ANSWER_BYTES_MAX, PEBBLE_CALL_LIMIT, PEBBLE_EXEC_MARGIN, PEBBLE_EXEC_OUTPUT_BYTES_MAX,
    PEBBLE_PART_BYTES,
};

const WHAT: &str = "run a command in the container";

/// Ends a stream in either direction.
const END: &str = r#"{"command":"end"}"#;

/// A command, without a terminal. Others can read arguments and environment: no secrets in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Program and arguments; without a `/` the program is looked for on Pebble's `PATH`.
    pub command: Vec<String>,
    /// Variables in addition to Pebble's own.
    pub environment: BTreeMap<String, String>,
    /// Where it runs; its user's home if none.
    pub working_dir: Option<String>,
    /// Numeric ids of its user and group; Pebble's own if none.
    pub owner: Option<(u32, u32)>,
    /// How long it may run before it is killed.
    pub limit: Duration,
}

impl Exec {
    /// Runs `command`, for at most `limit`.
    pub fn new(command: impl IntoIterator<Item = impl Into<String>>, limit: Duration) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            working_dir: None,
            owner: None,
            limit,
        }
    }
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code.
    pub exit_code: i64,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
}

/// Keeps what is written to it, up to a bound.
#[derive(Default)]
struct Kept(Vec<u8>);

impl AsyncWrite for Kept {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.0.len() + bytes.len() > PEBBLE_EXEC_OUTPUT_BYTES_MAX {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Sends `input` to the command, then its end. A command need not read what it is given.
async fn feed(
    mut input: impl AsyncRead + Unpin,
    mut to: impl Sink<Message, Error = SocketError> + Unpin,
) {
    let mut part = vec![0; PEBBLE_PART_BYTES];
    while let Ok(length @ 1..) = input.read(&mut part).await {
        let message = Message::binary(part[..length].to_vec());
        if to.send(message).await.is_err() {
            return;
        }
    }
    let _ = to.send(Message::text(END)).await;
}

/// Takes what the command writes, to its end.
async fn drain(
    mut from: impl Stream<Item = Result<Message, SocketError>> + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), PebbleError> {
    let local = |source| PebbleError::Local { what: WHAT, source };
    loop {
        match from.next().await {
            Some(Ok(Message::Binary(bytes))) => to.write_all(&bytes).await.map_err(local)?,
            // Pebble sends no other text than the end; it closes without saying so.
            Some(Ok(Message::Text(_) | Message::Close(_)) | Err(_)) | None => {
                return to.flush().await.map_err(local);
            }
            Some(Ok(_)) => {}
        }
    }
}

/// Reads how a command ended.
fn exit_code(change: &Change) -> Option<i64> {
    let tasks = change.tasks.as_deref().unwrap_or_default();
    tasks.first()?.data.as_ref()?.get("exit-code")?.as_i64()
}

impl Client {
    async fn web_socket(
        &self,
        task: &str,
        name: &str,
    ) -> Result<WebSocketStream<UnixStream>, PebbleError> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(PEBBLE_ANSWER_BYTES_MAX))
            .max_frame_size(Some(PEBBLE_ANSWER_BYTES_MAX));
        let address = format!("ws://localhost/v1/tasks/{task}/websocket/{name}");
        limited(WHAT, PEBBLE_CALL_LIMIT, async {
            let stream = self.connect().await?;
            let (socket, _) =
                tokio_tungstenite::client_async_with_config(address, stream, Some(config))
                    .await
                    .map_err(PebbleError::broken(WHAT))?;
            Ok(socket)
        })
        .await
    }

    /// Runs a command with `input`, passes on what it writes, and returns its exit code.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when there is no such program, [`PebbleError::Failed`] when it was killed
    /// because it took too long. Whoever stops waiting kills it, too.
    pub async fn exec_streamed(
        &self,
        exec: &Exec,
        input: impl AsyncRead + Unpin,
        stdout: &mut (impl AsyncWrite + Unpin),
        stderr: &mut (impl AsyncWrite + Unpin),
    ) -> Result<i64, PebbleError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Begun {
            task_id: String,
        }
        let (user, group) = exec.owner.unzip();
        let document = json!({
            "command": exec.command, "environment": exec.environment,
            "working-dir": exec.working_dir, "timeout": go_text(exec.limit),
            "user-id": user, "group-id": group, "split-stderr": true,
        });
        let answer = self.post(WHAT, "/v1/exec", &document).await?;
        let change = answer.change.unwrap_or_default();
        let begun: Begun = understand(WHAT, answer.result)?;
        // Held to the end: without it the command is killed.
        let _control = self.web_socket(&begun.task_id, "control").await?;
        let (to_command, from_command) = self.web_socket(&begun.task_id, "stdio").await?.split();
        let from_stderr = self.web_socket(&begun.task_id, "stderr").await?;

        let feeding = feed(input, to_command);
        let ending = async {
            let outputs =
                async { tokio::try_join!(drain(from_command, stdout), drain(from_stderr, stderr)) };
            let end = self.succeeded(&change, exec.limit + PEBBLE_EXEC_MARGIN);
            tokio::pin!(outputs, end);
            tokio::select! {
                drained = &mut outputs => {
                    drained?;
                    end.await
                }
                ended = &mut end => {
                    let ended = ended?;
                    limited(WHAT, PEBBLE_EXEC_MARGIN, outputs).await?;
                    Ok(ended)
                }
            }
        };
        tokio::pin!(feeding, ending);
        let ended = tokio::select! {
            ended = &mut ending => ended?,
            () = &mut feeding => ending.await?,
        };
        exit_code(&ended).ok_or_else(|| PebbleError::Failed {
            what: WHAT,
            reason: "Pebble does not say how it ended".to_owned(),
        })
    }

    /// Runs a command with `input`, and returns what it wrote, up to a bound.
    ///
    /// # Errors
    ///
    /// As [`Client::exec_streamed`]; [`PebbleError::TooLarge`] when it writes more than the bound.
    pub async fn exec(&self, exec: &Exec, input: &[u8]) -> Result<ExecOutput, PebbleError> {
        let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
        let exit_code = self
            .exec_streamed(exec, input, &mut stdout, &mut stderr)
            .await
            .map_err(|error| match error {
                PebbleError::Local { source, .. }
                    if source.kind() == io::ErrorKind::FileTooLarge =>
                {
                    PebbleError::TooLarge {
                        what: WHAT,
                        limit_bytes: PEBBLE_EXEC_OUTPUT_BYTES_MAX,
                    }
                }
                other => other,
            })?;
        Ok(ExecOutput {
            exit_code,
            stdout: stdout.0,
            stderr: stderr.0,
        })
    }
}
