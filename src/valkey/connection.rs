//! One connection with a deadline on everything, shared by the clients of server and Sentinel.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo as _, RedisConnectionInfo, Value, cmd,
};
use tokio::time::timeout;

use crate::limits::{COMMAND_TIMEOUT, CONNECT_TIMEOUT, REPLY_WORD_MAX_BYTES};
use crate::valkey::{Endpoint, Password, ValkeyError, names};

/// An authenticated connection; cheap to clone, the clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    endpoint: Endpoint,
    inner: MultiplexedConnection,
}

/// Makes the library's client for `endpoint` at `host`, its own or one that its name stands for.
fn client_at(
    host: &str,
    endpoint: &Endpoint,
    user: &str,
    password: &Password,
) -> Result<Client, ValkeyError> {
    let settings = RedisConnectionInfo::default()
        .set_username(user)
        .set_password(password.expose())
        // One round trip less; the name of a library tells a person nothing here.
        .set_skip_set_lib_name();
    (host, endpoint.port())
        .into_connection_info()
        .map(|info| info.set_redis_settings(settings))
        .and_then(Client::open)
        .map_err(|err| ValkeyError::sort(endpoint, "AUTH", &err))
}

/// Makes a connection to `endpoint` within [`CONNECT_TIMEOUT`], resolving its name included.
///
/// The addresses of a name are tried in turn, each with its part of the time.
pub(super) async fn connected<C, F: Future<Output = redis::RedisResult<C>>>(
    endpoint: &Endpoint,
    user: &str,
    password: &Password,
    connect: impl Fn(Client) -> F,
) -> Result<C, ValkeyError> {
    let unreachable = |reason: String| ValkeyError::Unreachable {
        endpoint: endpoint.clone(),
        reason,
    };
    let begun = Instant::now();
    let hosts = timeout(CONNECT_TIMEOUT, names::resolve(endpoint.host()))
        .await
        .map_err(|_| {
            let within = CONNECT_TIMEOUT.as_millis();
            unreachable(format!("its name is not resolved within {within} ms"))
        })?
        .map_err(|reason| unreachable(format!("its name is not resolved: {reason}")))?;
    let mut last = unreachable("its name has no address".to_owned());
    for (tried, host) in hosts.iter().enumerate() {
        let client = client_at(host, endpoint, user, password)?;
        let left = CONNECT_TIMEOUT.saturating_sub(begun.elapsed());
        let part = left / u32::try_from(hosts.len() - tried).unwrap_or(1);
        last = match timeout(part, connect(client)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(err)) => ValkeyError::sort(endpoint, "AUTH", &err),
            Err(_) => unreachable(format!(
                "no connection within {} ms",
                CONNECT_TIMEOUT.as_millis()
            )),
        };
    }
    Err(last)
}

