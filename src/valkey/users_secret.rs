//! The content of the secret of the internal users: the passwords in use, and others that are accepted.

use std::collections::BTreeMap;

use crate::valkey::{Credentials, InternalUser, Password, credentials::PasswordError};

/// Key of the number that rises with every change.
const NUMBER: &str = "users-number";

/// Ends the keys of passwords that are accepted beside those in use.
const OTHER: &str = "other";

/// What the secret holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersSecret {
    /// The passwords in use.
    pub current: Credentials,
    /// Passwords that are accepted, too, while they are changed.
    pub other: Option<Credentials>,
    /// Rises with every change; 0 for the passwords that were made first.
    pub number: u64,
}

impl UsersSecret {
    /// Reads a secret's content; what this version does not know is passed over.
    ///
    /// # Errors
    ///
    /// As [`Credentials::from_secret`].
    pub fn from_content(content: &BTreeMap<String, String>) -> Result<Self, PasswordError> {
        let current = Credentials::from_secret(content)?;
        let mut other: Option<Credentials> = None;
        for user in InternalUser::ALL {
            if let Some(text) = content.get(&format!("{}-{OTHER}", user.name())) {
                other
                    .get_or_insert_with(|| current.clone())
                    .set_password(user, Password::new(text.as_str())?);
            }
        }
        let number = content.get(NUMBER).and_then(|text| text.parse().ok());
        Ok(Self {
            current,
            other,
            number: number.unwrap_or(0),
        })
    }

    /// Returns the content for a secret.
    #[must_use]
    pub fn to_content(&self) -> BTreeMap<String, String> {
        let mut content = self.current.to_secret();
        if let Some(other) = &self.other {
            for user in InternalUser::ALL {
                let (old, new) = (self.current.password(user), other.password(user));
                if old != new {
                    content.insert(format!("{}-{OTHER}", user.name()), new.expose().to_owned());
                }
            }
        }
        if self.number > 0 {
            content.insert(NUMBER.to_owned(), self.number.to_string());
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let current = Credentials::generate().unwrap();
        let mut other = current.clone();
        let first = UsersSecret {
            current: current.clone(),
            other: None,
            number: 0,
        };
        assert_eq!(first.to_content(), current.to_secret());
        assert_eq!(UsersSecret::from_content(&first.to_content()), Ok(first));
        other.set_password(
            InternalUser::CharmedStats,
            Password::new("chosen-by-a-person").unwrap(),
        );
        let both = UsersSecret {
            current,
            other: Some(other),
            number: 7,
        };
        let content = both.to_content();
        assert_eq!(content.len(), InternalUser::ALL.len() + 2);
        assert_eq!(UsersSecret::from_content(&content), Ok(both));
        assert!(UsersSecret::from_content(&BTreeMap::new()).is_err());
    }
}
