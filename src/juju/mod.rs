//! Juju's side of the contract: hook tools one to one, events, databags, secrets.
