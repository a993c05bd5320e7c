//! Why a hook tool gave no answer.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use crate::limits::{HOOK_TOOL_ARGUMENT_BYTES_MAX, HOOK_TOOL_OUTPUT_BYTES_MAX};

/// Why a hook tool gave no answer. Its arguments and output stay out of the texts: they can hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not there or cannot be run; outside of a hook there are no hook tools.
    #[error("cannot start hook tool `{tool}`: is this a hook?")]
    Start {
        /// The tool.
        tool: &'static str,
        /// Why it did not start.
        source: io::Error,
    },
    /// It took too long and was killed; Juju runs a failed hook again.
    #[error("cannot wait longer for hook tool `{tool}`: no answer within {} s", .timeout.as_secs_f64())]
    Timeout {
        /// The tool.
        tool: &'static str,
        /// How long was waited.
        timeout: Duration,
    },
    /// It refused or failed.
    #[error("cannot use hook tool `{tool}` ({status}): {stderr}")]
    Failed {
        /// The tool.
        tool: &'static str,
        /// How it ended: 2 for arguments that it refused, 1 for a failure.
        status: ExitStatus,
        /// What it said, cut to a bound, without its prefix `ERROR`.
        stderr: String,
    },
    /// Its answer is not the JSON that it should be. The values themselves are kept out of the text.
    #[error(
        "cannot read the answer of hook tool `{tool}`: {fault} at line {line} column {column}; \
         this version of Juju may be unknown to the charm"
    )]
    Shape {
        /// The tool.
        tool: &'static str,
        /// What kind of fault.
        fault: &'static str,
        /// Line of the output, counted from 1.
        line: usize,
        /// Column of the output, counted from 1.
        column: usize,
    },
    /// Its answer is not text.
    #[error("cannot read the answer of hook tool `{tool}`: it is not UTF-8 text")]
    NotText {
        /// The tool.
        tool: &'static str,
    },
    /// It printed a name that cannot be one.
    #[error("cannot read the answer of hook tool `{tool}`: it is not the id of a secret")]
    NotASecret {
        /// The tool.
        tool: &'static str,
    },
    /// Its answer has no end.
    #[error(
        "cannot read the answer of hook tool `{tool}`: it is longer than {HOOK_TOOL_OUTPUT_BYTES_MAX} bytes"
    )]
    TooMuch {
        /// The tool.
        tool: &'static str,
    },
    /// An argument is longer than the system takes.
    #[error(
        "cannot pass {length} bytes to hook tool `{tool}`: an argument may have {HOOK_TOOL_ARGUMENT_BYTES_MAX} at most"
    )]
    ArgumentTooLong {
        /// The tool.
        tool: &'static str,
        /// Length of the argument in bytes.
        length: usize,
    },
    /// An argument holds a NUL byte, which no program can be given.
    #[error("cannot pass a NUL byte to hook tool `{tool}`")]
    ArgumentNul {
        /// The tool.
        tool: &'static str,
    },
    /// The pipes to it broke.
    #[error("cannot exchange data with hook tool `{tool}`")]
    Exchange {
        /// The tool.
        tool: &'static str,
        /// What broke.
        source: io::Error,
    },
    /// What it should read could not be put into a private file.
    #[error(
        "cannot write a private file for hook tool `{tool}`: is there space in the directory for temporary files?"
    )]
    PrivateFile {
        /// The tool.
        tool: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl ToolError {
    /// Keeps of a JSON error only where it is: its text repeats values, and those can be secrets.
    pub(super) fn shape(tool: &'static str, error: &serde_json::Error) -> Self {
        use serde_json::error::Category;
        let fault = match error.classify() {
            Category::Io | Category::Eof => "the JSON is cut off",
            Category::Syntax => "it is not JSON",
            Category::Data => "the JSON has another shape",
        };
        Self::Shape {
            tool,
            fault,
            line: error.line(),
            column: error.column(),
        }
    }

    /// Says whether Juju does not know what was asked for: a relation, a unit, a secret, a key.
    #[must_use]
    pub fn not_found(&self) -> bool {
        self.says(&["not found"])
    }

    /// Says whether Juju refuses to show or change what was asked for, as a secret that was not granted.
    #[must_use]
    pub fn permission_denied(&self) -> bool {
        self.says(&["permission denied"])
    }

    /// Says whether only the leader may do it, and this unit is not (or no longer) the leader.
    #[must_use]
    pub fn leadership_lost(&self) -> bool {
        self.says(&[
            "not the leader",
            "cannot write relation settings",
            "cannot write leadership settings",
            "leadership status unknown",
            "leadership failure",
            "lost leadership",
        ])
    }

    fn says(&self, texts: &[&str]) -> bool {
        match self {
            Self::Failed { stderr, .. } => {
                let stderr = stderr.to_lowercase();
                texts.iter().any(|text| stderr.contains(text))
            }
            _ => false,
        }
    }
}
