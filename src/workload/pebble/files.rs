//! Files in the container, streamed both ways.

use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Method, header};
use multer::{Field, Multipart};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

use super::answers::FileInfo;
use super::error::PebbleError;
use super::transport::{
    Answer, Body, BodyError, Client, Refusal, limited, open_envelope, understand, whole, with_query,
};
use crate::limits::{PEBBLE_ANSWER_BYTES_MAX, PEBBLE_PART_BYTES, PEBBLE_STREAM_LIMIT};

/// A file that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// Where, from the root.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Numeric ids of its user and group; Pebble's own if none.
    pub owner: Option<(u32, u32)>,
    /// Whether to make the directories that it lies in.
    pub make_dirs: bool,
}

/// What Pebble says of one of the paths that it was asked about.
#[derive(Deserialize)]
struct OfPath {
    #[serde(default)]
    error: Option<Refusal>,
}

/// Looks for the first path that something went wrong with.
fn all_done(what: &'static str, answer: Answer) -> Result<(), PebbleError> {
    let paths: Option<Vec<OfPath>> = understand(what, answer.result)?;
    match paths.into_iter().flatten().find_map(|path| path.error) {
        Some(refusal) => Err(refusal.into_error(what, 200)),
        None => Ok(()),
    }
}

/// Writes permission bits as Pebble reads them.
fn octal(mode: u32) -> String {
    format!("{:03o}", mode & 0o777)
}

