//! Labels of pods and Services of Kubernetes, so that clients find the primary without Sentinel.
//!
//! What they have to be and what they are is compared, never an edge relied on. Only what differs is
//! changed, by patches of these fields alone that count for the object as it was read; so whoever
//! writes at the same time does not fight. Every unit that knows who is primary takes the label from
//! whoever else has it, before the primary gets it. Knows nothing of Juju or Valkey.

mod access;
mod difference;
mod error;
mod names;
mod objects;
mod session;

use std::fmt;

use tokio::time::timeout;
use tracing::info;

pub use access::Access;
pub use difference::{Change, Wanted};
pub use error::ApiError;
pub use names::{application_of_unit, pod_of_host, pod_of_unit};
pub use objects::Role;

use crate::limits::{API_KEEP_LIMIT, API_ROUNDS_MAX};
use difference::{Difference, difference};
use session::Session;

/// What could not be made right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What the pod's service account may not do.
    pub forbidden: Vec<Change>,
    /// Services that somebody else looks after: their name and that of who does.
    pub foreign: Vec<(String, String)>,
    /// What still differed at the end.
    pub left: Vec<Change>,
}

impl Report {
    /// Returns whether everything is as it has to be.
    #[must_use]
    pub fn is_right(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether only rights are missing.
    #[must_use]
    pub fn needs_trust(&self) -> bool {
        !self.forbidden.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |changes: &[Change]| {
            let texts: Vec<String> = changes.iter().map(ToString::to_string).collect();
            texts.join(", ")
        };
        let mut parts = Vec::new();
        if !self.forbidden.is_empty() {
            parts.push(format!("may not {}", list(&self.forbidden)));
        }
        for (name, manager) in &self.foreign {
            parts.push(format!(
                "Service {name} belongs to somebody else ({manager})"
            ));
        }
        if !self.left.is_empty() {
            parts.push(format!("still to do: {}", list(&self.left)));
        }
        formatter.write_str(&parts.join("; "))
    }
}

/// Makes labels and Services right.
///
/// `again` looks anew, after it was read what is there: what is then changed rests on a truth that
/// is newer than every label. What somebody changes in between refuses the change, and is read again.
///
/// # Errors
///
/// [`ApiError`] when the API server cannot be asked.
pub async fn keep(
    access: &Access,
    first: Wanted,
    again: impl AsyncFnMut() -> Wanted,
) -> Result<Report, ApiError> {
    timeout(API_KEEP_LIMIT, rounds(access, first, again))
        .await
        .unwrap_or(Err(ApiError::Late))
}

/// Compares without changing anything.
///
/// # Errors
///
/// [`ApiError`] when the API server cannot be asked.
pub async fn compare(access: &Access, wanted: &Wanted) -> Result<Report, ApiError> {
    let look = async {
        let actual = Session::open(access).await?.read(wanted).await?;
        let Difference { changes, foreign } = difference(wanted, &actual);
        Ok(Report {
            foreign,
            left: changes,
            ..Report::default()
        })
    };
    timeout(API_KEEP_LIMIT, look)
        .await
        .unwrap_or(Err(ApiError::Late))
}

async fn rounds(
    access: &Access,
    first: Wanted,
    mut again: impl AsyncFnMut() -> Wanted,
) -> Result<Report, ApiError> {
    let mut session = Session::open(access).await?;
    let mut wanted = first;
    let mut report = Report::default();
    for _ in 0..API_ROUNDS_MAX {
        let actual = session.read(&wanted).await?;
        if pending(&wanted, &actual, &mut report).is_empty() {
            return Ok(report);
        }
        wanted = again().await;
        for change in pending(&wanted, &actual, &mut report) {
            match session.carry_out(&wanted, &actual, &change).await {
                Ok(()) => info!(%change, "Changed on Kubernetes"),
                Err(error) if error.is_forbidden() => report.forbidden.push(change),
                // Somebody was faster: what is there now is read in the next round.
                Err(error) if error.is_outrun() => break,
                Err(error) => return Err(error),
            }
        }
    }
    let actual = session.read(&wanted).await?;
    report.left = pending(&wanted, &actual, &mut report);
    Ok(report)
}

/// Returns what is to be done and not known to be forbidden.
fn pending(wanted: &Wanted, actual: &difference::Actual, report: &mut Report) -> Vec<Change> {
    let Difference { changes, foreign } = difference(wanted, actual);
    report.foreign = foreign;
    changes
        .into_iter()
        .filter(|change| !report.forbidden.iter().any(|known| known.is_like(change)))
        .collect()
}
