//! Options of a person, and the files that are written with them: what comes in never ends a line or a word early.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use valkey_operator::valkey::configuration::{
    InvalidSetting, LogLevel, Options, SentinelSettings, ServerSettings, StartFrom, sentinel_users,
    server_users,
};
use valkey_operator::valkey::{Credentials, Endpoint, InternalUser, Password, Version};

use super::mutate::{assert_clear, config, hostile, hostile_text};
use super::valkey_cluster::Cluster;

/// Options as people set them, with words that would do harm in a file.
const OPTIONS: &[(&str, &[&str])] = &[
    (
        "maxmemory",
        &[
            "75%",
            "512mb",
            "0",
            "4 gb",
            "1gb\nrequirepass x",
            "99999999999tb",
        ],
    ),
    (
        "maxmemory-policy",
        &[
            "allkeys-lru",
            "noeviction",
            "noeviction\nsave",
            "\"noeviction\"",
        ],
    ),
    ("persistence", &["aof", "rdb", "none", "aof # x"]),
    ("repl-backlog-size", &["256mb", "1048576", "1mb\r\nport 1"]),
    ("log-level", &["notice", "debug", "warning\\"]),
    ("failure-detection-seconds", &["5", "300", "4"]),
    ("maxclients", &["10000", "10"]),
    ("io-threads", &["1", "128"]),
    ("databases", &["16", "10000"]),
];

/// Options with some values as they should be, some spoilt, some of another type.
fn options() -> impl Strategy<Value = Map<String, Value>> {
    let one = |(name, values): &(&'static str, &'static [&'static str])| {
        let (name, values) = (*name, *values);
        let typed = |text: String| text.parse::<u64>().map_or(Value::String(text), Value::from);
        prop_oneof![
            5 => proptest::sample::select(values).prop_map(move |text| Some(typed(text.to_owned()))),
            2 => Just(None),
            1 => hostile_text(values).prop_map(|text| Some(json!(text))),
            1 => any::<i64>().prop_map(|number| Some(json!(number))),
            1 => proptest::sample::select(vec![json!(null), json!([]), json!({}), json!(1.5), json!(true)]).prop_map(Some),
        ]
        .prop_map(move |value| Some((name.to_owned(), value?)))
    };
    let each: Vec<_> = OPTIONS.iter().map(one).collect();
    each.prop_map(|pairs| pairs.into_iter().flatten().collect())
}

/// Splits a line as Valkey does when it reads a configuration file: words, and quotes around a word.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut letters = line.trim().chars().peekable();
    while let Some(first) = letters.peek().copied() {
        if first.is_ascii_whitespace() {
            letters.next();
            continue;
        }
        let mut word = String::new();
        if first == '"' {
            letters.next();
            loop {
                match letters.next()? {
                    // An escape: the renderer never writes one.
                    '\\' => return None,
                    '"' => break,
                    letter => word.push(letter),
                }
            }
            if letters
                .peek()
                .is_some_and(|next| !next.is_ascii_whitespace())
            {
                return None;
            }
        } else {
            while let Some(letter) = letters.next_if(|next| !next.is_ascii_whitespace()) {
                if matches!(letter, '"' | '\'' | '\\') {
                    return None;
                }
                word.push(letter);
            }
        }
        words.push(word);
    }
    Some(words)
}

/// Reads a file that was rendered; every line must be one directive.
fn directives(text: &str) -> Vec<Vec<String>> {
    assert!(
        text.ends_with('\n') && !text.contains(['\r', '\0']),
        "{text:?}"
    );
    text.lines()
        .map(|line| words(line).unwrap_or_else(|| panic!("{line:?}")))
        .collect()
}

fn names(directives: &[Vec<String>]) -> Vec<&str> {
    directives.iter().map(|words| words[0].as_str()).collect()
}

fn value<'a>(directives: &'a [Vec<String>], name: &str) -> &'a [String] {
    let mut found = directives.iter().filter(|words| words[0] == name);
    let words = found.next().unwrap_or_else(|| panic!("no {name}"));
    assert!(found.next().is_none(), "{name} stands there twice");
    &words[1..]
}

