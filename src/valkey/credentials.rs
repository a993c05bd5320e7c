//! The users that belong to the charm, and their passwords.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::limits::{PASSWORD_LENGTH, PASSWORD_MAX_BYTES};

/// A user that the charm itself needs; the names are those that related charms know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InternalUser {
    /// The charm, on the server.
    CharmedOperator,
    /// Sentinel, on the server.
    CharmedSentinelValkey,
    /// A replica, on its primary.
    CharmedReplication,
    /// An exporter of metrics, on the server.
    CharmedStats,
    /// Sentinel, on another Sentinel.
    CharmedSentinelPeers,
    /// The charm, on Sentinel.
    CharmedSentinelOperator,
}

impl InternalUser {
    /// All users, in the order in which the files list them.
    pub const ALL: [Self; 6] = [
        Self::CharmedOperator,
        Self::CharmedSentinelValkey,
        Self::CharmedReplication,
        Self::CharmedStats,
        Self::CharmedSentinelPeers,
        Self::CharmedSentinelOperator,
    ];

    /// Returns the user's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CharmedOperator => "charmed-operator",
            Self::CharmedSentinelValkey => "charmed-sentinel-valkey",
            Self::CharmedReplication => "charmed-replication",
            Self::CharmedStats => "charmed-stats",
            Self::CharmedSentinelPeers => "charmed-sentinel-peers",
            Self::CharmedSentinelOperator => "charmed-sentinel-operator",
        }
    }
}

/// A password. Its text is shown by [`Password::expose`] alone; `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Password(String);

/// Why a text cannot be a password; never holds the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It is empty or too long.
    #[error("cannot use a password of {0} bytes: it must have 1 to {PASSWORD_MAX_BYTES}")]
    Length(usize),
    /// It would end its line or its quotes in a configuration file.
    #[error(
        "cannot use a password with other than visible ASCII characters, or with quotes or backslashes"
    )]
    Characters,
    /// The operating system gave no random numbers.
    #[error("cannot make a password: the system gave no random numbers: {0}")]
    Random(String),
    /// A user's password is missing from a set of them.
    #[error("cannot find the password of user {0}")]
    Missing(&'static str),
}

impl Password {
    /// Takes a given password.
    ///
    /// # Errors
    ///
    /// [`PasswordError`] if it is empty, longer than [`PASSWORD_MAX_BYTES`], or not plain visible
    /// ASCII without quotes and backslashes, which is what every file and command line of
    /// Valkey's tools carries unharmed.
    pub fn new(text: impl Into<String>) -> Result<Self, PasswordError> {
        let text = text.into();
        if text.is_empty() || text.len() > PASSWORD_MAX_BYTES {
            return Err(PasswordError::Length(text.len()));
        }
        if !text
            .chars()
            .all(|c| c.is_ascii_graphic() && !"\"'\\".contains(c))
        {
            return Err(PasswordError::Characters);
        }
        Ok(Self(text))
    }

    /// Makes a new random password of [`PASSWORD_LENGTH`] letters and digits.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Random`] if the operating system gives no random numbers.
    pub fn generate() -> Result<Self, PasswordError> {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut random = [0_u8; PASSWORD_LENGTH];
        getrandom::fill(&mut random).map_err(|err| PasswordError::Random(err.to_string()))?;
        // 64 characters divide 256 evenly: every one is equally likely.
        Ok(Self(
            random
                .iter()
                .map(|b| char::from(ALPHABET[usize::from(b % 64)]))
                .collect(),
        ))
    }

    /// Returns the text, for a private file or a connection; never for a log or an argument.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the SHA-256 in hexadecimal, as an ACL line names it after `#`.
    #[must_use]
    pub fn sha256_hex(&self) -> String {
        hexadecimal(&Sha256::digest(self.0.as_bytes()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl TryFrom<String> for Password {
    type Error = PasswordError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<Password> for String {
    fn from(password: Password) -> Self {
        password.0
    }
}

/// The passwords of all internal users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    passwords: BTreeMap<InternalUser, Password>,
}

impl Credentials {
    /// Makes new random passwords for all users.
    ///
    /// # Errors
    ///
    /// As [`Password::generate`].
    pub fn generate() -> Result<Self, PasswordError> {
        let mut passwords = BTreeMap::new();
        for user in InternalUser::ALL {
            passwords.insert(user, Password::generate()?);
        }
        Ok(Self { passwords })
    }

    /// Takes the passwords out of a secret's content, keyed `<user>-password`.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Missing`] names the first user without one; otherwise as
    /// [`Password::new`].
    pub fn from_secret(content: &BTreeMap<String, String>) -> Result<Self, PasswordError> {
        let mut passwords = BTreeMap::new();
        for user in InternalUser::ALL {
            let text = content
                .get(&secret_key(user))
                .ok_or(PasswordError::Missing(user.name()))?;
            passwords.insert(user, Password::new(text.as_str())?);
        }
        Ok(Self { passwords })
    }

    /// Returns the content for a secret, keyed `<user>-password` as the existing charm does.
    #[must_use]
    pub fn to_secret(&self) -> BTreeMap<String, String> {
        self.passwords
            .iter()
            .map(|(user, password)| (secret_key(*user), password.expose().to_owned()))
            .collect()
    }

    /// Returns `user`'s password.
    #[must_use]
    pub fn password(&self, user: InternalUser) -> &Password {
        // Both constructors fill in every user.
        &self.passwords[&user]
    }

    /// Replaces `user`'s password.
    pub fn set_password(&mut self, user: InternalUser, password: Password) {
        self.passwords.insert(user, password);
    }
}

/// Writes bytes in hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn secret_key(user: InternalUser) -> String {
    format!("{}-password", user.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_hashed_and_checked() {
        let password = Password::new("secret").unwrap();
        assert_eq!(format!("{password:?}"), "Password(…)");
        assert_eq!(
            password.sha256_hex(),
            "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
        );
        for bad in [
            "",
            "a b",
            "a\"b",
            "a\nb",
            "a\\b",
            "pässword",
            &"x".repeat(600),
        ] {
            assert!(Password::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_set_survives_the_way_through_a_secret_and_shows_nothing() {
        let made = Credentials::generate().unwrap();
        let content = made.to_secret();
        assert_eq!(content.len(), 6);
        assert!(content.contains_key("charmed-operator-password"));
        assert_eq!(Credentials::from_secret(&content).unwrap(), made);
        let shown = format!("{made:?}");
        assert!(
            content
                .values()
                .all(|password| !shown.contains(password.as_str()))
        );
        let mut fewer = content;
        fewer.remove("charmed-stats-password");
        assert_eq!(
            Credentials::from_secret(&fewer).unwrap_err(),
            PasswordError::Missing("charmed-stats")
        );
    }
}
