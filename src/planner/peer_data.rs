//! What the units write into the peer databags: the shared state of the application.
//!
//! Each field is one key of the databag; values that are not plain text are JSON. Keys that this
//! version does not know are left as they are, so that older and newer units can stand side by side.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    names::UnitName,
    peer_values::{TEXT_MAX_BYTES, VALUE_MAX_BYTES, count, plain, word},
};

/// The text map that Juju keeps for a unit or an application on a relation.
pub type Databag = BTreeMap<String, String>;

/// The application's databag, written by the leader alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppData {
    /// Random name of this deployment; data of another one is never mixed in.
    pub deployment_id: Option<String>,
    /// Which unit may be a primary that nobody elected.
    pub founding: Option<Founding>,
    /// Which unit's turn it is to change the set of processes.
    pub turn: Option<Grant>,
    /// Juju's id of the secret that holds the passwords of the internal users.
    pub users_secret: Option<String>,
    /// What option `system-users` was when the passwords were made; nobody applies a later change.
    pub system_users: Option<String>,
}

/// The unit that may serve without having been elected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// That unit.
    pub unit: UnitName,
    /// Rises with every such decision.
    #[serde(deserialize_with = "count")]
    pub generation: u64,
    /// Why it was made.
    pub reason: FoundingReason,
    /// Whether it was carried out.
    pub done: bool,
}

/// Why a unit may serve without having been elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FoundingReason {
    /// The application is new: this unit creates the first, empty primary.
    Found,
    /// Nobody knows a primary any more: this unit holds the best copy.
    Restore,
    /// A person decided whose data wins.
    Override,
}

/// The turn as the leader granted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whose turn it is.
    pub holder: UnitName,
    /// Which of the holder's requests was granted.
    #[serde(deserialize_with = "count")]
    pub number: u64,
}

/// A unit's own databag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitData {
    /// Address or name under which the others reach this unit.
    pub address: Option<String>,
    /// How far this unit is in its life.
    pub state: UnitState,
    /// Its wish for the turn.
    pub turn: TurnRequest,
    /// Which data it holds, as it last knew.
    pub position: Option<Position>,
    /// Digest of what its server was started with: settings, and which build as what.
    pub settings: Option<String>,
    /// Version of the valkey-server that it runs, or ran last.
    pub server_version: Option<String>,
    /// Id of its Sentinel, by which the others' know it again at another address.
    pub sentinel: Option<String>,
    /// The latest change of the primary that this unit made itself, for the others' history.
    pub last_change: Option<String>,
}

/// How far a unit is in its life; a claim of that unit, not a proof.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitState {
    /// Has not joined yet.
    #[default]
    New,
    /// Belongs to the set: its server replicates, its Sentinel votes.
    Member,
    /// Its storage was taken away while it lives on.
    Detached,
    /// Has left the set for good.
    Left,
}

/// A unit's wish for the turn; the number only rises, so that a change is never unseen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnRequest {
    /// Rises with each request and each release.
    #[serde(deserialize_with = "count")]
    pub number: u64,
    /// What the unit wants to do; nothing when it wants no turn.
    pub wants: Option<TurnKind>,
    /// When it asked, in seconds since 1970 by its own clock; only for fairness.
    #[serde(deserialize_with = "count")]
    pub asked_at: u64,
}

/// What a unit wants the turn for, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TurnKind {
    /// Join the set: restores redundancy, so it goes first.
    Start,
    /// Restart to take up settings.
    Restart,
}

/// Which data a unit holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Replication id: offsets compare only within one.
    #[serde(deserialize_with = "word")]
    pub history: String,
    /// Replication offset in bytes.
    #[serde(deserialize_with = "count")]
    pub offset: u64,
    /// Sentinel's configuration epoch under which this was seen.
    #[serde(deserialize_with = "count")]
    pub epoch: u64,
    /// Whether the unit was the primary then.
    pub primary: bool,
    /// Whether the server was stopped in order afterwards.
    pub clean: bool,
    /// When it was seen, in seconds since 1970 by the unit's own clock.
    #[serde(deserialize_with = "count")]
    pub recorded_at: u64,
}

