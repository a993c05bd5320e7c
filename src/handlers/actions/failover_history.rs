//! Action `failover-history`: the changes of the primary that this unit knows, newest first.

use serde::Serialize;

use crate::{history::Entry, planner::bytes};

use super::{answer::Answer, table::Table};

/// One change, with its time for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Change {
    /// When, in UTC by the clock of the unit that noted it.
    time: String,
    #[serde(flatten)]
    entry: Entry,
}

/// Lists the changes, given oldest first.
///
/// # Errors
///
/// When the result cannot be written as JSON.
pub fn answer(entries: Vec<Entry>) -> anyhow::Result<Answer> {
    let changes: Vec<Change> = entries
        .into_iter()
        .rev()
        .map(|entry| Change {
            time: time(entry.at),
            entry,
        })
        .collect();
    if changes.is_empty() {
        return Answer::new(
            "this unit knows of no change of the primary\n".to_owned(),
            &changes,
        );
    }
    let mut table = Table::new([
        "Time (UTC)",
        "From",
        "To",
        "Kind",
        "Path",
        "Writes held back",
        "Lost",
        "Epoch",
    ]);
    for Change { time, entry } in &changes {
        let founding = entry.from.is_empty();
        let kind = match entry.planned {
            Some(true) => "planned",
            Some(false) => "unplanned",
            None if founding => "first",
            None => "unknown",
        };
        table.row([
            time.clone(),
            entry.from.clone(),
            entry.to.clone(),
            kind.to_owned(),
            entry.path.clone(),
            entry
                .pause_ms
                .map_or_else(String::new, |pause| format!("{pause} ms")),
            match (entry.lost_bytes, entry.lost_writes) {
                (Some(lost), Some(writes)) if lost > 0 => {
                    format!("{}, about {writes} writes", bytes(lost))
                }
                (Some(lost), _) => bytes(lost),
                (None, _) if founding => String::new(),
                (None, _) => "unknown".to_owned(),
            },
            entry.epoch.to_string(),
        ]);
    }
    Answer::new(table.render(), &changes)
}

fn time(at: u64) -> String {
    i64::try_from(at)
        .ok()
        .and_then(|at| jiff::Timestamp::from_second(at).ok())
        .map_or_else(|| "unknown".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: u64, planned: Option<bool>) -> Entry {
        Entry {
            at,
            from: "valkey/0".to_owned(),
            to: "valkey/1".to_owned(),
            planned,
            path: "server-failover".to_owned(),
            pause_ms: planned.map(|_| 12),
            lost_bytes: planned.map(|_| 0),
            lost_writes: None,
            kept: None,
            old_offset: None,
            new_offset: None,
            epoch: at,
        }
    }

    #[test]
    fn the_newest_comes_first_and_times_are_utc() {
        let text = answer(vec![entry(1, None), entry(1_700_000_000, Some(true))])
            .map(|answer| answer.text)
            .unwrap_or_default();
        assert_eq!(
            text,
            "\
Time (UTC)            From      To        Kind     Path             Writes held back  Lost     Epoch
2023-11-14T22:13:20Z  valkey/0  valkey/1  planned  server-failover  12 ms             0 B      1700000000
1970-01-01T00:00:01Z  valkey/0  valkey/1  unknown  server-failover  -                 unknown  1
"
        );
    }

    #[test]
    fn programs_get_every_field() {
        let json = answer(vec![entry(1, None)])
            .map(|answer| answer.json)
            .unwrap_or_default();
        assert_eq!(json[0]["time"], "1970-01-01T00:00:01Z");
        assert_eq!(json[0]["from"], "valkey/0");
        assert!(json[0]["pause-ms"].is_null());
    }
}
