//! Tables for people: columns as wide as their widest cell.

/// A table with a heading; every row has as many cells as the heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Begins a table.
    #[must_use]
    pub fn new<const COLUMNS: usize>(heading: [&str; COLUMNS]) -> Self {
        Self {
            rows: vec![heading.map(str::to_owned).to_vec()],
        }
    }

    /// Adds a row; an empty cell shows as a dash.
    pub fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        let cells = cells.map(|cell| one_line(&cell));
        self.rows.push(cells.to_vec());
    }

    /// Returns whether there is nothing below the heading.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// Writes the table, one line a row, without spaces at the ends of lines.
    #[must_use]
    pub fn render(&self) -> String {
        align(&self.rows)
    }
}

/// Writes names and their values below each other, the values in one column.
#[must_use]
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let rows: Vec<Vec<String>> = pairs
        .iter()
        .map(|(name, value)| vec![(*name).to_owned(), one_line(value)])
        .collect();
    align(&rows)
}

/// Writes a title and a list below it; nothing for an empty list.
#[must_use]
pub fn list(title: &str, items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: Vec<String> = items
        .iter()
        .map(|item| format!("- {}\n", one_line(item)))
        .collect();
    format!("\n{title}\n{}", items.concat())
}

/// What others wrote may hold line breaks, which would break the table.
fn one_line(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    if line.is_empty() {
        "-".to_owned()
    } else {
        line
    }
}

fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let padding = width.saturating_sub(cell.chars().count()) + 2;
            line.extend(std::iter::repeat_n(' ', padding));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(["Unit", "Role"]);
        assert!(table.is_empty());
        table.row(["valkey/10".to_owned(), String::new()]);
        table.row(["é\n".to_owned(), "replica".to_owned()]);
        assert_eq!(
            table.render(),
            "Unit       Role\nvalkey/10  -\né          replica\n"
        );
        assert_eq!(
            pairs(&[("a", "1".to_owned()), ("long", "2".to_owned())]),
            "a     1\nlong  2\n"
        );
        assert_eq!(list("Why:", &["x".to_owned()]), "\nWhy:\n- x\n");
        assert_eq!(list("Why:", &[]), "");
    }
}