/// What a unit keeps in a file beside its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Deployment that the data belongs to.
    #[serde(deserialize_with = "word")]
    pub deployment_id: String,
    /// Unit that wrote the data.
    pub unit: UnitName,
    /// Highest founding decision that this data carried out or followed.
    #[serde(deserialize_with = "count")]
    pub generation: u64,
    /// What the data holds.
    pub position: Option<Position>,
}

/// A value in a databag that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Key of the value.
    pub key: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`: {}", self.key, self.problem)
    }
}

/// Reads a databag key by key; what cannot be read is left at its default and named.
struct Reader<'a> {
    bag: &'a Databag,
    malformed: Vec<Malformed>,
}

impl Reader<'_> {
    fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.bag.get(key)?;
        if value.len() > TEXT_MAX_BYTES || value.chars().any(char::is_control) {
            self.malformed.push(Malformed {
                key,
                problem: "too long or not plain text".to_owned(),
            });
            return None;
        }
        Some(value.clone()).filter(|text| !text.is_empty())
    }

    fn json<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        let value = self.bag.get(key).filter(|value| !value.is_empty())?;
        if value.len() > VALUE_MAX_BYTES {
            self.malformed.push(Malformed {
                key,
                problem: "too long".to_owned(),
            });
            return None;
        }
        match serde_json::from_str(value) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.malformed.push(Malformed {
                    key,
                    problem: plain(&error.to_string()),
                });
                None
            }
        }
    }
}

impl Reader<'_> {
    /// Reads the state of a unit; one that wrote something else there counts as a member.
    ///
    /// To take a member for a newcomer would lower the quorum and forget it; the other way round
    /// costs patience only.
    fn state(&mut self) -> UnitState {
        if let Some(state) = self.json("state") {
            return state;
        }
        let given = |key: &str| self.bag.get(key).is_some_and(|value| !value.is_empty());
        if given("state") {
            return UnitState::Member;
        }
        if given("position") {
            self.malformed.push(Malformed {
                key: "state",
                problem: "missing".to_owned(),
            });
            return UnitState::Member;
        }
        UnitState::New
    }
}

fn put_text(bag: &mut Databag, key: &str, value: Option<&str>) {
    bag.insert(key.to_owned(), value.unwrap_or_default().to_owned());
}

fn put_json<T: Serialize>(bag: &mut Databag, key: &str, value: Option<&T>) {
    // The types above always serialise: they hold only text, numbers and flags.
    let text = value
        .and_then(|value| serde_json::to_string(value).ok())
        .unwrap_or_default();
    bag.insert(key.to_owned(), text);
}

impl AppData {
    /// Reads the application's databag.
    #[must_use]
    pub fn from_databag(bag: &Databag) -> (Self, Vec<Malformed>) {
        let mut reader = Reader {
            bag,
            malformed: Vec::new(),
        };
        let data = Self {
            deployment_id: reader.text("deployment-id"),
            founding: reader.json("founding"),
            turn: reader.json("turn"),
            users_secret: reader.text("users-secret"),
            system_users: reader.text("system-users"),
        };
        (data, reader.malformed)
    }

    /// Returns every key of this version; an empty value deletes the key.
    #[must_use]
    pub fn to_databag(&self) -> Databag {
        let Self {
            deployment_id,
            founding,
            turn,
            users_secret,
            system_users,
        } = self;
        let mut bag = Databag::new();
        put_text(&mut bag, "deployment-id", deployment_id.as_deref());
        put_json(&mut bag, "founding", founding.as_ref());
        put_json(&mut bag, "turn", turn.as_ref());
        put_text(&mut bag, "users-secret", users_secret.as_deref());
        put_text(&mut bag, "system-users", system_users.as_deref());
        bag
    }
}

impl UnitData {
    /// Reads a unit's databag.
    #[must_use]
    pub fn from_databag(bag: &Databag) -> (Self, Vec<Malformed>) {
        let mut reader = Reader {
            bag,
            malformed: Vec::new(),
        };
        let data = Self {
            address: reader.text("address"),
            state: reader.state(),
            turn: reader.json("turn").unwrap_or_default(),
            position: reader.json("position"),
            settings: reader.text("settings"),
            server_version: reader.text("server-version"),
            sentinel: reader.text("sentinel"),
            last_change: reader.text("last-change"),
        };
        (data, reader.malformed)
    }

    /// Returns every key of this version; an empty value deletes the key.
    #[must_use]
    pub fn to_databag(&self) -> Databag {
        let Self {
            address,
            state,
            turn,
            position,
            settings,
            server_version,
            sentinel,
            last_change,
        } = self;
        let mut bag = Databag::new();
        put_text(&mut bag, "address", address.as_deref());
        put_json(&mut bag, "state", Some(state));
        put_json(&mut bag, "turn", Some(turn));
        put_json(&mut bag, "position", position.as_ref());
        put_text(&mut bag, "settings", settings.as_deref());
        put_text(&mut bag, "server-version", server_version.as_deref());
        put_text(&mut bag, "sentinel", sentinel.as_deref());
        put_text(&mut bag, "last-change", last_change.as_deref());
        bag
    }
}

/// Returns the keys of `wanted` that differ from what `committed` holds.
#[must_use]
pub fn changed_keys(committed: &Databag, wanted: &Databag) -> Databag {
    wanted
        .iter()
        .filter(|(key, value)| committed.get(*key).map_or("", String::as_str) != value.as_str())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let data = AppData {
            deployment_id: Some("d1".to_owned()),
            founding: Some(Founding {
                unit: UnitName::new("valkey/3"),
                generation: 2,
                reason: FoundingReason::Restore,
                done: true,
            }),
            turn: Some(Grant {
                holder: UnitName::new("valkey/1"),
                number: 7,
            }),
            users_secret: None,
            system_users: Some("secret:2".to_owned()),
        };
        assert_eq!(AppData::from_databag(&data.to_databag()), (data, vec![]));
        let unit = UnitData {
            address: Some("127.0.0.9".to_owned()),
            state: UnitState::Member,
            turn: TurnRequest {
                number: 4,
                wants: Some(TurnKind::Restart),
                asked_at: 5,
            },
            ..UnitData::default()
        };
        assert_eq!(UnitData::from_databag(&unit.to_databag()), (unit, vec![]));
    }

    #[test]
    fn only_changed_keys_are_written_and_unknown_ones_stay() {
        let committed = Databag::from([
            ("turn".to_owned(), String::new()),
            ("future".to_owned(), "x".to_owned()),
        ]);
        let wanted = AppData {
            deployment_id: Some("d".to_owned()),
            ..AppData::default()
        }
        .to_databag();
        assert_eq!(
            changed_keys(&committed, &wanted),
            Databag::from([("deployment-id".to_owned(), "d".to_owned())])
        );
    }

    #[test]
    fn a_state_that_cannot_be_read_is_not_that_of_a_newcomer() {
        for (state, position, expected, problems) in [
            (None, None, UnitState::New, 0),
            (Some(r#""member""#), None, UnitState::Member, 0),
            (Some(r#""left""#), None, UnitState::Left, 0),
            (Some("{broken"), None, UnitState::Member, 1),
            (Some(r#""of-a-newer-version""#), None, UnitState::Member, 1),
            (None, Some("{broken"), UnitState::Member, 2),
        ] {
            let bag: Databag = [("state", state), ("position", position)]
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
                .collect();
            let (data, malformed) = UnitData::from_databag(&bag);
            assert_eq!(
                (data.state, malformed.len()),
                (expected, problems),
                "{bag:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_databag_stops_the_reader(bag: BTreeMap<String, String>, turn: String, founding: String) {
            let mut bag = bag;
            bag.insert("turn".to_owned(), turn);
            bag.insert("founding".to_owned(), founding);
            let _ = AppData::from_databag(&bag);
            let _ = UnitData::from_databag(&bag);
        }
    }
}
