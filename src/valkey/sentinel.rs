//! Client of one Sentinel, logged in as the charm.

use std::time::Duration;

use redis::{Cmd, Value, cmd};
use serde::Serialize;

use crate::limits::{
    COMMAND_TIMEOUT, MONITOR_NAME, SENTINEL_HELLO_PERIOD, SENTINEL_HELLO_PERIOD_NAMED,
    SENTINEL_INFO_PERIOD, SENTINEL_PING_PERIOD, SENTINEL_TILT_PERIOD, SENTINEL_WRITE_TIMEOUT,
};
use crate::valkey::connection::{Connection, list_of, number_of, text_of};
use crate::valkey::hello::{HELLO_CHANNEL, Hello};
use crate::valkey::sentinel_view::Vote;
use crate::valkey::server::millis;
use crate::valkey::server_info::version_in;
use crate::valkey::{
    Endpoint, InternalUser, Password, PrimaryView, ReplicaView, SentinelPeer, ValkeyError, Version,
};

/// How Sentinel is asked to fail over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SentinelFailover {
    /// Promotes at once; the old primary takes writes for seconds more, which are lost.
    Plain,
    /// Pauses the old primary first; from version 9.0 on.
    Coordinated,
}

/// Periods of Sentinel's timers that can be changed at run time; a restart forgets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentinelPeriod {
    /// Between two `INFO` to each server; how fast replicas, roles and priorities are seen.
    Info,
    /// Between two hellos to each server.
    Publish,
    /// Between two `PING` to each server and Sentinel; silence counts from the first that is not answered.
    Ping,
    /// How long it only looks after it was blocked.
    Tilt,
}

impl SentinelPeriod {
    const fn name(self) -> &'static str {
        match self {
            Self::Info => "info-period",
            Self::Publish => "publish-period",
            Self::Ping => "ping-period",
            Self::Tilt => "tilt-period",
        }
    }
}

/// A connection to one Sentinel; every command has a deadline.
///
/// Commands and fields use the spelling that all versions understand.
#[derive(Clone)]
pub struct SentinelClient {
    connection: Connection,
}

impl SentinelClient {
    /// Connects to a Sentinel and logs in.
    ///
    /// # Errors
    ///
    /// As [`crate::valkey::ServerClient::connect`].
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

    async fn ask(&self, name: &'static str, cmd: &Cmd) -> Result<Value, ValkeyError> {
        self.connection.ask(name, cmd).await
    }

    /// Sends a command about the monitored primary; `None` if Sentinel monitors none.
    async fn about_primary(
        &self,
        name: &'static str,
        cmd: &Cmd,
    ) -> Result<Option<Value>, ValkeyError> {
        match self.ask(name, cmd).await {
            Err(err) if err.refusal().is_some_and(|text| text.contains("No such")) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Asks whether the Sentinel answers.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn ping(&self) -> Result<(), ValkeyError> {
        self.ask("PING", &cmd("PING")).await.map(drop)
    }

    /// Reads its view of the primary, `None` if it monitors none.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn primary(&self) -> Result<Option<PrimaryView>, ValkeyError> {
        let Some(value) = self
            .about_primary("SENTINEL MASTER", &sentinel("MASTER"))
            .await?
        else {
            return Ok(None);
        };
        PrimaryView::parse(&value)
            .map(Some)
            .ok_or_else(|| self.connection.misfit("SENTINEL MASTER", "no address"))
    }

    /// Reads the address that it gives to clients, `None` if it monitors none.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn primary_address(&self) -> Result<Option<Endpoint>, ValkeyError> {
        let name = "SENTINEL GET-MASTER-ADDR-BY-NAME";
        let value = self.ask(name, &sentinel("GET-MASTER-ADDR-BY-NAME")).await?;
        match list_of(&value) {
            [] => Ok(None),
            [host, port, ..] => text_of(host)
                .zip(number_of(port).and_then(|port| u16::try_from(port).ok()))
                .and_then(|(host, port)| Endpoint::new(host, port).ok())
                .map(Some)
                .ok_or_else(|| self.connection.misfit(name, "no address")),
            [_] => Err(self.connection.misfit(name, "a host without a port")),
        }
    }

