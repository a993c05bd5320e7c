//! The calls of Pebble that are a question and an answer.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answers::{Change, CheckInfo, LogLine, Notice, ServiceInfo, SystemInfo};
use super::error::PebbleError;
use super::layer::{Layer, Level, go_text};
use super::transport::{Answer, Client, understand, with_query};
use crate::limits::{PEBBLE_CALL_LIMIT, PEBBLE_WAIT_STEP};

/// What to do with services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServicesAction {
    /// Start those that do not run, and those that they require.
    Start,
    /// Stop those that run.
    Stop,
    /// Stop and start.
    Restart,
}

impl ServicesAction {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// Which changes to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// Those that go on.
    InProgress,
    /// Those that are over.
    Ready,
    /// All.
    All,
}

impl Changes {
    fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in-progress",
            Self::Ready => "ready",
            Self::All => "all",
        }
    }
}

/// Which notices to list. Empty lists mean all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoticesQuery {
    /// Of these types, as in `custom`.
    pub types: Vec<String>,
    /// Of these keys.
    pub keys: Vec<String>,
    /// Told after this one was, if any.
    pub after: Option<jiff::Timestamp>,
    /// Of all users, not only of the one who asks.
    pub of_all_users: bool,
    /// How long to wait for the first one, at most [`PEBBLE_WAIT_STEP`].
    pub wait: Duration,
}

fn names_query<'a>(path: &str, names: &'a [&'a str]) -> String {
    with_query(path, names.iter().map(|name| ("names", *name)))
}

/// Returns the id of the change that was begun.
fn begun(what: &'static str, answer: Answer) -> Result<String, PebbleError> {
    answer.change.ok_or(PebbleError::Failed {
        what,
        reason: "Pebble began no change".to_owned(),
    })
}

impl Client {
    /// Asks who is there.
    ///
    /// # Errors
    ///
    /// [`PebbleError`] when it does not answer.
    pub async fn system_info(&self) -> Result<SystemInfo, PebbleError> {
        self.get("ask Pebble for its version", "/v1/system-info")
            .await
    }

    /// Asks whether the checks of a level (without, of any) and of these names (without, all) are up.
    ///
    /// # Errors
    ///
    /// [`PebbleError`] when it does not answer.
    pub async fn health(&self, level: Option<Level>, names: &[&str]) -> Result<bool, PebbleError> {
        const WHAT: &str = "ask for the health of a container";
        #[derive(serde::Deserialize)]
        struct Health {
            healthy: bool,
        }
        let level = level.map(|level| ("level", level.name()));
        let pairs = level
            .into_iter()
            .chain(names.iter().map(|name| ("names", *name)));
        let health: Health = self.get(WHAT, &with_query("/v1/health", pairs)).await?;
        Ok(health.healthy)
    }

    /// Adds a layer, or merges it into the one of the same label. No service starts or stops by it.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when the layer or the plan that it leads to is wrong.
    pub async fn add_layer(&self, label: &str, layer: &Layer) -> Result<(), PebbleError> {
        const WHAT: &str = "add a layer to Pebble's plan";
        let text = serde_json::to_string(layer)
            .map_err(|source| PebbleError::Shape { what: WHAT, source })?;
        let document = json!({
            "action": "add", "combine": true, "label": label, "format": "yaml", "layer": text,
        });
        self.post(WHAT, "/v1/layers", &document).await.map(drop)
    }

    /// Returns the plan that all layers make together, as YAML.
    ///
    /// # Errors
    ///
    /// [`PebbleError`] when it does not answer.
    pub async fn plan(&self) -> Result<String, PebbleError> {
        self.get("read Pebble's plan", "/v1/plan?format=yaml").await
    }

