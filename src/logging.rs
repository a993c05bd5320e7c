//! Log lines for Juju: the unit agent logs a hook's stderr line by line with its own time stamp.
//!
//! A `juju-log` process per line would cost more than most of what a hook does, so lines go to
//! stderr: level first, no time, no colours.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Environment variable that chooses the level (`error`, `warn`, `info`, `debug`, `trace`) or a
/// filter per module, as in `info,valkey_operator::juju=debug`.
pub const LOG_VARIABLE: &str = "VALKEY_OPERATOR_LOG";

/// The level when nothing else is asked for.
const LEVEL_DEFAULT: &str = "info";

/// Begins to write log lines to stderr.
///
/// The environment variable [`LOG_VARIABLE`] wins over `level`, the operator's wish. A filter that
/// cannot be read is reported and replaced by the default: a wrong level must not fail a hook.
/// Calling it again changes nothing.
pub fn init(level: Option<&str>) {
    let wanted = std::env::var(LOG_VARIABLE)
        .ok()
        .filter(|text| !text.trim().is_empty());
    let wanted = wanted.as_deref().or(level).unwrap_or(LEVEL_DEFAULT);
    let understood = is_filter(wanted)
        .then(|| EnvFilter::try_new(wanted).ok())
        .flatten();
    let refused = understood.is_none();
    let filter = understood.unwrap_or_else(|| EnvFilter::new(LEVEL_DEFAULT));
    // An error only says that a subscriber is there already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .compact()
        .try_init();
    if refused {
        tracing::warn!(wanted, "Cannot read the log filter, using {LEVEL_DEFAULT}");
    }
}

/// Says whether each part is a level, or names a module with one.
///
/// A misspelt level would else be taken for a module's name and silence everything.
fn is_filter(text: &str) -> bool {
    text.split(',').all(|part| {
        let level = part.rsplit('=').next().unwrap_or(part).trim();
        level.parse::<LevelFilter>().is_ok() && !level.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        for (text, expected) in [
            ("info", true),
            ("DEBUG", true),
            ("off", true),
            ("info,valkey_operator::juju=debug", true),
            ("loud", false),
            ("info,loud", false),
            ("valkey_operator=loud", false),
            ("", false),
            ("info,", false),
        ] {
            assert_eq!(is_filter(text), expected, "{text}");
        }
    }
}
