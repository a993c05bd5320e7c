//! Keeps what a displaced primary accepted, whoever displaces it and whether a hook runs or not.
//!
//! Sentinel turns a displaced primary into a replica two to three seconds after it sees it again, and
//! with that its data set is replaced. So the files of a primary are held on to at any time, by second
//! names that cost nothing. When the server has become a replica, it says itself whether its new
//! primary had everything: then it took up where its own history ended, and what was held is let go.
//! If it had to copy the whole data set instead, what was held is kept aside for a person.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::{
    charm::unix_now,
    limits::{LOST_TAIL_BYTES_MAX, RECORD_BEHIND_MAX},
    observer::server_client,
    planner::peer_data::Position,
    valkey::{Credentials, Role, ServerClient, ServerInfo},
    workload::{Backend as _, Hold, Workload},
};

use super::position;

/// What is known of the data set of a former primary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Former {
    /// Its history.
    pub history: String,
    /// Its last known offset, in bytes.
    pub offset: Option<u64>,
    /// Epoch of the configuration in which it was the primary.
    pub epoch: u64,
    /// When it was kept aside, in seconds since 1970 by this unit's clock; 0 while it is only held.
    pub kept_at: u64,
    /// Host of the primary after it, if that was known.
    pub successor: Option<String>,
    /// Offset in bytes up to which the successor has the same history, if it told.
    pub shared_until: Option<u64>,
    /// Bytes of writes that exist nowhere else; at least so many, since offsets are noted once a second. None if it is
    /// not known: the successor did not tell, or the log went on after the last note.
    pub lost_bytes: Option<u64>,
    /// About how many writes these are.
    pub lost_writes: Option<u64>,
}

/// Name under which such data sets are kept aside.
const LABEL: &str = "former-primary";

/// Holds on to the data set of a primary, and decides what becomes of it afterwards.
#[derive(Default)]
pub(super) struct Keeper {
    /// Whether a snapshot was asked for in the present isolation.
    saved: bool,
}

impl Keeper {
    /// Looks once; `info` is what the local server just said.
    pub(super) async fn look(
        &mut self,
        workload: &Workload,
        credentials: &Credentials,
        client: &ServerClient,
        info: &ServerInfo,
    ) {
        let done = if info.loading.is_some() {
            Ok(())
        } else if info.role == Role::Primary {
            self.primary(workload, client, info).await
        } else {
            replica(workload, credentials, info).await
        };
        if let Err(error) = done {
            debug!(
                error = format!("{error:#}"),
                "Cannot hold on to the data set"
            );
        }
    }

    async fn primary(
        &mut self,
        workload: &Workload,
        client: &ServerClient,
        info: &ServerInfo,
    ) -> anyhow::Result<()> {
        // Without a log only a snapshot holds what was written since the last one.
        if info.persistence.aof_enabled || !fenced(client, info).await {
            self.saved = false;
        } else if !self.saved {
            client.bgsave().await?;
            self.saved = true;
        }
        match workload.hold().await? {
            Hold::Nothing => return Ok(()),
            Hold::Held => {}
            Hold::Prepared => {
                let before = workload.held::<Former>().await?;
                // Meanwhile its data set may have been replaced: then the older links are the right ones.
                let still = client.replication().await?.role == Role::Primary;
                if !still && before.is_some() {
                    return Ok(());
                }
                workload.confirm_hold().await?;
            }
        }
        let known = workload.held::<Former>().await?;
        if known.is_none_or(|known| known.history != info.replid) {
            let former = Former {
                history: info.replid.clone(),
                ..Former::default()
            };
            workload.describe_hold(&former).await?;
        }
        Ok(())
    }
}

/// Returns whether the primary takes no writes for want of replicas.
async fn fenced(client: &ServerClient, info: &ServerInfo) -> bool {
    let name = "min-replicas-to-write";
    let Some(good) = info.good_replicas else {
        return false;
    };
    let settings = client.config_get(&[name]).await.unwrap_or_default();
    let wanted: Option<u64> = settings.get(name).and_then(|value| value.parse().ok());
    wanted.is_some_and(|wanted| good < wanted)
}

/// Lets go of what was held, or keeps it aside, once it is clear which of them is right.
async fn replica(
    workload: &Workload,
    credentials: &Credentials,
    info: &ServerInfo,
) -> anyhow::Result<()> {
    let Some(held) = workload.held::<Former>().await? else {
        return Ok(());
    };
    if !info.is_synced_replica() {
        return Ok(());
    }
    if continues(info, &held.history) {
        workload.release_hold().await?;
        return Ok(());
    }
    let successor = info.follows().map(|primary| primary.host().to_owned());
    seal(workload, credentials, held, successor).await
}