    /// Lists services, sorted by name; without names all. Unknown ones are left out.
    ///
    /// # Errors
    ///
    /// [`PebbleError`] when it does not answer.
    pub async fn services(&self, names: &[&str]) -> Result<Vec<ServiceInfo>, PebbleError> {
        let found: Option<Vec<ServiceInfo>> = self
            .get("list services", &names_query("/v1/services", names))
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// Begins to start, stop or restart services, and returns the id of the change.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when one of them is unknown.
    pub async fn change_services(
        &self,
        action: ServicesAction,
        names: &[&str],
    ) -> Result<String, PebbleError> {
        const WHAT: &str = "start or stop services";
        let document = json!({"action": action.name(), "services": names});
        begun(WHAT, self.post(WHAT, "/v1/services", &document).await?)
    }

    /// Begins to bring what runs in line with the plan, and returns the id of the change.
    ///
    /// # Errors
    ///
    /// [`PebbleError`] when it does not answer.
    pub async fn replan(&self) -> Result<String, PebbleError> {
        const WHAT: &str = "bring services in line with the plan";
        let document = json!({"action": "replan", "services": []});
        begun(WHAT, self.post(WHAT, "/v1/services", &document).await?)
    }

    /// Lists changes, of one service if it is named.
    ///
    /// # Errors
    ///
    /// [`PebbleError`] when it does not answer.
    pub async fn changes(
        &self,
        select: Changes,
        service: Option<&str>,
    ) -> Result<Vec<Change>, PebbleError> {
        let service = service.map(|name| ("for", name));
        let pairs = [("select", select.name())].into_iter().chain(service);
        let found: Option<Vec<Change>> = self
            .get("list changes", &with_query("/v1/changes", pairs))
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// Looks at a change.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when there is none of this id.
    pub async fn change(&self, id: &str) -> Result<Change, PebbleError> {
        self.get("look at a change", &format!("/v1/changes/{id}"))
            .await
    }

    /// Gives a change up.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when it is over already.
    pub async fn abort(&self, id: &str) -> Result<Change, PebbleError> {
        const WHAT: &str = "give a change up";
        let document = json!({"action": "abort"});
        let answer = self
            .post(WHAT, &format!("/v1/changes/{id}"), &document)
            .await?;
        understand(WHAT, answer.result)
    }

    /// Waits until a change is over; none if it is not within `limit`. It may have failed.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when there is none of this id.
    pub async fn settled(&self, id: &str, limit: Duration) -> Result<Option<Change>, PebbleError> {
        const WHAT: &str = "wait for a change";
        const NOT_YET: u16 = 504;
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // To Pebble no time is no limit.
            let step = left.clamp(Duration::from_millis(1), PEBBLE_WAIT_STEP);
            let text = go_text(step);
            let path = with_query(
                &format!("/v1/changes/{id}/wait"),
                [("timeout", text.as_str())],
            );
            match self
                .call(WHAT, Method::GET, &path, None, step + PEBBLE_CALL_LIMIT)
                .await
            {
                Ok(answer) => return understand(WHAT, answer.result).map(Some),
                Err(PebbleError::Refused {
                    status: NOT_YET, ..
                }) => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// Waits until a change has succeeded.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Failed`] when it failed, [`PebbleError::Timeout`] when it goes on beyond `limit`.
    pub async fn succeeded(&self, id: &str, limit: Duration) -> Result<Change, PebbleError> {
        const WHAT: &str = "finish a change";
        match self.settled(id, limit).await? {
            None => Err(PebbleError::Timeout { what: WHAT, limit }),
            Some(Change {
                err: Some(reason), ..
            }) => Err(PebbleError::Failed { what: WHAT, reason }),
            Some(change) => Ok(change),
        }
    }

    /// Sends a signal, by its name as in `SIGHUP`, to the processes of services.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when one does not run, or there is no such signal.
    pub async fn signal(&self, signal: &str, services: &[&str]) -> Result<(), PebbleError> {
        let document = json!({"signal": signal, "services": services});
        self.post("send a signal to services", "/v1/signals", &document)
            .await
            .map(drop)
    }

    /// Lists checks; without names all.
    ///
    /// # Errors
    ///
    /// [`PebbleError`] when it does not answer.
    pub async fn checks(&self, names: &[&str]) -> Result<Vec<CheckInfo>, PebbleError> {
        let found: Option<Vec<CheckInfo>> = self
            .get("list checks", &names_query("/v1/checks", names))
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// Starts (or stops) checks, and returns those that were not started (or stopped) before.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when there is none of such a name.
    pub async fn run_checks(&self, run: bool, names: &[&str]) -> Result<Vec<String>, PebbleError> {
        const WHAT: &str = "start or stop checks";
        #[derive(serde::Deserialize)]
        struct Changed {
            changed: Option<Vec<String>>,
        }
        let action = if run { "start" } else { "stop" };
        let document = json!({"action": action, "checks": names});
        let answer = self.post(WHAT, "/v1/checks", &document).await?;
        let changed: Changed = understand(WHAT, answer.result)?;
        Ok(changed.changed.unwrap_or_default())
    }

    /// Records a notice of the charm's or the workload's own, and returns its id.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when the key has not the form `example.com/path`, or the data is too large.
    pub async fn notify(
        &self,
        key: &str,
        repeat_after: Duration,
        data: &BTreeMap<String, String>,
    ) -> Result<String, PebbleError> {
        const WHAT: &str = "record a notice";
        #[derive(serde::Deserialize)]
        struct Added {
            id: String,
        }
        let document = json!({
            "action": "add", "type": "custom", "key": key,
            "repeat-after": go_text(repeat_after), "data": data,
        });
        let answer = self.post(WHAT, "/v1/notices", &document).await?;
        let added: Added = understand(WHAT, answer.result)?;
        Ok(added.id)
    }

    /// Lists notices, those that were told last at the end; waits for the first one if there is none yet.
    ///
    /// # Errors
    ///
    /// [`PebbleError`] when it does not answer.
    pub async fn notices(&self, query: &NoticesQuery) -> Result<Vec<Notice>, PebbleError> {
        const WHAT: &str = "list notices";
        let wait = query.wait.min(PEBBLE_WAIT_STEP);
        let (wait_text, after) = (go_text(wait), query.after.map(|after| after.to_string()));
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        pairs.extend(query.types.iter().map(|kind| ("types", kind.as_str())));
        pairs.extend(query.keys.iter().map(|key| ("keys", key.as_str())));
        pairs.extend(after.as_deref().map(|after| ("after", after)));
        pairs.extend(query.of_all_users.then_some(("users", "all")));
        pairs.extend((!wait.is_zero()).then_some(("timeout", wait_text.as_str())));
        let path = with_query("/v1/notices", pairs);
        let answer = self
            .call(WHAT, Method::GET, &path, None, wait + PEBBLE_CALL_LIMIT)
            .await?;
        let found: Option<Vec<Notice>> = understand(WHAT, answer.result)?;
        Ok(found.unwrap_or_default())
    }

    /// Looks at a notice.
    ///
    /// # Errors
    ///
    /// [`PebbleError::Refused`] when there is none of this id.
    pub async fn notice(&self, id: &str) -> Result<Notice, PebbleError> {
        self.get("look at a notice", &format!("/v1/notices/{id}"))
            .await
    }

    /// Returns the last lines that a service wrote, oldest first.
    ///
    /// # Errors
    ///
    /// [`PebbleError`] when it does not answer.
    pub async fn logs(&self, service: &str, lines: u32) -> Result<Vec<LogLine>, PebbleError> {
        const WHAT: &str = "read the log of a service";
        let lines = lines.to_string();
        let path = with_query("/v1/logs", [("services", service), ("n", &lines)]);
        let body = super::transport::whole(Vec::new());
        let request = Self::request(WHAT, Method::GET, &path, &[], body)?;
        let bytes = self.exchange(WHAT, request, PEBBLE_CALL_LIMIT).await?;
        // A refusal is an envelope, which is one line that is no line of a log.
        if let Ok(Value::Object(document)) = serde_json::from_slice::<Value>(&bytes)
            && document.contains_key("type")
        {
            super::transport::open_envelope(WHAT, &bytes)?;
        }
        String::from_utf8_lossy(&bytes)
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .map_err(|source| PebbleError::Shape { what: WHAT, source })
            })
            .collect()
    }
}