impl Connection {
    /// Connects and logs in within [`CONNECT_TIMEOUT`].
    pub(super) async fn open(
        endpoint: &Endpoint,
        user: &str,
        password: &Password,
    ) -> Result<Self, ValkeyError> {
        // The library's own time limits are off: every call below has one that names the command.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        // In a box of its own: everybody who asks a server would carry it along.
        let inner = Box::pin(connected(endpoint, user, password, |client| {
            let config = config.clone();
            async move {
                client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await
            }
        }))
        .await?;
        Ok(Self {
            endpoint: endpoint.clone(),
            inner,
        })
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a command and waits [`COMMAND_TIMEOUT`] for its answer.
    pub(super) async fn ask(&self, name: &'static str, cmd: &Cmd) -> Result<Value, ValkeyError> {
        self.ask_within(name, cmd, COMMAND_TIMEOUT).await
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn ask_within(
        &self,
        name: &'static str,
        cmd: &Cmd,
        within: Duration,
    ) -> Result<Value, ValkeyError> {
        let mut inner = self.inner.clone();
        match timeout(within, inner.send_packed_command(cmd)).await {
            Ok(Ok(Value::ServerError(err))) => {
                Err(ValkeyError::sort(&self.endpoint, name, &err.into()))
            }
            Ok(Ok(value)) => Ok(value),
            Ok(Err(err)) => Err(ValkeyError::sort(&self.endpoint, name, &err)),
            Err(_) => Err(ValkeyError::Timeout {
                endpoint: self.endpoint.clone(),
                command: name,
                after: within,
            }),
        }
    }

    /// As [`Connection::ask`], for commands that answer a text.
    pub(super) async fn ask_text(
        &self,
        name: &'static str,
        cmd: &Cmd,
    ) -> Result<String, ValkeyError> {
        let value = self.ask(name, cmd).await?;
        text_of(&value).ok_or_else(|| self.misfit(name, "no text"))
    }

    /// As [`Connection::ask`], for commands that answer a number.
    pub(super) async fn ask_number(
        &self,
        name: &'static str,
        cmd: &Cmd,
        within: Duration,
    ) -> Result<i64, ValkeyError> {
        let value = self.ask_within(name, cmd, within).await?;
        number_of(&value).ok_or_else(|| self.misfit(name, "no number"))
    }

    /// Brings the users of a running process to what the text of a file of users says.
    ///
    /// Not by `ACL LOAD`: Valkey 8.0.1 crashes at it on a replica, and it closes the connections
    /// of all users that it changes.
    pub(super) async fn apply_users(&self, file: &str) -> Result<(), ValkeyError> {
        let named = self.set_users(file).await?;
        let users = self.ask("ACL USERS", cmd("ACL").arg("USERS")).await?;
        for user in list_of(&users).iter().filter_map(text_of) {
            if !named.is_empty() && !named.contains(user.as_str()) && user != "default" {
                self.ask("ACL DELUSER", cmd("ACL").arg("DELUSER").arg(user))
                    .await?;
            }
        }
        Ok(())
    }

    /// Brings the users that a file of users names to what it says; returns their names.
    pub(super) async fn set_users<'a>(
        &self,
        file: &'a str,
    ) -> Result<BTreeSet<&'a str>, ValkeyError> {
        let mut named = BTreeSet::new();
        for line in file.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("user"), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            let mut set = cmd("ACL");
            // Everything from before goes in the same step as what is new comes.
            set.arg("SETUSER").arg(name).arg("reset");
            for rule in words {
                set.arg(rule);
            }
            self.ask("ACL SETUSER", &set).await?;
            named.insert(name);
        }
        Ok(named)
    }

    pub(super) fn misfit(&self, command: &'static str, problem: impl Into<String>) -> ValkeyError {
        ValkeyError::Shape {
            endpoint: self.endpoint.clone(),
            command,
            problem: problem.into(),
        }
    }
}

/// Reads a text out of a reply; bytes that are no UTF-8 are replaced.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Okay => Some("OK".to_owned()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns what is kept of a word that a server or Sentinel says of itself.
pub(super) fn word_of(text: &str) -> String {
    let fits = |(at, letter): &(usize, char)| at + letter.len_utf8() <= REPLY_WORD_MAX_BYTES;
    text.char_indices()
        .take_while(fits)
        .map(|(_, letter)| letter)
        .collect()
}

/// Reads a number out of a reply, be it sent as one or as its text.
pub(super) fn number_of(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        other => text_of(other)?.parse().ok(),
    }
}

/// Returns the elements of a list, or nothing for any other reply.
pub(super) fn list_of(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        _ => &[],
    }
}

/// Reads pairs: a map, or a flat list of names and values in turn.
pub(super) fn pairs_of(value: &Value) -> Vec<(String, String)> {
    let pair = |(name, value): (&Value, &Value)| Some((text_of(name)?, text_of(value)?));
    match value {
        Value::Map(pairs) => pairs.iter().filter_map(|(n, v)| pair((n, v))).collect(),
        other => list_of(other)
            .chunks_exact(2)
            .filter_map(|two| pair((&two[0], &two[1])))
            .collect(),
    }
}
