//! Talking to a child process: all of stdin, a bounded part of its output, its exit status.

use std::io;
use std::process::ExitStatus;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

/// What a child printed and how it ended.
pub(super) struct Exchange {
    pub status: ExitStatus,
    pub stdout: Captured,
    pub stderr: Captured,
}

/// The first part of a stream.
pub(super) struct Captured {
    pub bytes: Vec<u8>,
    /// Whether there was more than the bound allows; the rest was read and dropped.
    pub cut: bool,
}

impl Captured {
    /// Returns the text without surrounding white space; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let text = text.trim();
        if self.cut {
            format!("{text} …")
        } else {
            text.to_owned()
        }
    }
}

/// Writes `stdin` to the child, reads at most the given bytes of its streams, waits for its end.
///
/// What exceeds a bound is still read, so that the child never waits for a full pipe. The caller
/// sets the deadline and kills the child by dropping it.
pub(super) async fn exchange(
    mut child: Child,
    stdin: Option<&[u8]>,
    stdout_bytes_max: usize,
    stderr_bytes_max: usize,
) -> io::Result<Exchange> {
    let pipe = child.stdin.take();
    let write = async {
        if let (Some(mut pipe), Some(bytes)) = (pipe, stdin) {
            match pipe.write_all(bytes).await {
                // It ended without reading: its exit status says why.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            }
            // Dropping the pipe is what ends the input.
        }
        Ok(())
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ((), stdout, stderr, status) = tokio::try_join!(
        write,
        capture(stdout, stdout_bytes_max),
        capture(stderr, stderr_bytes_max),
        child.wait(),
    )?;
    Ok(Exchange {
        status,
        stdout,
        stderr,
    })
}

async fn capture(stream: Option<impl AsyncRead + Unpin>, bytes_max: usize) -> io::Result<Captured> {
    let mut bytes = Vec::new();
    let Some(mut stream) = stream else {
        return Ok(Captured { bytes, cut: false });
    };
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    (&mut stream).take(limit).read_to_end(&mut bytes).await?;
    let dropped = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(Captured {
        bytes,
        cut: dropped > 0,
    })
}
