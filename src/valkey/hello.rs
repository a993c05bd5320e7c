//! The hello by which Sentinels tell each other of themselves and of the primary.

use std::fmt;
use std::str::FromStr;

use crate::limits::MONITOR_NAME;
use crate::valkey::Endpoint;

/// Channel of the hellos.
pub const HELLO_CHANNEL: &str = "__sentinel__:hello";

/// What a Sentinel says in its hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Where the Sentinel that speaks listens.
    pub sentinel: Endpoint,
    /// Its id, 40 hexadecimal digits.
    pub sentinel_id: String,
    /// The highest epoch that it knows.
    pub current_epoch: u64,
    /// The primary that it monitors.
    pub primary: Endpoint,
    /// The epoch in which that primary was elected; the highest wins.
    pub config_epoch: u64,
}

/// A text that is no hello of this application's Sentinels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read a Sentinel's hello: {0}")]
pub struct InvalidHello(&'static str);

/// Whether `id` looks like the id of a Sentinel or server: 40 hexadecimal digits.
#[must_use]
pub fn is_run_id(id: &str) -> bool {
    id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{},{},{},{},{MONITOR_NAME},{},{},{}",
            self.sentinel.host(),
            self.sentinel.port(),
            self.sentinel_id,
            self.current_epoch,
            self.primary.host(),
            self.primary.port(),
            self.config_epoch,
        )
    }
}

impl FromStr for Hello {
    type Err = InvalidHello;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fields: Vec<&str> = text.split(',').take(9).collect();
        let [
            ip,
            port,
            id,
            epoch,
            name,
            primary_ip,
            primary_port,
            config_epoch,
        ] = fields[..]
        else {
            return Err(InvalidHello("it has not eight fields"));
        };
        if name != MONITOR_NAME {
            return Err(InvalidHello("it speaks of another primary's name"));
        }
        if !is_run_id(id) {
            return Err(InvalidHello("the Sentinel's id is none"));
        }
        let number = |text: &str| {
            text.parse()
                .map_err(|_| InvalidHello("an epoch is no number"))
        };
        let endpoint = |host: &str, port: &str| {
            let port = port
                .parse()
                .map_err(|_| InvalidHello("a port is no number"))?;
            Endpoint::new(host, port).map_err(|_| InvalidHello("an address is none"))
        };
        Ok(Self {
            sentinel: endpoint(ip, port)?,
            sentinel_id: id.to_owned(),
            current_epoch: number(epoch)?,
            primary: endpoint(primary_ip, primary_port)?,
            config_epoch: number(config_epoch)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hello_is_read_and_written_alike() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let text = format!("127.0.0.1,26379,{id},7,primary,fd00::1,6379,6");
        let hello: Hello = text.parse().unwrap();
        assert_eq!(hello.to_string(), text);
        assert_eq!((hello.current_epoch, hello.config_epoch), (7, 6));
        for bad in [
            String::new(),
            text.replace("primary", "mymaster"),
            text.replace(id, "abc"),
            text.replace(",6379", ",x"),
            format!("{text},1"),
        ] {
            assert!(bad.parse::<Hello>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-z.,:]{0,200}") {
            let _ = text.parse::<Hello>();
        }
    }
}