fn server_settings(
    options: Options,
    host: &str,
    dir: PathBuf,
    password: &str,
) -> Option<ServerSettings> {
    Some(ServerSettings {
        version: Version::new(8, 0, 1),
        endpoint: Endpoint::new(host, 6379).ok()?,
        data_dir: dir,
        users_file: "/var/lib/valkey/users.acl".into(),
        replication_password: Password::new(password).ok()?,
        replicaof: Endpoint::new(host, 6379).ok(),
        min_replicas_to_write: 1,
        start_from: StartFrom::Persistence,
        memory_total_bytes: Some(8 << 30),
        options,
    })
}

fn sentinel_settings(host: &str, dir: PathBuf, password: &str) -> Option<SentinelSettings> {
    let mut credentials = Credentials::generate().unwrap();
    for user in InternalUser::ALL {
        credentials.set_password(user, Password::new(password).ok()?);
    }
    Some(SentinelSettings {
        endpoint: Endpoint::new(host, 26379).ok()?,
        data_dir: dir,
        users_file: "/var/lib/valkey/sentinel.acl".into(),
        primary: Endpoint::new(host, 6379).ok()?,
        quorum: 2,
        detection: Duration::from_secs(5),
        credentials,
        log_level: LogLevel::Notice,
    })
}

fn refused(error: &InvalidSetting) {
    // A path may hold what it likes: only that it is named counts.
    assert!(
        error.to_string().starts_with("cannot write setting dir"),
        "{error}"
    );
}

const HOSTS: &[&str] = &[
    "10.1.2.3",
    "fd00::1",
    "valkey-0.valkey-endpoints.m.svc",
    "10.0.0.1\nport 1",
    "a b",
    "-x",
];
const DIRS: &[&str] = &[
    "/var/lib/valkey/data",
    "/srv/with space",
    "/srv/\"x\nport 1",
    "relative",
    "/a\\",
];
const PASSWORDS: &[&str] = &[
    "abcDEF0123-_",
    "#hash",
    "$x",
    "a b",
    "a\"b",
    "%s%n",
    "{}",
    ">pw",
    "<pw",
];

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn any_options_are_taken_or_refused_by_name(given in options()) {
        match Options::from_config(&given) {
            Ok(options) => {
                prop_assert!((10..=1_000_000).contains(&options.max_clients));
                prop_assert!((1..=128).contains(&options.io_threads));
                prop_assert!((1..=10_000).contains(&options.databases));
                prop_assert!((4..=300).contains(&options.detection.as_secs()));
                let bytes = options.max_memory.bytes(Some(u64::MAX));
                prop_assert!(options.backlog_bytes.is_none_or(|n| i64::try_from(n).is_ok()) && bytes < u64::MAX);
            }
            Err(error) => {
                assert_clear(&error.to_string());
                prop_assert!(given.contains_key(error.name));
                prop_assert!(error.to_string().len() < 500);
            }
        }
    }

    #[test]
    fn whatever_goes_into_the_servers_file_stays_in_its_word(
        given in options(),
        host in hostile_text(HOSTS),
        dir in hostile(DIRS.iter().map(|dir| (*dir).into()).collect()),
        password in hostile_text(PASSWORDS),
    ) {
        let plain = server_settings(Options::default(), "10.0.0.1", "/d".into(), "p").unwrap();
        let expected = directives(&plain.render().unwrap());
        let dir = PathBuf::from(OsStr::from_bytes(&dir));
        let options = Options::from_config(&given).unwrap_or_default();
        if let Some(settings) = server_settings(options, &host, dir.clone(), &password) {
            match settings.render() {
                Ok(text) => {
                    let mut found = directives(&text);
                    prop_assert_eq!(value(&found, "dir"), [dir.to_str().unwrap()]);
                    prop_assert_eq!(value(&found, "primaryauth"), [password.as_str()]);
                    prop_assert_eq!(value(&found, "bind"), [host.as_str()]);
                    prop_assert_eq!(value(&found, "replicaof"), [host.as_str(), "6379"]);
                    // A name is not bound to: that line, and no other, depends on the input.
                    let mut expected = names(&expected);
                    if settings.endpoint.address().is_none() {
                        expected.retain(|name| *name != "bind-source-addr");
                    }
                    prop_assert_eq!(names(&found), expected);
                    // Run-time settings: the same text as `CONFIG GET` prints, one word or one quoted text.
                    for (name, wanted) in settings.run_time() {
                        prop_assert!(wanted.chars().all(|c| c.is_ascii_alphanumeric() || " -".contains(c)), "{}={}", name, wanted);
                    }
                    found.clear();
                }
                Err(error) => refused(&error),
            }
        }
    }

    #[test]
    fn whatever_goes_into_sentinels_file_stays_in_its_word(
        host in hostile_text(HOSTS),
        dir in hostile(DIRS.iter().map(|dir| (*dir).into()).collect()),
        password in hostile_text(PASSWORDS),
    ) {
        let plain = sentinel_settings("10.0.0.1", "/d".into(), "p").unwrap().render().unwrap();
        let dir = PathBuf::from(OsStr::from_bytes(&dir));
        if let Some(settings) = sentinel_settings(&host, dir, &password) {
            match settings.render() {
                Ok(text) => {
                    let found = directives(&text);
                    let monitors: Vec<_> = found.iter().filter(|words| words.get(1).is_some_and(|word| word == "monitor")).collect();
                    prop_assert_eq!(monitors.len(), 1);
                    prop_assert_eq!(&monitors[0][2..], ["primary", host.as_str(), "6379", "2"]);
                    let passwords = found.iter().filter(|words| words.last() == Some(&password) && words[0] == "sentinel");
                    prop_assert!(passwords.count() >= 2);
                    // A name needs two lines more and one less.
                    let named = usize::from(settings.endpoint.address().is_none());
                    prop_assert_eq!(found.len(), directives(&plain).len() + named);
                }
                Err(error) => refused(&error),
            }
        }
        if let Some(settings) = sentinel_settings("10.0.0.1", "/d".into(), &password) {
            // Files of users hold digests only, one user a line.
            for text in [server_users(&settings.credentials, None), sentinel_users(&settings.credentials, None)] {
                prop_assert!(directives(&text).iter().all(|words| words[0] == "user" && words.len() > 3));
                prop_assert!(password.len() < 12 || !text.contains(&password));
            }
        }
    }
}