    /// Reads its view of the replicas; empty if it monitors no primary.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn replicas(&self) -> Result<Vec<ReplicaView>, ValkeyError> {
        let value = self
            .about_primary("SENTINEL REPLICAS", &sentinel("REPLICAS"))
            .await?;
        Ok(value
            .as_ref()
            .map(ReplicaView::parse_all)
            .unwrap_or_default())
    }

    /// Reads its view of the other Sentinels; empty if it monitors no primary.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn sentinels(&self) -> Result<Vec<SentinelPeer>, ValkeyError> {
        let value = self
            .about_primary("SENTINEL SENTINELS", &sentinel("SENTINELS"))
            .await?;
        Ok(value
            .as_ref()
            .map(SentinelPeer::parse_all)
            .unwrap_or_default())
    }

    /// Reads its id.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn myid(&self) -> Result<String, ValkeyError> {
        self.connection
            .ask_text("SENTINEL MYID", cmd("SENTINEL").arg("MYID"))
            .await
    }

    /// Asks whether quorum and majority are reachable; the text says what is missing.
    ///
    /// Returns `Ok(Err(text))` for a negative answer, which is an answer and no failure.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn ckquorum(&self) -> Result<Result<String, String>, ValkeyError> {
        match self
            .connection
            .ask_text("SENTINEL CKQUORUM", &sentinel("CKQUORUM"))
            .await
        {
            Ok(text) => Ok(Ok(text)),
            Err(ValkeyError::Refused { text, .. }) => Ok(Err(text)),
            Err(err) => Err(err),
        }
    }

    /// Makes it forget the replicas and the other Sentinels, to learn them anew.
    ///
    /// It cannot fail over until it has; see [`crate::valkey::membership`] for the careful way.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn reset(&self) -> Result<(), ValkeyError> {
        self.ask("SENTINEL RESET", &sentinel("RESET"))
            .await
            .map(drop)
    }

    /// Makes it monitor a primary; all options but the quorum are Sentinel's defaults afterwards.
    ///
    /// # Errors
    ///
    /// [`ValkeyError::Refused`] if it already monitors one under that name.
    pub async fn monitor(&self, primary: &Endpoint, quorum: u64) -> Result<(), ValkeyError> {
        let mut monitor = sentinel("MONITOR");
        monitor.arg(primary.host()).arg(primary.port()).arg(quorum);
        self.ask("SENTINEL MONITOR", &monitor).await.map(drop)
    }

    /// Makes it stop monitoring; nothing monitored is fine.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn remove(&self) -> Result<(), ValkeyError> {
        self.about_primary("SENTINEL REMOVE", &sentinel("REMOVE"))
            .await
            .map(drop)
    }

    /// Sets options of the monitored primary; they are kept in its file and survive RESET.
    ///
    /// # Errors
    ///
    /// [`ValkeyError::Refused`] if an option or value is not taken.
    pub async fn set(&self, options: &[(&str, &str)]) -> Result<(), ValkeyError> {
        if options.is_empty() {
            return Ok(());
        }
        let mut set = sentinel("SET");
        for (name, value) in options {
            set.arg(name).arg(value);
        }
        self.ask("SENTINEL SET", &set).await.map(drop)
    }

    /// Sets the quorum.
    ///
    /// # Errors
    ///
    /// As [`SentinelClient::set`].
    pub async fn set_quorum(&self, quorum: u64) -> Result<(), ValkeyError> {
        self.set(&[("quorum", &quorum.to_string())]).await
    }

    /// Asks for its vote for `candidate` (40 hexadecimal digits) in `epoch`.
    ///
    /// It votes once per epoch, for the first who asks, and tells who has its vote. Having voted,
    /// it starts no failover of its own for twice the failover time limit. An epoch of 0 only
    /// asks for the last vote and changes nothing.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn vote(
        &self,
        primary: &Endpoint,
        epoch: u64,
        candidate: &str,
    ) -> Result<Vote, ValkeyError> {
        let name = "SENTINEL IS-MASTER-DOWN-BY-ADDR";
        let mut vote = cmd("SENTINEL");
        vote.arg("IS-MASTER-DOWN-BY-ADDR")
            .arg(primary.host())
            .arg(primary.port());
        vote.arg(epoch).arg(candidate);
        let value = self
            .connection
            .ask_within(name, &vote, SENTINEL_WRITE_TIMEOUT)
            .await?;
        Vote::parse(&value).ok_or_else(|| self.connection.misfit(name, "not three elements"))
    }

    /// Returns the highest epoch that it is known to know: of the elected primary and its votes.
    ///
    /// Its current epoch itself cannot be asked for; it can be higher after elections in which it
    /// did not take part, so that a request for a vote has to be ready to be told no.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn known_epoch(&self, view: &PrimaryView) -> Result<u64, ValkeyError> {
        let voted = self.vote(&view.address, 0, &"0".repeat(40)).await?.epoch;
        let peers = self.sentinels().await?;
        let told = peers.iter().map(|peer| peer.voted_epoch).max().unwrap_or(0);
        Ok(view.config_epoch.max(voted).max(told))
    }

    /// Hands it a hello as if it came from the Sentinel named in it.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn publish_hello(&self, hello: &Hello) -> Result<(), ValkeyError> {
        let mut publish = cmd("PUBLISH");
        publish.arg(HELLO_CHANNEL).arg(hello.to_string());
        self.connection
            .ask_within("PUBLISH", &publish, SENTINEL_WRITE_TIMEOUT)
            .await
            .map(drop)
    }

    /// Sets the period of a timer until Sentinel restarts.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn set_period(
        &self,
        period: SentinelPeriod,
        every: Duration,
    ) -> Result<(), ValkeyError> {
        let mut debug = cmd("SENTINEL");
        debug.arg("DEBUG").arg(period.name()).arg(millis(every));
        self.ask("SENTINEL DEBUG", &debug).await.map(drop)
    }

    /// Sets the charm's shorter periods, with which changes are seen within about a second.
    ///
    /// To be called after each start of the Sentinel; calling it again changes nothing.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn shorten_periods(&self) -> Result<(), ValkeyError> {
        self.set_period(SentinelPeriod::Info, SENTINEL_INFO_PERIOD)
            .await?;
        // Whoever has a name here, the others have names, too.
        let hello = if self.endpoint().address().is_some() {
            SENTINEL_HELLO_PERIOD
        } else {
            SENTINEL_HELLO_PERIOD_NAMED
        };
        self.set_period(SentinelPeriod::Publish, hello).await?;
        self.set_period(SentinelPeriod::Ping, SENTINEL_PING_PERIOD)
            .await?;
        self.set_period(SentinelPeriod::Tilt, SENTINEL_TILT_PERIOD)
            .await
    }

    /// Starts a failover by Sentinel.
    ///
    /// # Errors
    ///
    /// [`ValkeyError::Refused`] with `INPROG` or `NOGOODSLAVE`, or if the version does not know
    /// the kind.
    pub async fn failover(&self, kind: SentinelFailover) -> Result<(), ValkeyError> {
        let mut failover = sentinel("FAILOVER");
        if kind == SentinelFailover::Coordinated {
            failover.arg("COORDINATED");
        }
        self.ask("SENTINEL FAILOVER", &failover).await.map(drop)
    }

    /// Sets an option of the Sentinel itself (`announce-ip`, `resolve-hostnames`, …).
    ///
    /// # Errors
    ///
    /// [`ValkeyError::Refused`] if option or value is not taken.
    pub async fn config_set(&self, name: &str, value: &str) -> Result<(), ValkeyError> {
        let mut set = cmd("SENTINEL");
        set.arg("CONFIG").arg("SET").arg(name).arg(value);
        self.ask("SENTINEL CONFIG SET", &set).await.map(drop)
    }

    /// Makes it write its file.
    ///
    /// # Errors
    ///
    /// [`ValkeyError::Refused`] if it cannot write.
    pub async fn flush_config(&self) -> Result<(), ValkeyError> {
        let mut flush = cmd("SENTINEL");
        self.ask("SENTINEL FLUSHCONFIG", flush.arg("FLUSHCONFIG"))
            .await
            .map(drop)
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

    /// Sets the password with which it logs in to the other Sentinels; it keeps it in its file.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn set_peer_password(&self, password: &Password) -> Result<(), ValkeyError> {
        let mut set = cmd("SENTINEL");
        set.arg("CONFIG")
            .arg("SET")
            .arg("sentinel-pass")
            .arg(password.expose());
        self.ask("SENTINEL CONFIG SET", &set).await.map(drop)
    }

    /// Whether it is in TILT: its clock jumped or it was blocked, and it takes no decisions.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn is_tilted(&self) -> Result<bool, ValkeyError> {
        let text = self
            .connection
            .ask_text("INFO", cmd("INFO").arg("sentinel"))
            .await?;
        Ok(text
            .lines()
            .any(|line| line.trim_end() == "sentinel_tilt:1"))
    }

    /// Returns its version, if it tells.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn version(&self) -> Result<Option<Version>, ValkeyError> {
        let text = self
            .connection
            .ask_text("INFO", cmd("INFO").arg("server"))
            .await?;
        Ok(version_in(&text))
    }

    /// Stops the Sentinel process; a connection that ends is the answer.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`] but [`ValkeyError::Unreachable`].
    pub async fn shutdown(&self) -> Result<(), ValkeyError> {
        match self
            .connection
            .ask_within("SHUTDOWN", &cmd("SHUTDOWN"), COMMAND_TIMEOUT)
            .await
        {
            Ok(_) | Err(ValkeyError::Unreachable { .. }) => Ok(()),
            Err(err) => Err(err),
        }
    }
}

/// Starts a command about the one primary that the charm's Sentinels monitor.
fn sentinel(subcommand: &str) -> Cmd {
    let mut command = cmd("SENTINEL");
    command.arg(subcommand).arg(MONITOR_NAME);
    command
}
