//! Client of one valkey-server, logged in as the charm.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::cmd;
use serde::Serialize;
use tokio::time::sleep;

use crate::limits::{CLIENTS_KILLED_MAX, COMMAND_TIMEOUT, SHUTDOWN_RETRY};
use crate::valkey::connection::{Connection, list_of, pairs_of, text_of};
use crate::valkey::server_info::RoleReply;
use crate::valkey::{Endpoint, InternalUser, Password, ServerInfo, ValkeyError};

/// What a server does with its data set when it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownSave {
    /// Writes a last snapshot; the stop fails if that fails.
    Save,
    /// Leaves the files as they are.
    NoSave,
}

/// A connection to one valkey-server; every command has a deadline.
#[derive(Clone)]
pub struct ServerClient {
    connection: Connection,
}

impl ServerClient {
    /// Connects to a server and logs in.
    ///
    /// # Errors
    ///
    /// [`ValkeyError::Unreachable`] without a connection within `CONNECT_TIMEOUT`,
    /// [`ValkeyError::Auth`] if user or password is refused.
    pub async fn connect(
        endpoint: &Endpoint,
        user: InternalUser,
        password: &Password,
    ) -> Result<Self, ValkeyError> {
        Ok(Self {
            connection: Connection::open(endpoint, user.name(), password).await?,
        })
    }

    /// Returns whom this client talks to.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        self.connection.endpoint()
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Asks whether the server answers; a server that loads says so as an error.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn ping(&self) -> Result<(), ValkeyError> {
        self.connection.ask("PING", &cmd("PING")).await.map(drop)
    }

    /// Reads what the server says about itself; also answered while it loads.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`]; [`ValkeyError::Shape`] if not even the role is told.
    pub async fn info(&self) -> Result<ServerInfo, ValkeyError> {
        let mut info = cmd("INFO");
        info.arg(&["server", "memory", "persistence", "replication"]);
        self.read_info(&info).await
    }

    /// Reads the part about replication alone, the cheapest look that polling can take.
    ///
    /// # Errors
    ///
    /// As [`ServerClient::info`].
    pub async fn replication(&self) -> Result<ServerInfo, ValkeyError> {
        self.read_info(cmd("INFO").arg("replication")).await
    }

    async fn read_info(&self, info: &redis::Cmd) -> Result<ServerInfo, ValkeyError> {
        let text = self.connection.ask_text("INFO", info).await?;
        ServerInfo::parse(&text).ok_or_else(|| self.connection.misfit("INFO", "it tells no role"))
    }