/// The last word on a file has the program that reads it: every setting is what was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_reads_back_what_was_written() {
    let mut cluster = Cluster::empty();
    let all = [
        json!({}),
        json!({"maxmemory": "1gb", "maxmemory-policy": "allkeys-lfu", "persistence": "rdb", "databases": 10_000}),
        json!({"persistence": "none", "maxclients": 10, "repl-backlog-size": "1mb", "log-level": "debug"}),
        json!({"maxmemory": "16mb", "failure-detection-seconds": 300, "io-threads": 4, "log-level": "warning"}),
        json!({"maxmemory": "1.5gb"}),
    ];
    for (index, given) in all.iter().enumerate() {
        let Ok(options) = Options::from_config(given.as_object().unwrap()) else {
            assert_eq!(index, all.len() - 1, "{given} was refused");
            continue;
        };
        cluster.add_node();
        cluster.options = options;
        // A password of every character that is allowed.
        let odd: String = ('!'..='~').filter(|c| !"\"'\\".contains(*c)).collect();
        let odd = Password::new(odd).unwrap();
        cluster
            .credentials
            .set_password(InternalUser::CharmedReplication, odd.clone());
        cluster.start_server(index, None);
        cluster.serving(index).await;
        let client = cluster.server(index).await;
        let settings = cluster.settings(index, None);
        let mut wanted = settings.run_time();
        wanted.push(("databases", cluster.options.databases.to_string()));
        wanted.push(("primaryauth", odd.expose().to_owned()));
        wanted.push(("dir", settings.data_dir.display().to_string()));
        wanted.push(("bind", settings.endpoint.host().to_owned()));
        let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
        let read = client.config_get(&names).await.unwrap();
        for (name, value) in wanted {
            assert_eq!(read.get(name), Some(&value), "{name} of {given}");
        }
    }
}
