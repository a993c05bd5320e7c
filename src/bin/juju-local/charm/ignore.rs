//! What of a charm's directory does not belong to the charm.

use std::path::Path;

use super::CharmError;

/// Directories that never belong to a charm, wherever they lie.
const IGNORED_ANYWHERE: [&str; 5] = [".git", ".svn", ".hg", ".bzr", ".tox"];

/// What does not belong to a charm at its root; `target` is where Cargo builds, often many gigabytes.
const IGNORED_AT_ROOT: [&str; 5] = ["build", "target", "revision", "version", ".jujuignore"];

/// What of a directory does not belong to the charm.
pub struct Ignored {
    patterns: Vec<Pattern>,
}

/// One line of `.jujuignore`.
struct Pattern {
    /// Path parts to match from the root, or one part to match anywhere.
    parts: Vec<String>,
    anchored: bool,
    only_directories: bool,
    keep: bool,
}

impl Ignored {
    /// Reads `.jujuignore` in `source`, if there is one.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read(source: &Path) -> Result<Self, CharmError> {
        let text = super::yaml::read_text(source, ".jujuignore")?.unwrap_or_default();
        Ok(Self {
            patterns: text.lines().filter_map(Pattern::parse).collect(),
        })
    }

    /// Tells whether `path`, relative to the charm, is left out.
    #[must_use]
    pub fn matches(&self, path: &Path, is_dir: bool) -> bool {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if IGNORED_ANYWHERE.contains(&name)
            || (path.components().count() == 1 && IGNORED_AT_ROOT.contains(&name))
        {
            return true;
        }
        // The last line that matches decides, so that `!keep` can take back.
        let last = self
            .patterns
            .iter()
            .rev()
            .find(|pattern| pattern.matches(path, is_dir));
        last.is_some_and(|pattern| !pattern.keep)
    }
}

impl Pattern {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let (keep, line) = line
            .strip_prefix('!')
            .map_or((false, line), |line| (true, line));
        let (only_directories, line) = line
            .strip_suffix('/')
            .map_or((false, line), |line| (true, line));
        let anchored = line.contains('/');
        let parts: Vec<String> = line
            .trim_start_matches('/')
            .split('/')
            .map(str::to_owned)
            .collect();
        (!line.is_empty() && !line.starts_with('#')).then_some(Self {
            parts,
            anchored,
            only_directories,
            keep,
        })
    }

    fn matches(&self, path: &Path, is_dir: bool) -> bool {
        let names: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
        if self.only_directories && !is_dir {
            return false;
        }
        let names = match names.len().checked_sub(self.parts.len()) {
            Some(0) => names.as_slice(),
            Some(extra) if !self.anchored => &names[extra..],
            _ => return false,
        };
        self.parts
            .iter()
            .zip(names)
            .all(|(part, name)| glob(part.as_bytes(), name.as_bytes()))
    }
}

/// Matches `*` and `?` within one part of a path, in steps that grow with the product of the lengths at most.
///
/// Only the last `*` is ever tried again: one before it can take nothing that this one could not.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut letter) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(got) = name.get(letter) {
        match (pattern.get(at), star) {
            (Some(b'*'), _) => {
                star = Some((at, letter));
                at += 1;
            }
            (Some(wanted), _) if *wanted == b'?' || wanted == got => {
                (at, letter) = (at + 1, letter + 1);
            }
            (_, Some((back, taken))) => {
                star = Some((back, taken + 1));
                (at, letter) = (back + 1, taken + 1);
            }
            (_, None) => return false,
        }
    }
    pattern
        .get(at..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}