/// Returns whether a server's data set is the history `history`, gone on with.
fn continues(info: &ServerInfo, history: &str) -> bool {
    info.replid == history || info.replid2.as_deref() == Some(history)
}

/// Keeps aside what is held, with what can be found out about it.
async fn seal(
    workload: &Workload,
    credentials: &Credentials,
    held: Former,
    successor: Option<String>,
) -> anyhow::Result<()> {
    let last = position::recorded(workload)
        .await
        .filter(|position| position.primary && position.history == held.history);
    let shared_until = match &successor {
        Some(host) => shared(host, credentials, &held.history).await,
        None => None,
    };
    let mut former = Former {
        offset: last.as_ref().map(|position| position.offset),
        epoch: last
            .as_ref()
            .map_or(0, |position: &Position| position.epoch),
        kept_at: unix_now(),
        successor,
        shared_until,
        ..held
    };
    let Some(path) = workload.seal_hold(LABEL, &former).await? else {
        return Ok(());
    };
    if let Some((last, until)) = last.zip(shared_until)
        && is_recorded_to_its_end(path.clone(), last.recorded_at).await
    {
        let bytes = last.offset.saturating_sub(until);
        former.lost_bytes = Some(bytes);
        former.lost_writes = lost_writes(path.clone(), bytes).await;
        let about = serde_json::to_vec_pretty(&former)?;
        workload
            .write(&path.join("about.json"), &about, 0o600)
            .await?;
    }
    warn!(
        path = %path.display(), lost_bytes = former.lost_bytes, lost_writes = former.lost_writes,
        "Another server's data set replaced that of a former primary, which was kept aside"
    );
    Ok(())
}

/// Asks the new primary up to which offset it has the history `history`.
async fn shared(host: &str, credentials: &Credentials, history: &str) -> Option<u64> {
    let client = server_client(host, credentials).await.ok()?;
    let info = client.replication().await.ok()?;
    if info.replid == history {
        return Some(info.offset);
    }
    let before = info.replid2.as_deref() == Some(history);
    info.second_repl_offset
        .filter(|_| before)
        .map(|first| first.saturating_sub(1))
}

/// Estimates how many writes the last `bytes` of a data set's log are; none without a log.
async fn lost_writes(set: PathBuf, bytes: u64) -> Option<u64> {
    tokio::task::spawn_blocking(move || {
        let (tail, of) = tail(&set, bytes).ok()??;
        let counted = writes_in(&tail);
        let read = u64::try_from(tail.len()).ok()?;
        // Of a long tail only the end was read.
        Some(
            counted
                .saturating_mul(of.max(read))
                .checked_div(read)
                .unwrap_or(0),
        )
    })
    .await
    .ok()?
}

/// Returns whether nothing was written to a data set's log after its offset was noted, at `recorded_at`.
///
/// On a machine so busy that the watcher did not get to it for a while, the noted offset says nothing of what is lost.
async fn is_recorded_to_its_end(set: PathBuf, recorded_at: u64) -> bool {
    tokio::task::spawn_blocking(move || {
        let Ok(Some(log)) = last_log(&set) else {
            return true;
        };
        let written = std::fs::metadata(log).and_then(|log| log.modified());
        let recorded = SystemTime::UNIX_EPOCH + Duration::from_secs(recorded_at);
        written.is_ok_and(|written| written <= recorded + RECORD_BEHIND_MAX)
    })
    .await
    .unwrap_or(false)
}

/// Finds the last part of a data set's log.
fn last_log(set: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut last: Option<(u64, PathBuf)> = None;
    for entry in std::fs::read_dir(set.join(crate::workload::Layout::APPEND_ONLY_DIR))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name
            .strip_suffix(".incr.aof")
            .and_then(|rest| rest.rsplit('.').next())
            .and_then(|number| number.parse().ok());
        if let Some(number) = number
            && last.as_ref().is_none_or(|(highest, _)| *highest < number)
        {
            last = Some((number, path.clone()));
        }
    }
    Ok(last.map(|(_, path)| path))
}

/// Reads the end of the last part of a data set's log, and says of how many bytes it is the end.
fn tail(set: &Path, bytes: u64) -> std::io::Result<Option<(Vec<u8>, u64)>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let Some(path) = last_log(set)? else {
        return Ok(None);
    };
    let mut file = std::fs::File::open(path)?;
    let of = bytes.min(file.metadata()?.len());
    let read = of.min(LOST_TAIL_BYTES_MAX);
    file.seek(SeekFrom::End(-i64::try_from(read).unwrap_or(0)))?;
    let mut tail = Vec::new();
    file.take(read).read_to_end(&mut tail)?;
    Ok(Some((tail, of)))
}