    /// Reads the role.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn role(&self) -> Result<RoleReply, ValkeyError> {
        let value = self.connection.ask("ROLE", &cmd("ROLE")).await?;
        RoleReply::parse(&value).ok_or_else(|| self.connection.misfit("ROLE", "no server's role"))
    }

    /// Reads settings; those that this version does not know are missing in the answer.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn config_get(
        &self,
        names: &[&str],
    ) -> Result<BTreeMap<String, String>, ValkeyError> {
        let value = self
            .connection
            .ask("CONFIG GET", cmd("CONFIG").arg("GET").arg(names))
            .await?;
        Ok(pairs_of(&value).into_iter().collect())
    }

    /// Changes settings at run time, all or none of them.
    ///
    /// # Errors
    ///
    /// [`ValkeyError::Refused`] if one is unknown or its value is not taken; nothing is changed.
    pub async fn config_set(&self, settings: &[(&str, &str)]) -> Result<(), ValkeyError> {
        if settings.is_empty() {
            return Ok(());
        }
        let mut set = cmd("CONFIG");
        set.arg("SET");
        for (name, value) in settings {
            set.arg(name).arg(value);
        }
        self.connection.ask("CONFIG SET", &set).await.map(drop)
    }

    /// Makes the server follow `primary`, or makes it a primary.
    ///
    /// Following somebody else's data set replaces one's own: the caller has made sure.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn replicaof(&self, primary: Option<&Endpoint>) -> Result<(), ValkeyError> {
        let mut replicaof = cmd("REPLICAOF");
        match primary {
            Some(primary) => replicaof.arg(primary.host()).arg(primary.port()),
            None => replicaof.arg("NO").arg("ONE"),
        };
        self.connection.ask("REPLICAOF", &replicaof).await.map(drop)
    }

    /// Holds writes of all clients back for `at_most`; reads go on.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn client_pause_write(&self, at_most: Duration) -> Result<(), ValkeyError> {
        let mut pause = cmd("CLIENT");
        pause.arg("PAUSE").arg(millis(at_most)).arg("WRITE");
        self.connection.ask("CLIENT PAUSE", &pause).await.map(drop)
    }

    /// Lets paused clients go on.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn client_unpause(&self) -> Result<(), ValkeyError> {
        self.connection
            .ask("CLIENT UNPAUSE", cmd("CLIENT").arg("UNPAUSE"))
            .await
            .map(drop)
    }

    /// Starts the server's own planned failover to one of its replicas.
    ///
    /// The server then pauses writes, waits at most `within` for the target to have everything,
    /// and gives up by itself if that does not happen. It answers at once; its
    /// [`ServerInfo::failover`] tells how far it is.
    ///
    /// # Errors
    ///
    /// [`ValkeyError::Refused`] if the target is no online replica or a failover is under way.
    pub async fn failover_to(
        &self,
        target: &Endpoint,
        within: Duration,
    ) -> Result<(), ValkeyError> {
        let mut failover = cmd("FAILOVER");
        failover.arg("TO").arg(target.host()).arg(target.port());
        failover.arg("TIMEOUT").arg(millis(within));
        self.connection.ask("FAILOVER", &failover).await.map(drop)
    }

    /// Stops the server's own planned failover; none under way is fine.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn failover_abort(&self) -> Result<(), ValkeyError> {
        match self
            .connection
            .ask("FAILOVER ABORT", cmd("FAILOVER").arg("ABORT"))
            .await
        {
            Err(err)
                if err
                    .refusal()
                    .is_some_and(|t| t.contains("No failover in progress")) =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Waits until `replicas` have acknowledged this connection's last write, at most `within`.
    ///
    /// Returns how many have.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn wait_replicas(&self, replicas: u64, within: Duration) -> Result<u64, ValkeyError> {
        let mut wait = cmd("WAIT");
        wait.arg(replicas).arg(millis(within));
        let seen = self
            .connection
            .ask_number("WAIT", &wait, within + COMMAND_TIMEOUT)
            .await?;
        Ok(u64::try_from(seen).unwrap_or(0))
    }

    /// Brings the users to what the text of a file of users says, without closing connections.
    ///
    /// The caller writes the file as well, for the next start. Users that the text does not name
    /// are deleted. Not done by `ACL LOAD`, at which Valkey 8.0.1 crashes on a replica.
    ///
    /// # Errors
    ///
    /// [`ValkeyError::Refused`] if a rule is not taken; users before it are changed already, and
    /// calling again is safe.
    pub async fn apply_users(&self, file: &str) -> Result<(), ValkeyError> {
        self.connection.apply_users(file).await
    }

    /// Brings the internal users to what the text of a file of users says; other users stay.
    ///
    /// # Errors
    ///
    /// As [`Self::apply_users`].
    pub async fn set_users(&self, file: &str) -> Result<(), ValkeyError> {
        self.connection.set_users(file).await.map(drop)
    }

    /// Tries every command that Sentinel needs with the rights of Sentinel's user.
    ///
    /// Returns what would be denied; a failover would otherwise find out in the worst moment.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn sentinel_rights_missing(&self) -> Result<Vec<String>, ValkeyError> {
        let mut missing = Vec::new();
        for command in SENTINEL_COMMANDS {
            let mut dry = cmd("ACL");
            dry.arg("DRYRUN")
                .arg(InternalUser::CharmedSentinelValkey.name())
                .arg(*command);
            match self.connection.ask_text("ACL DRYRUN", &dry).await {
                Ok(text) if text == "OK" => {}
                Ok(text) => missing.push(text),
                // A command that this version does not have cannot be needed by its Sentinel.
                Err(err) if err.refusal().is_some_and(|text| text.contains("not found")) => {}
                Err(err) => return Err(err),
            }
        }
        Ok(missing)
    }

    /// Starts a snapshot in the background; one that already runs is as good.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn bgsave(&self) -> Result<(), ValkeyError> {
        match self
            .connection
            .ask("BGSAVE", cmd("BGSAVE").arg("SCHEDULE"))
            .await
        {
            Err(err)
                if err
                    .refusal()
                    .is_some_and(|t| t.contains("already in progress")) =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Returns when the last snapshot was finished, in Unix seconds.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn lastsave(&self) -> Result<u64, ValkeyError> {
        let at = self
            .connection
            .ask_number("LASTSAVE", &cmd("LASTSAVE"), COMMAND_TIMEOUT)
            .await?;
        Ok(u64::try_from(at).unwrap_or(0))
    }

    /// Stops the server, at most `within` for replicas to catch up and the data to be saved.
    ///
    /// A connection that ends is the answer. After a full copy a server refuses to stop until its
    /// append-only file is written anew; it is asked again until then.
    ///
    /// # Errors
    ///
    /// [`ValkeyError::Refused`] if it does not stop, for example because the save failed;
    /// [`ValkeyError::Timeout`] if it still works on it.
    pub async fn shutdown(&self, save: ShutdownSave, within: Duration) -> Result<(), ValkeyError> {
        let how = match save {
            ShutdownSave::Save => "SAVE",
            ShutdownSave::NoSave => "NOSAVE",
        };
        let start = Instant::now();
        let mut seen_idle = false;
        loop {
            let left = within.saturating_sub(start.elapsed());
            let asked = self
                .connection
                .ask_within("SHUTDOWN", cmd("SHUTDOWN").arg(how), left)
                .await;
            match asked {
                Ok(_) | Err(ValkeyError::Unreachable { .. }) => return Ok(()),
                Err(err) if err.refusal().is_none() || start.elapsed() >= within => {
                    return Err(err);
                }
                Err(err) => {
                    let info = self.info().await;
                    let busy = info.is_ok_and(|info| info.persistence.aof_rewrite_in_progress);
                    // It may have become ready just after it refused.
                    if !busy && seen_idle {
                        return Err(err);
                    }
                    seen_idle = !busy;
                    sleep(SHUTDOWN_RETRY).await;
                }
            }
        }
    }

    /// Closes the connections of users that are not the charm's own.
    ///
    /// After a demotion they would otherwise go on reading from the replica as if it were the
    /// primary. Returns how many were closed; at most [`CLIENTS_KILLED_MAX`] per call.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn kill_clients(&self) -> Result<usize, ValkeyError> {
        let mut list = cmd("CLIENT");
        list.arg("LIST").arg("TYPE").arg("normal");
        let text = self.connection.ask_text("CLIENT LIST", &list).await?;
        let ids: Vec<&str> = text
            .lines()
            .filter_map(foreign_client)
            .take(CLIENTS_KILLED_MAX)
            .collect();
        let mut killed = 0;
        for id in ids {
            let mut kill = cmd("CLIENT");
            kill.arg("KILL").arg("ID").arg(id);
            let count = self
                .connection
                .ask_number("CLIENT KILL", &kill, COMMAND_TIMEOUT)
                .await?;
            killed += usize::try_from(count).unwrap_or(0);
        }
        Ok(killed)
    }

    /// Closes a replica's connection to its primary, so that it makes a new one and announces itself
    /// anew; it goes on where it was. A primary has none to close.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn reconnect_to_primary(&self) -> Result<(), ValkeyError> {
        let mut kill = cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("master");
        self.connection.ask("CLIENT KILL", &kill).await.map(drop)
    }

    /// Counts the keys of the first database.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn dbsize(&self) -> Result<u64, ValkeyError> {
        let size = self
            .connection
            .ask_number("DBSIZE", &cmd("DBSIZE"), COMMAND_TIMEOUT)
            .await?;
        Ok(u64::try_from(size).unwrap_or(0))
    }

    /// Returns whether any database has a key (counted by `INFO keyspace`, all databases).
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn is_empty(&self) -> Result<bool, ValkeyError> {
        let text = self
            .connection
            .ask_text("INFO", cmd("INFO").arg("keyspace"))
            .await?;
        Ok(!text
            .lines()
            .any(|line| line.starts_with("db") && line.contains("keys=")))
    }

    /// Lists the users that exist on the server.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn acl_users(&self) -> Result<Vec<String>, ValkeyError> {
        let value = self
            .connection
            .ask("ACL USERS", cmd("ACL").arg("USERS"))
            .await?;
        Ok(list_of(&value).iter().filter_map(text_of).collect())
    }
}

