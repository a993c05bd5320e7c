//! Inputs that are almost right: real ones, cut, repeated, swapped, swollen and spoilt.

#![allow(dead_code, reason = "each test program uses its part")]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, FileFailurePersistence};

/// Most bytes that one mutation adds; enough to show what grows without bound.
const SWELL_BYTES: usize = 70_000;

/// Numbers at which readers stumble.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-1",
    "+1",
    "00000000000000000001",
    "65535",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "1e400",
    "1e-400",
    "0x10",
    "1_000",
    "1.5",
    ".5",
    "NaN",
    "inf",
    "٣",
];

/// Bytes at which readers stumble: quotes, ends of lines, separators, no UTF-8.
const SPOILERS: &[&[u8]] = &[
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\"",
    b"'",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    "\u{feff}".as_bytes(),
    "\u{202e}".as_bytes(),
    "\u{2028}".as_bytes(),
    b" ",
    b"\t",
    b",",
    b":",
    b"=",
    b"/",
    b"..",
    b"-",
    b"%",
    b"#",
    b"*",
    b"$",
    b"&a *a",
    b"!!binary ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"true",
    b"\x1b[31m",
];

/// What opens a level of JSON, YAML or a reply.
const OPENINGS: &[&[u8]] = &[b"[", b"{\"a\":", b"{a: ", b"*1\r\n", b"- "];

/// One change of an input.
#[derive(Debug, Clone)]
pub enum Mutation {
    /// It ends early.
    Cut(Index),
    /// A part is missing.
    Drop(Index, usize),
    /// A part comes again, many times perhaps.
    Repeat(Index, usize, usize),
    /// Two lines change places.
    Swap(Index, Index),
    /// A line comes twice.
    Twice(Index),
    /// A number becomes another one.
    Number(Index, &'static str),
    /// Something stands where it must not.
    Insert(Index, &'static [u8]),
    /// One byte is another one.
    Byte(Index, u8),
    /// A part becomes very long.
    Swell(Index, u8),
    /// It is nested deeply from here on.
    Nest(Index, &'static [u8], usize),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
        match self {
            Self::Cut(at) => bytes.truncate(place(at, bytes)),
            Self::Drop(at, length) => {
                let from = place(at, bytes);
                let to = (from + length).min(bytes.len());
                bytes.drain(from..to);
            }
            Self::Repeat(at, length, times) => {
                let from = place(at, bytes);
                let to = (from + length).min(bytes.len());
                let part = bytes[from..to].repeat(*times);
                bytes.splice(to..to, part.into_iter().take(SWELL_BYTES));
            }
            Self::Swap(one, other) => {
                let mut lines: Vec<Vec<u8>> =
                    bytes.split(|b| *b == b'\n').map(Into::into).collect();
                let (one, other) = (one.index(lines.len()), other.index(lines.len()));
                lines.swap(one, other);
                *bytes = lines.join(&b'\n');
            }
            Self::Twice(at) => {
                let mut lines: Vec<Vec<u8>> =
                    bytes.split(|b| *b == b'\n').map(Into::into).collect();
                let at = at.index(lines.len());
                lines.insert(at, lines[at].clone());
                *bytes = lines.join(&b'\n');
            }
            Self::Number(at, number) => {
                let runs = digits(bytes);
                if !runs.is_empty() {
                    let (from, to) = runs[at.index(runs.len())];
                    bytes.splice(from..to, number.bytes());
                }
            }
            Self::Insert(at, what) => {
                let at = place(at, bytes);
                bytes.splice(at..at, what.iter().copied());
            }
            Self::Byte(at, byte) => {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            Self::Swell(at, byte) => {
                let at = place(at, bytes);
                bytes.splice(at..at, std::iter::repeat_n(*byte, SWELL_BYTES));
            }
            Self::Nest(at, open, depth) => {
                let at = place(at, bytes);
                bytes.splice(at..at, open.repeat(*depth));
            }
        }
    }
}

/// Finds the runs of digits.
fn digits(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, _) in bytes.iter().enumerate().filter(|(_, b)| b.is_ascii_digit()) {
        match runs.last_mut() {
            Some((_, to)) if *to == at => *to = at + 1,
            _ => runs.push((at, at + 1)),
        }
    }
    runs
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        at().prop_map(Mutation::Cut),
        (at(), 1_usize..200).prop_map(|(at, length)| Mutation::Drop(at, length)),
        (at(), 1_usize..60, 1_usize..3000)
            .prop_map(|(at, length, times)| Mutation::Repeat(at, length, times)),
        (at(), at()).prop_map(|(one, other)| Mutation::Swap(one, other)),
        at().prop_map(Mutation::Twice),
        (at(), select(NUMBERS)).prop_map(|(at, number)| Mutation::Number(at, number)),
        (at(), select(SPOILERS)).prop_map(|(at, what)| Mutation::Insert(at, what)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        (at(), select(&b"a0 ,:\n["[..])).prop_map(|(at, byte)| Mutation::Swell(at, byte)),
        (at(), select(OPENINGS), 1_usize..2000)
            .prop_map(|(at, open, depth)| Mutation::Nest(at, open, depth)),
    ]
}

/// Spoils one of `originals`, or leaves it as it is.
pub fn mutated(originals: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (select(originals), vec(mutation(), 0..5)).prop_map(|(mut bytes, mutations)| {
        for mutation in &mutations {
            mutation.apply(&mut bytes);
        }
        bytes
    })
}

/// As [`mutated`], as text; what is no UTF-8 is replaced, as the readers' callers do.
pub fn mutated_text(originals: &[&str]) -> impl Strategy<Value = String> + use<> {
    let originals = originals
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    mutated(originals).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Any bytes, or a spoilt original.
pub fn hostile(originals: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![1 => vec(any::<u8>(), 0..300), 9 => mutated(originals)]
}

/// Any text, or a spoilt original.
pub fn hostile_text(originals: &[&str]) -> impl Strategy<Value = String> + use<> {
    prop_oneof![1 => any::<String>(), 9 => mutated_text(originals)]
}

/// How many inputs a property tries: `PROPTEST_CASES` if that is set. A failing one's seed is kept beside
/// the source in a file `*.seeds`, and tried first from then on.
pub fn config(cases: u32) -> Config {
    let wished = std::env::var("PROPTEST_CASES").ok();
    Config {
        cases: wished.and_then(|text| text.parse().ok()).unwrap_or(cases),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        max_shrink_iters: 4000,
        ..Config::default()
    }
}

/// Checks that a refusal says what could not be done, in one line of a length that a status can show.
pub fn assert_clear(text: &str) {
    assert!(
        text.starts_with("cannot "),
        "the error does not say what cannot be done: {text:?}"
    );
    assert!(
        !text.contains(['\n', '\0']),
        "the error breaks its line: {text:?}"
    );
    assert!(
        text.chars().count() < 1500,
        "the error repeats too much: {} characters",
        text.len()
    );
}
