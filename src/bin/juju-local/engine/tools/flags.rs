//! Command-line flags as the hook tools take them (Go's gnuflag).

use std::collections::BTreeMap;

use super::{Fault, usage};

/// Text of the fault that asks for the usage.
pub const HELP: &str = "help requested";

/// Flags and the other arguments.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Flags {
    values: BTreeMap<&'static str, String>,
    /// Arguments that are no flags.
    pub rest: Vec<String>,
}

impl Flags {
    /// Returns the value of a flag.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Tells whether a boolean flag is set.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.value(name) == Some("true")
    }

    /// Returns the argument at a place.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&str> {
        self.rest.get(place).map(String::as_str)
    }
}

/// Parses arguments. Each name may have short forms behind it: `relation r`.
///
/// # Errors
///
/// [`Fault::Usage`] with gnuflag's text.
pub fn parse(
    arguments: &[String],
    booleans: &[&'static str],
    valued: &[&'static str],
) -> Result<Flags, Fault> {
    let find = |name: &str| {
        let of = |list: &[&'static str]| {
            list.iter()
                .find(|names| names.split(' ').any(|other| other == name))
                .map(|names| names.split(' ').next().unwrap_or(names))
        };
        of(booleans)
            .map(|name| (name, true))
            .or_else(|| of(valued).map(|name| (name, false)))
    };
    let mut flags = Flags::default();
    let mut queue = arguments.iter();
    while let Some(argument) = queue.next() {
        if argument == "--" {
            flags.rest.extend(queue.cloned());
            break;
        }
        if argument == "-" || !argument.starts_with('-') {
            flags.rest.push(argument.clone());
            continue;
        }
        let (shown, name, given) = if let Some(long) = argument.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            (format!("--{name}"), name.to_owned(), value)
        } else {
            let mut letters = argument.chars().skip(1);
            let name: String = letters.by_ref().take(1).collect();
            let value: String = letters.collect();
            (
                format!("-{name}"),
                name,
                (!value.is_empty()).then_some(value),
            )
        };
        if name == "help" || name == "h" {
            return usage(HELP);
        }
        let Some((name, boolean)) = find(&name) else {
            return usage(format!("flag provided but not defined: {shown}"));
        };
        let value = match (given, boolean) {
            (Some(value), false) => value,
            (Some(value), true) => match value.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => "true".to_owned(),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => "false".to_owned(),
                _ => {
                    return usage(format!(
                        "invalid value {value:?} for flag {shown}: not a boolean"
                    ));
                }
            },
            (None, true) => "true".to_owned(),
            (None, false) => match queue.next() {
                Some(value) => value.clone(),
                None => return usage(format!("flag needs an argument: {shown}")),
            },
        };
        flags.values.insert(name, value);
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_gnuflag_reads_them() {
        for (line, expected) in [
            ("--format=json - app/1", "format=json rest=-,app/1"),
            (
                "--format json -r peers:0",
                "format=json relation=peers:0 rest=",
            ),
            ("-r7 x", "relation=7 rest=x"),
            ("x --app", "app=true rest=x"),
            ("--app=false", "app=false rest="),
            ("-- --app", "rest=--app"),
            ("--no", "flag provided but not defined: --no"),
            ("-x", "flag provided but not defined: -x"),
            ("a --format", "flag needs an argument: --format"),
        ] {
            let arguments: Vec<_> = line.split(' ').map(ToOwned::to_owned).collect();
            let shown = match parse(&arguments, &["app"], &["format", "relation r"]) {
                Ok(flags) => {
                    let mut words: Vec<_> = flags
                        .values
                        .iter()
                        .map(|(name, value)| format!("{name}={value}"))
                        .collect();
                    words.push(format!("rest={}", flags.rest.join(",")));
                    words.join(" ")
                }
                Err(Fault::Usage(text)) => text,
                Err(other) => format!("{other:?}"),
            };
            assert_eq!(shown, expected, "{line}");
        }
    }
}
