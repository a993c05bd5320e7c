//! The latest changes of the primary that this unit knows, kept in a file beside the data.

use serde::{Deserialize, Serialize};

use crate::{
    charm::unix_now,
    limits::{HISTORY_MAX, WORD_MAX_BYTES},
    planner::{Observation, UnitName},
    valkey::handover::HandoverRecord,
    watch::Former,
    workload::{Backend as _, Workload},
};

/// One change of the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// When, in seconds since 1970 by this unit's clock.
    pub at: u64,
    /// The primary before.
    pub from: String,
    /// The primary after.
    pub to: String,
    /// Whether it was planned; unknown for what this unit only saw.
    pub planned: Option<bool>,
    /// The way in which the role changed hands.
    pub path: String,
    /// For how long writes were held back, in milliseconds; unknown for what Sentinel did.
    pub pause_ms: Option<u64>,
    /// Bytes of writes that the old primary had and the new one had not; unknown if it was gone.
    pub lost_bytes: Option<u64>,
    /// About how many writes these are, where this unit had them.
    #[serde(default)]
    pub lost_writes: Option<u64>,
    /// Name of the data set that was kept aside because of it, in this unit's storage.
    #[serde(default)]
    pub kept: Option<String>,
    /// Last offset of the old primary in bytes, if it was asked.
    #[serde(default)]
    pub old_offset: Option<u64>,
    /// Offset in bytes at which the new primary went on, if it was asked.
    #[serde(default)]
    pub new_offset: Option<u64>,
    /// Epoch of the configuration that came of it.
    pub epoch: u64,
}

impl Entry {
    /// Reads what another unit tells of a change; `None` if it is no entry, or none that this charm writes.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(Self::is_sound)
    }

    /// Whether its texts are short and plain, so that the history stays small and can be shown.
    fn is_sound(&self) -> bool {
        [&self.from, &self.to, &self.path]
            .into_iter()
            .all(|text| text.len() <= WORD_MAX_BYTES && !text.contains(char::is_control))
    }

    /// Describes a change that the charm itself made; `show` turns a host into what people read.
    #[must_use]
    pub fn of_record(
        record: &HandoverRecord,
        planned: bool,
        show: impl Fn(&str) -> String,
    ) -> Self {
        Self {
            at: unix_now(),
            from: show(record.from.host()),
            to: show(record.to.host()),
            planned: Some(planned),
            path: serde_json::to_value(record.path)
                .ok()
                .and_then(|path| path.as_str().map(str::to_owned))
                .unwrap_or_default(),
            pause_ms: Some(record.phases.pause_ms),
            lost_bytes: record
                .old_offset
                .map(|old| old.saturating_sub(record.new_offset)),
            lost_writes: None,
            kept: None,
            old_offset: record.old_offset,
            new_offset: Some(record.new_offset),
            epoch: record.tally.epoch,
        }
    }
}

/// Reads the history, oldest first, without the entries that cannot be read; an unreadable file counts as empty.
pub async fn read(workload: &Workload) -> Vec<Entry> {
    let path = workload.layout().storage().join("failover-history.json");
    match workload.read(&path).await {
        Ok(Some(bytes)) => serde_json::from_slice::<Vec<serde_json::Value>>(&bytes)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|entry| serde_json::from_value(entry).ok())
            .filter(Entry::is_sound)
            .collect(),
        Ok(None) | Err(_) => Vec::new(),
    }
}

/// Notes a change of the primary that shows in what this unit sees, and those that others made.
///
/// # Errors
///
/// When the file cannot be written.
pub async fn note(workload: &Workload, seen: &Observation) -> anyhow::Result<()> {
    note_changes(workload, seen).await?;
    note_kept(workload, &seen.me).await
}

async fn note_changes(workload: &Workload, seen: &Observation) -> anyhow::Result<()> {
    let known = read(workload).await;
    for unit in seen.units.values() {
        let entry = unit.data.last_change.as_deref().and_then(Entry::read);
        if let Some(entry) = entry.filter(|entry| !known.contains(entry)) {
            append(workload, entry).await?;
        }
    }
    let Some(primary) = seen.primary() else {
        return Ok(());
    };
    let epoch = seen.epoch();
    let Some(last) = known.last() else {
        return append(workload, observed(seen, &primary, String::new(), epoch)).await;
    };
    if last.epoch < epoch && last.to != primary.as_str() {
        return append(workload, observed(seen, &primary, last.to.clone(), epoch)).await;
    }
    Ok(())
}

fn observed(seen: &Observation, primary: &UnitName, from: String, epoch: u64) -> Entry {
    let path = if from.is_empty() {
        "founded"
    } else {
        "sentinel"
    };
    Entry {
        at: seen.now,
        to: primary.to_string(),
        planned: None,
        path: path.to_owned(),
        pause_ms: None,
        lost_bytes: lost_bytes(seen, primary),
        lost_writes: None,
        kept: None,
        old_offset: None,
        new_offset: None,
        epoch,
        from,
    }
}

/// Adds to the changes that displaced this unit what was kept aside then.
async fn note_kept(workload: &Workload, me: &UnitName) -> anyhow::Result<()> {
    let mut entries = read(workload).await;
    let mut changed = false;
    for set in workload.kept_sets().await? {
        let former = set
            .about
            .and_then(|about| serde_json::from_slice::<Former>(&about).ok());
        let name = set.path.file_name().and_then(|name| name.to_str());
        let (Some(former), Some(name)) = (former, name) else {
            continue;
        };
        let displaced = entries
            .iter_mut()
            .find(|entry| entry.from == me.as_str() && entry.epoch > former.epoch);
        if let Some(entry) = displaced.filter(|entry| entry.kept.is_none()) {
            entry.kept = Some(name.to_owned());
            entry.lost_bytes = former.lost_bytes.or(entry.lost_bytes);
            entry.lost_writes = former.lost_writes;
            changed = true;
        }
    }
    if changed {
        save(workload, &entries).await?;
    }
    Ok(())
}

/// Estimates what the change lost, where this unit was the primary before.
///
/// The new primary remembers up to which offset it shares the old history; what this unit had
/// recorded beyond that was never replicated.
fn lost_bytes(seen: &Observation, primary: &UnitName) -> Option<u64> {
    let before = seen
        .local
        .identity
        .as_ref()?
        .position
        .as_ref()
        .filter(|position| position.primary)?;
    let (history, until) = seen.server(primary)?.earlier.as_ref()?;
    (*history == before.history).then(|| before.offset.saturating_sub(*until))
}

/// Adds an entry and drops the oldest beyond the bound; who made a change knows more of it than who saw it.
///
/// # Errors
///
/// When the file cannot be written.
pub async fn append(workload: &Workload, entry: Entry) -> anyhow::Result<()> {
    let mut entries = read(workload).await;
    match entries
        .iter_mut()
        .find(|known| known.epoch == entry.epoch && known.to == entry.to)
    {
        Some(known) if known.planned.is_none() && entry.planned.is_some() => *known = entry,
        Some(_) => return Ok(()),
        None => entries.push(entry),
    }
    let excess = entries.len().saturating_sub(HISTORY_MAX);
    entries.drain(..excess);
    save(workload, &entries).await
}

async fn save(workload: &Workload, entries: &[Entry]) -> anyhow::Result<()> {
    let path = workload.layout().storage().join("failover-history.json");
    workload
        .write(&path, &serde_json::to_vec_pretty(entries)?, 0o600)
        .await?;
    Ok(())
}