/// Everything that a Sentinel sends to a server, with arguments that fit.
const SENTINEL_COMMANDS: &[&[&str]] = &[
    &["PING"],
    &["INFO"],
    &["SUBSCRIBE", "__sentinel__:hello"],
    &["PUBLISH", "__sentinel__:hello", "x"],
    &["REPLICAOF", "NO", "ONE"],
    &["SLAVEOF", "NO", "ONE"],
    &["CONFIG", "REWRITE"],
    &["CLIENT", "KILL", "TYPE", "normal"],
    &["CLIENT", "SETNAME", "x"],
    &["SCRIPT", "KILL"],
    &["FAILOVER"],
    &["MULTI"],
    &["EXEC"],
];

/// Returns the id of a line of `CLIENT LIST` unless its user is one of the charm's.
fn foreign_client(line: &str) -> Option<&str> {
    let field = |name: &str| {
        line.split(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let own = field("user").is_some_and(|user| user.starts_with("charmed-"));
    field("id").filter(|id| !own && id.chars().all(|c| c.is_ascii_digit()))
}

/// Whole milliseconds, at least one: 0 means "for ever" to the server.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .clamp(1, i64::MAX.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_foreign_clients_are_told_apart() {
        for (line, expected) in [
            ("id=7 addr=1.2.3.4:5 user=relation-1 cmd=get", Some("7")),
            (
                "id=8 addr=1.2.3.4:5 user=charmed-sentinel-valkey cmd=ping",
                None,
            ),
            ("id=9 addr=1.2.3.4:5", Some("9")),
            ("id=x user=app", None),
            ("", None),
        ] {
            assert_eq!(foreign_client(line), expected, "{line}");
        }
    }
}
