//! Holds `docs/guarantees.md` against the sources: every scenario stands there once, every test that it names exists.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The scenarios. A number is never given again.
const SCENARIOS: [u8; 56] = [
    1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29,
    31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 44, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56,
    58, 59, 60, 62, 63, 64,
];

/// What is asked in every scenario.
const ORACLES: u8 = 7;

/// Invariants of the design.
const INVARIANTS: u8 = 8;

/// Shortest text that says something.
const SENTENCE: usize = 20;

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// One row: its cells without the number.
struct Row {
    number: String,
    cells: Vec<String>,
}

impl Row {
    /// Returns the tests that the last cell names, as file and function.
    fn tests(&self) -> Vec<(String, String)> {
        let cell = self.cells.last().map_or("", String::as_str);
        let mut tests = Vec::new();
        for word in cell.split_whitespace() {
            let name = word
                .strip_prefix('`')
                .and_then(|word| word.strip_suffix('`'))
                .unwrap_or_else(|| panic!("{}: {word} is no test in backquotes", self.number));
            let (file, function) = name
                .split_once("::")
                .unwrap_or_else(|| panic!("{}: {name} is not FILE::TEST", self.number));
            tests.push((file.to_owned(), function.to_owned()));
        }
        tests
    }

    fn says_why_not(&self) -> bool {
        self.cells.iter().any(|cell| {
            cell.split_once("not offered: ")
                .is_some_and(|(_, why)| why.contains("because ") && why.len() > SENTENCE)
        })
    }
}

/// Returns the rows of the index whose number begins with `letter`.
fn rows(letter: char) -> Vec<Row> {
    let page = read("docs/guarantees.md");
    let row = |line: &str| {
        let cells: Vec<String> = line
            .strip_prefix("| ")?
            .strip_suffix(" |")?
            .split(" | ")
            .map(str::to_owned)
            .collect();
        let (number, cells) = cells.split_first()?;
        let digits = number.strip_prefix(letter)?;
        let numbered = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
        numbered.then(|| Row {
            number: number.clone(),
            cells: cells.to_vec(),
        })
    };
    page.lines().filter_map(row).collect()
}

/// Returns the names of the tests in a source file: functions under `#[test]` or `#[tokio::test]`, also inside of
/// `proptest!`.
fn tests_in(source: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some(rest) = line
            .strip_prefix("fn ")
            .or_else(|| line.strip_prefix("async fn "))
        {
            if marked {
                found.extend(rest.split(['(', '<']).next());
            }
            marked = false;
        } else if !(line.starts_with("#[") || line.starts_with("//") || line.is_empty()) {
            marked = false;
        }
    }
    found
}

#[test]
fn every_scenario_stands_in_the_index_once() {
    let wanted = |letter: char, numbers: &[u8]| {
        let known: Vec<String> = rows(letter).into_iter().map(|row| row.number).collect();
        let expected: Vec<String> = numbers
            .iter()
            .map(|number| {
                if letter == 'S' {
                    format!("{letter}{number:02}")
                } else {
                    format!("{letter}{number}")
                }
            })
            .collect();
        let unique: BTreeSet<&String> = known.iter().collect();
        assert_eq!(
            unique.len(),
            known.len(),
            "a number stands there twice: {known:?}"
        );
        assert_eq!(unique, expected.iter().collect(), "rows {letter}");
    };
    wanted('S', &SCENARIOS);
    wanted('O', &(1..=ORACLES).collect::<Vec<_>>());
    wanted('I', &(1..=INVARIANTS).collect::<Vec<_>>());
}

#[test]
fn every_row_says_something_and_every_test_exists() {
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (letter, cells) in [('S', 4), ('O', 3), ('I', 3)] {
        for row in rows(letter) {
            let number = &row.number;
            assert_eq!(
                row.cells.len(),
                cells,
                "{number} has another number of cells"
            );
            for text in &row.cells[..cells - 1] {
                let short = ["nothing", "the same"].contains(&text.as_str());
                if !short && !text.starts_with("as ") && text.len() < SENTENCE {
                    wrong.push(format!("{number} says too little: {text:?}"));
                }
            }
            let named = row.tests();
            if named.is_empty() && !row.says_why_not() {
                wrong.push(format!("{number} names no test and not why"));
            }
            let unique: BTreeSet<_> = named.iter().collect();
            if unique.len() < named.len() {
                wrong.push(format!("{number} names a test twice"));
            }
            for (file, test) in named {
                let source = sources.entry(file.clone()).or_insert_with(|| read(&file));
                if !tests_in(source).contains(test.as_str()) {
                    wrong.push(format!("{number}: there is no test {test} in {file}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A row that leans on something that is not offered says why.
#[test]
fn what_is_not_offered_has_its_reason() {
    for row in rows('S') {
        let mentioned = row.cells.iter().any(|cell| cell.contains("not offered"));
        assert!(
            !mentioned || row.says_why_not(),
            "{} does not say why",
            row.number
        );
    }
}

/// A scripted scenario carries its number in its name, and its row names it.
#[test]
fn every_scripted_scenario_is_in_its_row() {
    let scripted = read("tests/simulation/scenarios.rs");
    let rows: BTreeMap<String, Row> = rows('S')
        .into_iter()
        .map(|row| (row.number.clone(), row))
        .collect();
    let mut count = 0;
    for test in tests_in(&scripted) {
        let Some((number, _)) = test
            .split_once('_')
            .filter(|(number, _)| number.starts_with('s'))
        else {
            continue;
        };
        let row = rows
            .get(&number.to_uppercase())
            .unwrap_or_else(|| panic!("{test} is of no scenario"));
        let named = row
            .tests()
            .iter()
            .any(|(file, name)| file == "tests/simulation/scenarios.rs" && name == test);
        assert!(named, "row {} does not name {test}", row.number);
        count += 1;
    }
    assert!(count >= 20, "only {count} scripted scenarios");
}

#[test]
fn tests_are_found_in_sources_and_nothing_else() {
    let source = "
#[test]
fn one() {}
    #[tokio::test(flavor = \"x\")]
    /// Says something.
    #[allow(x)]
    async fn two() {}
fn helper() {}
proptest! {
    #[test]
    fn three(a in 0..1) {}
}
#[test]
const X: u8 = 1;
fn four() {}
";
    assert_eq!(tests_in(source), BTreeSet::from(["one", "two", "three"]));
}
