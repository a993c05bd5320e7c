//! `debug-log`: what charms and agents log, read from the model's log file.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use super::arguments::DebugLog;
use super::connect::Model;
use super::{Done, output};
use crate::limits::{FOLLOW_POLL, TAIL_BYTES_MAX};

/// Lines that are shown at first when following.
const LINES_FOLLOWING: usize = 10;

/// Levels from the chattiest on.
const LEVELS: [&str; 5] = ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"];

/// Prints the log, and with `--follow` what comes, until interrupted.
///
/// # Errors
///
/// When there is no model, or the log cannot be read.
pub fn debug_log(model: &Model, given: &DebugLog) -> Done {
    if !model.exists() {
        bail!(
            "there is no model in {}: deploy a charm first",
            model.state().display()
        );
    }
    let filter = Filter::new(given)?;
    let path = model.state().join("debug.log");
    let mut reader = Reader {
        file: None,
        inode: 0,
        rest: String::new(),
    };
    let lines: Vec<String> = reader
        .read(&path)?
        .into_iter()
        .filter(|line| filter.keeps(line))
        .collect();
    let wanted = given.lines.unwrap_or(if given.follow {
        LINES_FOLLOWING
    } else {
        usize::MAX
    });
    print(&lines[lines.len().saturating_sub(wanted)..])?;
    if !given.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        std::thread::sleep(FOLLOW_POLL);
        let lines: Vec<String> = reader
            .read(&path)?
            .into_iter()
            .filter(|line| filter.keeps(line))
            .collect();
        print(&lines)?;
    }
}

fn print(lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        Ok(())
    } else {
        output::print(&format!("{}\n", lines.join("\n")))
    }
}

/// Which lines are wanted.
struct Filter {
    entities: Vec<String>,
    level: usize,
}

impl Filter {
    fn new(given: &DebugLog) -> Result<Self> {
        let level = given.level.as_deref().unwrap_or("TRACE").to_uppercase();
        let Some(level) = LEVELS.iter().position(|known| *known == level) else {
            bail!("unknown level {level:?}, expected one of {LEVELS:?}");
        };
        let entities = given.include.iter().map(|name| {
            let name = name.strip_prefix("unit-").unwrap_or(name);
            format!("unit-{}", name.replace('/', "-"))
        });
        Ok(Self {
            entities: entities.collect(),
            level,
        })
    }

    /// Judges a line such as `unit-app-0: 10:11:12 INFO logger text`.
    fn keeps(&self, line: &str) -> bool {
        let mut words = line.splitn(4, ' ');
        let entity = words.next().unwrap_or_default().trim_end_matches(':');
        let level = words
            .nth(1)
            .and_then(|word| LEVELS.iter().position(|known| *known == word));
        let named = |wanted: &String| {
            // An application stands for its units: `unit-app` for `unit-app-0`.
            entity == wanted
                || entity
                    .rsplit_once('-')
                    .is_some_and(|(application, _)| application == wanted)
        };
        (self.entities.is_empty() || self.entities.iter().any(named))
            && level.is_none_or(|level| level >= self.level)
    }
}

/// Reads what is new in a file that grows and may be set aside for a new one.
struct Reader {
    file: Option<File>,
    inode: u64,
    rest: String,
}

impl Reader {
    fn read(&mut self, path: &Path) -> Result<Vec<String>> {
        let wrong = || format!("cannot read {}", path.display());
        let mut lines = self.drain().with_context(wrong)?;
        let inode = match std::fs::metadata(path) {
            Ok(found) => found.ino(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(lines),
            Err(error) => return Err(error).with_context(wrong),
        };
        if self.file.is_none() || inode != self.inode {
            let mut file = File::open(path).with_context(wrong)?;
            let length = file.metadata().with_context(wrong)?.len();
            if let Some(skipped) = length
                .checked_sub(TAIL_BYTES_MAX)
                .filter(|_| self.file.is_none())
            {
                file.seek(SeekFrom::Start(skipped)).with_context(wrong)?;
            }
            (self.file, self.inode) = (Some(file), inode);
            lines.extend(self.drain().with_context(wrong)?);
        }
        Ok(lines)
    }

    /// Returns the whole lines that have come; half a line waits for its end.
    fn drain(&mut self) -> std::io::Result<Vec<String>> {
        let Some(file) = &mut self.file else {
            return Ok(Vec::new());
        };
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        self.rest.push_str(&String::from_utf8_lossy(&bytes));
        let Some(end) = self.rest.rfind('\n') else {
            return Ok(Vec::new());
        };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        Ok(whole.lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn given(include: &[&str], level: Option<&str>) -> DebugLog {
        let include = include.iter().map(|name| (*name).to_owned()).collect();
        DebugLog {
            follow: false,
            lines: None,
            include,
            level: level.map(str::to_owned),
        }
    }

    #[test]
    fn lines_are_kept_by_unit_and_level() {
        let line = "unit-my-app-0: 10:11:12 INFO unit.my-app/0.juju-log hello";
        for (include, level, kept) in [
            (&[][..], None, true),
            (&["my-app/0"], None, true),
            (&["my-app"], None, true),
            (&["unit-my-app-0"], None, true),
            (&["my"], None, false),
            (&["my-app/1"], None, false),
            (&[], Some("warning"), false),
            (&[], Some("debug"), true),
        ] {
            assert_eq!(
                Filter::new(&given(include, level)).unwrap().keeps(line),
                kept,
                "{include:?} {level:?}"
            );
        }
        assert!(Filter::new(&given(&[], Some("loud"))).is_err());
    }

    #[test]
    fn a_reader_follows_a_file_that_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("debug.log");
        let mut reader = Reader {
            file: None,
            inode: 0,
            rest: String::new(),
        };
        assert!(reader.read(&path).unwrap().is_empty());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(reader.read(&path).unwrap(), ["one"]);
        file.write_all(b"o\n").unwrap();
        std::fs::rename(&path, dir.path().join("debug.log.1")).unwrap();
        std::fs::write(&path, "three\n").unwrap();
        assert_eq!(reader.read(&path).unwrap(), ["two", "three"]);
    }
}
