//! What goes to standard output and standard error.

use std::io::{self, ErrorKind, Write as _};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;

/// Forms of a command's output that programs and people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Tabular,
    /// JSON in one line.
    Json,
    /// YAML.
    Yaml,
}

/// Forms of a document that has no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Document {
    /// YAML.
    Yaml,
    /// JSON in one line.
    Json,
}

/// Prints text to standard output. A reader that has gone (`| head`) is no error.
///
/// # Errors
///
/// When it cannot be written.
pub fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the output")
        }
        _ => Ok(()),
    }
}

/// Prints a line to standard error; nobody is left to be told when that fails.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints a document.
///
/// # Errors
///
/// When it cannot be written.
pub fn document(value: &impl Serialize, form: Document) -> Result<()> {
    let mut text = match form {
        Document::Json => serde_json::to_string(value).context("cannot write JSON")?,
        Document::Yaml => yaml(value)?,
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    print(&text)
}

/// Returns a document as YAML, with its final line end.
///
/// # Errors
///
/// When it cannot be represented.
pub fn yaml(value: &impl Serialize) -> Result<String> {
    serde_yaml::to_string(value).context("cannot write YAML")
}

/// Returns the form of a document when `format` is one; `None` for the table.
#[must_use]
pub fn as_document(format: Format) -> Option<Document> {
    match format {
        Format::Tabular => None,
        Format::Json => Some(Document::Json),
        Format::Yaml => Some(Document::Yaml),
    }
}
