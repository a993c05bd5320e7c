//! Whoever else may sit behind Pebble's socket, or nobody.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use valkey_operator::limits::{PEBBLE_ANSWER_BYTES_MAX, PEBBLE_CALL_LIMIT};
use valkey_operator::workload::pebble::{Client, PebbleError};

#[tokio::test]
async fn nobody_there_is_told_from_somebody_silent() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(directory.path().join("socket"));
    let error = client.system_info().await.unwrap_err();
    assert!(error.is_absent(), "{error}");
    assert!(
        error.to_string().contains("is its container up?"),
        "{error}"
    );

    let listener = UnixListener::bind(client.socket()).unwrap();
    let begun = Instant::now();
    let error = client.system_info().await.unwrap_err();
    assert!(matches!(error, PebbleError::Timeout { .. }), "{error}");
    assert!(!error.is_absent());
    assert!(begun.elapsed() < PEBBLE_CALL_LIMIT + Duration::from_secs(10));

    // A container that died leaves its socket behind.
    drop(listener);
    assert!(client.system_info().await.unwrap_err().is_absent());
}

#[tokio::test]
async fn wrong_answers_are_errors_and_never_more_than_a_bound() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
    let of = |body: &str| format!("{head}{}\r\n\r\n{body}", body.len());
    let huge = of(&" ".repeat(PEBBLE_ANSWER_BYTES_MAX + 1));
    for (answer, expected) in [
        (String::new(), "broke"),
        ("220 mail.example.com\r\n".to_owned(), "broke"),
        (format!("{head}100\r\n\r\n{{"), "broke"),
        (of("<html>"), "does not fit"),
        (
            of(r#"{"type":"sync","status-code":200,"result":7}"#),
            "does not fit",
        ),
        (huge, "more than"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let client = Client::new(directory.path().join("socket"));
        let listener = UnixListener::bind(client.socket()).unwrap();
        let stranger = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = [0; 1024];
            let _ = stream.read(&mut question).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let error = client.system_info().await.unwrap_err();
        assert!(
            error.to_string().contains(expected),
            "{error:?}, not {expected}"
        );
        stranger.abort();
    }
}