/// Counts the commands in a piece of a log, but for those that change nothing.
fn writes_in(log: &[u8]) -> u64 {
    let mut count = 0;
    let mut lines = log.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let begins = line.len() > 2
            && line[0] == b'*'
            && line.ends_with(b"\r")
            && line[1..line.len() - 1].iter().all(u8::is_ascii_digit)
            && lines.peek().is_some_and(|next| next.starts_with(b"$"));
        if !begins {
            continue;
        }
        let mut ahead = lines.clone();
        let name = ahead.nth(1).unwrap_or_default();
        let idle = [&b"SELECT\r"[..], b"MULTI\r", b"EXEC\r"]
            .iter()
            .any(|idle| name.eq_ignore_ascii_case(idle));
        count += u64::from(!idle);
    }
    count
}

/// Keeps the data set of a server aside before it is made to follow `successor`.
///
/// A server that runs goes on with its files until they are replaced: what it has by then belongs
/// to what is kept.
///
/// # Errors
///
/// When the files cannot be kept.
pub async fn keep_former(
    workload: &Workload,
    credentials: &Credentials,
    running: bool,
    successor: Option<String>,
) -> anyhow::Result<()> {
    use crate::workload::Keep;
    // What is held was the primary's, whatever lies in the data directory by now.
    if !running && let Some(held) = workload.held::<Former>().await? {
        let same = matches!(workload.hold().await, Ok(Hold::Held));
        seal(workload, credentials, held, successor).await?;
        if same {
            return Ok(());
        }
    }
    if let Some(path) = workload.keep_aside(LABEL, Keep::Link).await? {
        warn!(path = %path.display(), "The data of a former primary was kept aside");
    }
    Ok(())
}

/// Lets go of what is held if the local server, a replica, has all of it.
///
/// For the moment before a planned stop: the next start could no longer tell.
///
/// # Errors
///
/// When the links cannot be deleted.
pub async fn settle_former(workload: &Workload, info: &ServerInfo) -> anyhow::Result<()> {
    if info.role == Role::Replica
        && info.is_synced_replica()
        && let Some(held) = workload.held::<Former>().await?
        && continues(info, &held.history)
    {
        workload.release_hold().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_wherever_the_piece_begins() {
        let set = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n";
        let select = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
        for (log, expected) in [
            (String::new(), 0),
            (set.repeat(3), 3),
            (format!("{select}{set}{set}"), 2),
            // In the middle of a command, whose beginning is not part of it.
            (format!("{}{set}", &set[9..]), 1),
            // A value that looks almost like a command.
            ("*1\r\n$7\r\nx\r\n*12\r\n\r\n".to_owned(), 1),
            (
                format!("*1\r\n$5\r\nMULTI\r\n{set}{set}*1\r\n$4\r\nEXEC\r\n"),
                2,
            ),
            ("*\r\n**\r\n*3".to_owned(), 0),
        ] {
            assert_eq!(writes_in(log.as_bytes()), expected, "{log:?}");
        }
    }

    #[tokio::test]
    async fn an_offset_from_before_the_end_of_the_log_tells_nothing() {
        let set = tempfile::tempdir().unwrap();
        let of = |at| is_recorded_to_its_end(set.path().to_owned(), at);
        assert!(of(0).await, "there is no log");
        std::fs::create_dir(set.path().join("appendonlydir")).unwrap();
        std::fs::write(
            set.path().join("appendonlydir/appendonly.aof.1.incr.aof"),
            "",
        )
        .unwrap();
        let now = unix_now();
        for (at, expected) in [(now + 5, true), (now, true), (now - 60, false), (0, false)] {
            assert_eq!(of(at).await, expected, "{now} {at}");
        }
    }

    #[tokio::test]
    async fn the_tail_of_the_last_part_counts() {
        let set = tempfile::tempdir().unwrap();
        let log = set.path().join("appendonlydir");
        assert_eq!(lost_writes(set.path().to_owned(), 10).await, None);
        std::fs::create_dir(&log).unwrap();
        assert_eq!(lost_writes(set.path().to_owned(), 10).await, None);
        let write = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
        std::fs::write(log.join("appendonly.aof.9.incr.aof"), write.repeat(7)).unwrap();
        std::fs::write(log.join("appendonly.aof.10.incr.aof"), write.repeat(4)).unwrap();
        let bytes = u64::try_from(write.len()).unwrap();
        for (lost, expected) in [(0, 0), (bytes * 2, 2), (bytes * 100, 4)] {
            let counted = lost_writes(set.path().to_owned(), lost).await;
            assert_eq!(counted, Some(expected), "{lost} bytes");
        }
    }
}