/// Writes a path as the name of a part.
fn quoted(what: &'static str, path: &str) -> Result<String, PebbleError> {
    if path.chars().any(char::is_control) {
        return Err(PebbleError::Failed {
            what,
            reason: "its path has control characters".to_owned(),
        });
    }
    Ok(path.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Returns a line that surely does not occur in what it separates.
fn boundary(what: &'static str) -> Result<String, PebbleError> {
    let mut random = [0_u8; 24];
    getrandom::fill(&mut random).map_err(|error| PebbleError::Failed {
        what,
        reason: format!("the system gives no random bytes: {error}"),
    })?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(random))
}

/// Reads `from` in parts, and tells `progress` of each.
fn parts(
    from: impl AsyncRead + Send + Unpin + 'static,
    progress: watch::Sender<()>,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
    stream::try_unfold((from, progress), |(mut from, progress)| async move {
        let mut part = vec![0; PEBBLE_PART_BYTES];
        let length = from.read(&mut part).await?;
        if length == 0 {
            return Ok(None);
        }
        part.truncate(length);
        progress.send_replace(());
        Ok(Some((Bytes::from(part), (from, progress))))
    })
}

/// Reads one part of a file; none behind the last one.
async fn next_chunk(
    what: &'static str,
    field: &mut Field<'_>,
) -> Result<Option<Bytes>, PebbleError> {
    limited(what, PEBBLE_STREAM_LIMIT, async {
        field.chunk().await.map_err(PebbleError::broken(what))
    })
    .await
}

impl Client {
    /// Lists a directory, of it only what matches `pattern` if that is given.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when it is not there.
    pub async fn list_files(
        &self,
        path: &str,
        pattern: Option<&str>,
    ) -> Result<Vec<FileInfo>, PebbleError> {
        let pattern = pattern.map(|pattern| ("pattern", pattern));
        let pairs = [("action", "list"), ("path", path)]
            .into_iter()
            .chain(pattern);
        let found: Option<Vec<FileInfo>> = self
            .get("list files", &with_query("/v1/files", pairs))
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// Looks at a file or directory itself; none if there is none.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when it may not be looked at.
    pub async fn file_info(&self, path: &str) -> Result<Option<FileInfo>, PebbleError> {
        let pairs = [("action", "list"), ("path", path), ("itself", "true")];
        let found: Result<Vec<FileInfo>, PebbleError> = self
            .get("look at a file", &with_query("/v1/files", pairs))
            .await;
        match found {
            Ok(found) => Ok(found.into_iter().next()),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Copies a file of the container to `to`, and returns its size in bytes; none if there is none.
    ///
    /// # Errors
    ///
    /// [`PebbleError`] when it cannot be read to its end; a beginning of it may be in `to` then.
    pub async fn read_file(
        &self,
        path: &str,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Option<u64>, PebbleError> {
        const WHAT: &str = "read a file";
        let uri = with_query("/v1/files", [("action", "read"), ("path", path)]);
        let headers = [(header::ACCEPT, "multipart/form-data")];
        let request = Self::request(WHAT, Method::GET, &uri, &headers, whole(Vec::new()))?;
        let (response, _connection) =
            limited(WHAT, PEBBLE_STREAM_LIMIT, self.send(WHAT, request)).await?;
        let boundary = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .and_then(|kind| multer::parse_boundary(kind).ok());
        let Some(boundary) = boundary else {
            // A refusal of the whole call comes as an envelope.
            let bytes = limited(WHAT, PEBBLE_STREAM_LIMIT, async {
                let body =
                    http_body_util::Limited::new(response.into_body(), PEBBLE_ANSWER_BYTES_MAX);
                Ok(body
                    .collect()
                    .await
                    .map_err(PebbleError::broken(WHAT))?
                    .to_bytes())
            })
            .await?;
            open_envelope(WHAT, &bytes)?;
            return Err(PebbleError::Failed {
                what: WHAT,
                reason: "Pebble sent no file".to_owned(),
            });
        };
        let mut multipart = Multipart::new(response.into_body().into_data_stream(), boundary);
        let mut size = None;
        loop {
            let field = limited(WHAT, PEBBLE_STREAM_LIMIT, async {
                multipart
                    .next_field()
                    .await
                    .map_err(PebbleError::broken(WHAT))
            });
            let Some(mut field) = field.await? else {
                return Err(PebbleError::Broken {
                    what: WHAT,
                    source: "the answer ended before its last part".into(),
                });
            };
            match field.name() {
                Some("files") => {
                    let mut bytes: u64 = 0;
                    while let Some(chunk) = next_chunk(WHAT, &mut field).await? {
                        bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                        to.write_all(&chunk)
                            .await
                            .map_err(|source| PebbleError::Local { what: WHAT, source })?;
                    }
                    size = Some(bytes);
                }
                // Always the last one.
                Some("response") => {
                    let mut document = Vec::new();
                    while let Some(chunk) = next_chunk(WHAT, &mut field).await? {
                        document.extend_from_slice(&chunk);
                        if document.len() > PEBBLE_ANSWER_BYTES_MAX {
                            return Err(PebbleError::TooLarge {
                                what: WHAT,
                                limit_bytes: PEBBLE_ANSWER_BYTES_MAX,
                            });
                        }
                    }
                    return match all_done(WHAT, open_envelope(WHAT, &document)?) {
                        Ok(()) => Ok(size),
                        Err(error) if error.is_not_found() => Ok(None),
                        Err(error) => Err(error),
                    };
                }
                Some(_) | None => {}
            }
        }
    }

    /// Writes a file in one step: it is the old one until the new one is whole.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when Pebble cannot write it, [`PebbleError::Broken`] when `from` fails.
    pub async fn write_file(
        &self,
        file: &NewFile,
        from: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<(), PebbleError> {
        const WHAT: &str = "write a file";
        let boundary = boundary(WHAT)?;
        let mut about = json!({
            "path": file.path, "make-dirs": file.make_dirs, "permissions": octal(file.mode),
        });
        if let Some((user, group)) = file.owner {
            about["user-id"] = user.into();
            about["group-id"] = group.into();
        }
        let document = json!({"action": "write", "files": [about]});
        let head = format!(
            "--{boundary}\r\nContent-Type: application/json\r\n\
             Content-Disposition: form-data; name=\"request\"\r\n\r\n{document}\r\n\
             --{boundary}\r\nContent-Type: application/octet-stream\r\n\
             Content-Disposition: form-data; name=\"files\"; filename=\"{}\"\r\n\r\n",
            quoted(WHAT, &file.path)?
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let (progress, mut seen) = watch::channel(());
        let one = |text: String| stream::once(async move { Ok(Bytes::from(text)) });
        let content = one(head).chain(parts(from, progress)).chain(one(tail));
        let body: Body = StreamBody::new(content.map_ok(Frame::data)).boxed_unsync();
        let kind = format!("multipart/form-data; boundary={boundary}");
        let headers = [(header::CONTENT_TYPE, kind.as_str())];
        let request = Self::request(WHAT, Method::POST, "/v1/files", &headers, body)?;
        // The whole may take long; only standing still ends it.
        let exchange = self.exchange(WHAT, request, Duration::MAX);
        tokio::pin!(exchange);
        let mut sending = true;
        loop {
            let stalled = tokio::time::sleep(PEBBLE_STREAM_LIMIT);
            tokio::select! {
                bytes = &mut exchange => return all_done(WHAT, open_envelope(WHAT, &bytes?)?),
                more = seen.changed(), if sending => sending = more.is_ok(),
                () = stalled => {
                    return Err(PebbleError::Timeout { what: WHAT, limit: PEBBLE_STREAM_LIMIT });
                }
            }
        }
    }

    /// Makes a directory, and those that it lies in; one that is there already is left as it is.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when Pebble cannot make it.
    pub async fn make_dir(
        &self,
        path: &str,
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<(), PebbleError> {
        const WHAT: &str = "make a directory";
        let mut about = json!({"path": path, "make-parents": true, "permissions": octal(mode)});
        if let Some((user, group)) = owner {
            about["user-id"] = user.into();
            about["group-id"] = group.into();
        }
        let document = json!({"action": "make-dirs", "dirs": [about]});
        all_done(WHAT, self.post(WHAT, "/v1/files", &document).await?)
    }

    /// Removes a file, or with `recursive` a directory and all that is in it. What is not there is removed.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when Pebble cannot remove it.
    pub async fn remove_path(&self, path: &str, recursive: bool) -> Result<(), PebbleError> {
        const WHAT: &str = "remove a file";
        let paths = json!([{"path": path, "recursive": recursive}]);
        let document = json!({"action": "remove", "paths": paths});
        match all_done(WHAT, self.post(WHAT, "/v1/files", &document).await?) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_names_of_parts() {
        assert_eq!(quoted("x", "/a b/ü").unwrap(), "/a b/ü");
        assert_eq!(quoted("x", r#"/a"b\c"#).unwrap(), r#"/a\"b\\c"#);
        assert!(quoted("x", "/a\r\nX: y").is_err());
        assert_eq!(octal(0o600), "600");
        assert_eq!(octal(0o7), "007");
        assert!(boundary("x").unwrap().len() >= 32);
    }
}
