//! Tables as `juju` prints them: columns two blanks apart, colours only where somebody sees them.

use std::cmp::Ordering;
use std::io::IsTerminal as _;

/// Blanks between two columns.
const GAP: usize = 2;

/// How a cell looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// Well: active, idle, started.
    Good,
    /// Not yet: maintenance, allocating.
    Warning,
    /// A person is needed: blocked, error.
    Bad,
    /// An address.
    Address,
    /// Ports.
    Ports,
    /// A message.
    Message,
    /// A header.
    Header,
}

impl Style {
    /// Returns the style of a status word.
    #[must_use]
    pub fn of_status(word: &str) -> Self {
        match word {
            "active" | "running" | "idle" | "started" | "executing" | "attaching" | "attached"
            | "completed" => Self::Good,
            "allocating" | "lost" | "maintenance" | "pending" | "rebooting" | "stopped"
            | "unknown" | "detaching" | "detached" => Self::Warning,
            "blocked" | "down" | "error" | "failed" | "terminated" => Self::Bad,
            _ => Self::Plain,
        }
    }

    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Warning => Some("33"),
            Self::Bad => Some("31"),
            Self::Address => Some("36"),
            Self::Ports => Some("95"),
            Self::Message => Some("90"),
            Self::Header => Some("1"),
        }
    }
}

/// One field of a table.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    style: Style,
}

/// Makes a plain cell.
pub fn plain(text: impl Into<String>) -> Cell {
    styled(text, Style::Plain)
}

/// Makes a cell with a style.
pub fn styled(text: impl Into<String>, style: Style) -> Cell {
    // A line end in a charm's message must not tear the table.
    Cell {
        text: text.into().replace(['\n', '\r', '\t', '\u{1b}'], " "),
        style,
    }
}

/// Makes a cell with a status word in its colour.
pub fn status(word: &str) -> Cell {
    styled(word, Style::of_status(word))
}

/// A table with a header.
#[derive(Debug)]
pub struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Makes a table; a header that begins with `>` is of a column that is aligned to the right.
    #[must_use]
    pub fn new(headers: &[&str]) -> Self {
        let right = headers
            .iter()
            .map(|header| header.starts_with('>'))
            .collect();
        let header = headers
            .iter()
            .map(|header| styled(header.trim_start_matches('>'), Style::Header))
            .collect();
        Self {
            right,
            rows: vec![header],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Tells whether there are no rows but the header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// Returns the table as text, every line ended.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let width_of = |column: usize| {
            let widths = self
                .rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.text.chars().count());
            widths.max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width_of).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            // Blanks are only written in front of something, so that no line ends in them.
            let mut blanks = 0;
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let fill = width.saturating_sub(cell.text.chars().count());
                if *right {
                    blanks += fill;
                }
                if !cell.text.is_empty() {
                    line.extend(std::iter::repeat_n(' ', blanks));
                    blanks = 0;
                    match cell.style.code().filter(|_| colour) {
                        Some(code) => {
                            line.extend(["\u{1b}[", code, "m", cell.text.as_str(), "\u{1b}[0m"]);
                        }
                        None => line.push_str(&cell.text),
                    }
                }
                blanks += GAP + if *right { 0 } else { fill };
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// Decides about colours: asked for, refused, or only on a terminal that can show them.
#[must_use]
pub fn colours(forced: bool, refused: bool) -> bool {
    let set = |variable: &str| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    forced
        || (!refused
            && !set("NO_COLOR")
            && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
            && std::io::stdout().is_terminal())
}

/// Compares names so that numbers in them count as numbers: `app/2` before `app/10`.
#[must_use]
pub fn natural(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left, right);
    loop {
        let (left_part, left_rest) = part(left);
        let (right_part, right_rest) = part(right);
        let both_numbers = left_part.starts_with(|c: char| c.is_ascii_digit())
            && right_part.starts_with(|c: char| c.is_ascii_digit());
        let order = if both_numbers {
            let digits = |part: &str| part.trim_start_matches('0').len();
            digits(left_part).cmp(&digits(right_part)).then_with(|| {
                left_part
                    .trim_start_matches('0')
                    .cmp(right_part.trim_start_matches('0'))
            })
        } else {
            left_part.cmp(right_part)
        };
        if order != Ordering::Equal || left_part.is_empty() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
}

/// Splits off the first run of digits or of other characters.
fn part(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text
        .find(|c: char| c.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Cuts a text to `most` characters, the last three being `...`.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(3)).collect();
    format!("{kept}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let mut table = Table::new(&["App", ">Scale", "Message"]);
        table.row(vec![plain("router"), plain("3"), plain("")]);
        table.row(vec![plain("a"), plain("10"), plain("x\ny")]);
        assert_eq!(
            table.render(false),
            "App     Scale  Message\nrouter      3\na          10  x y\n"
        );
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut table = Table::new(&["A", "B"]);
        table.row(vec![status("active"), status("waiting")]);
        let expected =
            "\u{1b}[1mA\u{1b}[0m       \u{1b}[1mB\u{1b}[0m\n\u{1b}[32mactive\u{1b}[0m  waiting\n";
        assert_eq!(table.render(true), expected);
    }

    #[test]
    fn names_sort_as_people_count() {
        let mut names = ["a/10", "a/2", "b/1", "a/02", "a", "a-b/1", "a/1"];
        names.sort_by(|left, right| natural(left, right));
        assert_eq!(names, ["a", "a-b/1", "a/1", "a/2", "a/02", "a/10", "b/1"]);
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(
            (cut("abcdef", 6), cut("abcdefg", 6)),
            ("abcdef".to_owned(), "abc...".to_owned())
        );
    }
}
