//! The text of the systemd units: what each service may do, when it starts, how it ends.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::limits::{
    OPEN_FILES_MAX, SENTINEL_MEMORY_MAX_BYTES, SERVER_STOP_LIMIT, SERVICE_RESTART_PAUSE,
    SMALL_STOP_LIMIT, STOP_MARGIN, WATCH_MEMORY_MAX_BYTES, WATCH_SILENCE_MAX,
};
use crate::workload::{Launch, Layout, Service};

use super::Names;

/// How systemd learns that a service is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The program says so itself.
    Notify,
    /// It is there once its program runs.
    Exec,
}

/// Everything that a unit's text depends on.
#[derive(Debug)]
pub struct UnitFile<'a> {
    /// The names of the unit.
    pub names: &'a Names,
    /// Where its files are.
    pub layout: &'a Layout,
    /// Which service it is.
    pub service: Service,
    /// What it runs.
    pub launch: &'a Launch,
    /// What decides before every start, if anything does.
    pub gate: Option<&'a Launch>,
    /// What is run when it stops, before it is told to end, if anything is.
    pub farewell: Option<&'a Launch>,
    /// How it says that it is there.
    pub readiness: Readiness,
}

impl UnitFile<'_> {
    /// Writes the unit.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Text::default();
        self.add_unit(&mut text);
        self.add_service(&mut text);
        self.add_limits(&mut text);
        self.add_sandbox(&mut text);
        text.line("");
        text.line("[Install]");
        text.line("WantedBy=multi-user.target");
        text.0
    }

    fn add_unit(&self, text: &mut Text) {
        let unit = self.names.unit();
        let what = match self.service {
            Service::Server => "Valkey server",
            Service::Sentinel => "Valkey Sentinel",
            Service::Watch => "Watcher of the Valkey charm",
        };
        text.line(format_args!(
            "# Written by the charm of unit {unit}, and written again when it differs."
        ));
        text.line("[Unit]");
        text.line(format_args!("Description={what} of unit {unit}"));
        text.line("Wants=network-online.target");
        text.line("After=network-online.target");
        text.line(format_args!(
            "RequiresMountsFor={}",
            quoted(self.layout.storage().as_os_str())
        ));
        if self.service == Service::Server {
            // The gate asks the local Sentinel first; it remembers who was primary. Sentinel comes
            // up with the machine by itself: wanted here, it would be started when a unit joins
            // again and its server is not a member yet, and without counting with the next boot.
            let sentinel = self.names.service(Service::Sentinel);
            text.line(format_args!("After={sentinel}"));
        }
        // Tried for ever, with a pause: an address or a disk can come late, and nobody may be there.
        text.line("StartLimitIntervalSec=0");
    }

    fn add_service(&self, text: &mut Text) {
        text.line("");
        text.line("[Service]");
        text.line(match self.readiness {
            Readiness::Notify => "Type=notify",
            Readiness::Exec => "Type=exec",
        });
        if self.service != Service::Watch {
            text.line(format_args!("User={}", self.names.user()));
            text.line(format_args!("Group={}", self.names.user()));
        }
        text.line(format_args!(
            "WorkingDirectory={}",
            escaped(self.home().as_os_str())
        ));
        for (name, value) in &self.launch.environment {
            let setting = format!("{name}={value}");
            text.line(format_args!("Environment={}", quoted(OsStr::new(&setting))));
        }
        if let Some(gate) = self.gate {
            // As root: it reads what the charm alone may read, and writes the server's configuration.
            text.line(format_args!("ExecStartPre=+{}", command(gate, &[])));
        }
        let notify = ["--supervised".as_ref(), "systemd".as_ref()];
        let extra: &[&OsStr] = match self.readiness {
            Readiness::Notify => &notify,
            Readiness::Exec => &[],
        };
        text.line(format_args!("ExecStart={}", command(self.launch, extra)));
        if let Some(farewell) = self.farewell {
            // As root, too; whatever comes of it, the server is told to end after it.
            text.line(format_args!("ExecStop=-+{}", command(farewell, &[])));
        }
        // The signal is for the main process: it ends its own children, and saves.
        text.line("KillMode=mixed");
        match self.service {
            Service::Server => {
                // A large data set takes minutes to load, and minutes to save.
                text.line("TimeoutStartSec=infinity");
                let stop = SERVER_STOP_LIMIT + STOP_MARGIN;
                text.line(format_args!("TimeoutStopSec={}", stop.as_secs()));
                // Not after an orderly end: who asked for that starts it again.
                text.line("Restart=on-failure");
                // The last that should go when memory is short.
                text.line("OOMScoreAdjust=-900");
            }
            Service::Sentinel => {
                text.line(format_args!(
                    "TimeoutStopSec={}",
                    SMALL_STOP_LIMIT.as_secs()
                ));
                text.line("Restart=on-failure");
                text.line("OOMScoreAdjust=-900");
            }
            Service::Watch => {
                text.line(format_args!(
                    "TimeoutStopSec={}",
                    SMALL_STOP_LIMIT.as_secs()
                ));
                text.line("Restart=always");
                // It says so each time that it has looked around. Server and Sentinel know no watchdog.
                text.line(format_args!("WatchdogSec={}", WATCH_SILENCE_MAX.as_secs()));
                // Its child is who says it.
                text.line("NotifyAccess=all");
            }
        }
        text.line(format_args!(
            "RestartSec={}",
            SERVICE_RESTART_PAUSE.as_secs()
        ));
        text.line("UMask=0077");
        text.line(format_args!(
            "SyslogIdentifier={}",
            self.names
                .service(self.service)
                .trim_end_matches(".service")
        ));
    }

    fn add_limits(&self, text: &mut Text) {
        match self.service {
            Service::Server => text.line(format_args!("LimitNOFILE={OPEN_FILES_MAX}")),
            Service::Sentinel => {
                text.line(format_args!("LimitNOFILE={OPEN_FILES_MAX}"));
                text.line(format_args!("MemoryMax={SENTINEL_MEMORY_MAX_BYTES}"));
            }
            Service::Watch => text.line(format_args!("MemoryMax={WATCH_MEMORY_MAX_BYTES}")),
        }
    }

    fn add_sandbox(&self, text: &mut Text) {
        text.line("NoNewPrivileges=yes");
        text.line(match self.service {
            Service::Server | Service::Sentinel => "CapabilityBoundingSet=",
            // It links files that belong to the server's user, and ends a server that froze.
            Service::Watch => "CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL",
        });
        text.line("AmbientCapabilities=");
        text.line("ProtectSystem=strict");
        for path in self.writable() {
            text.line(format_args!("ReadWritePaths={}", quoted(path.as_os_str())));
        }
        // Left out only where the files lie there themselves, as on a machine for trying things out.
        let needed = self.needed();
        let lies_in = |places: &[&str]| {
            needed
                .iter()
                .any(|path| places.iter().any(|place| path.starts_with(place)))
        };
        if !lies_in(&["/home", "/root", "/run/user"]) {
            text.line("ProtectHome=yes");
        }
        if !lies_in(&["/tmp", "/var/tmp"]) {
            text.line("PrivateTmp=yes");
        }
        for line in [
            "PrivateDevices=yes",
            "ProtectClock=yes",
            "ProtectControlGroups=yes",
            "ProtectHostname=yes",
            "ProtectKernelLogs=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelTunables=yes",
            "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
            "RestrictNamespaces=yes",
            "RestrictRealtime=yes",
            "RestrictSUIDSGID=yes",
            "LockPersonality=yes",
            "MemoryDenyWriteExecute=yes",
            "RemoveIPC=yes",
            "KeyringMode=private",
            "SystemCallArchitectures=native",
            "SystemCallFilter=@system-service",
            "SystemCallFilter=~@privileged",
            "SystemCallErrorNumber=EPERM",
        ] {
            text.line(line);
        }
        if self.service != Service::Watch {
            // The watcher looks for the processes of the others.
            text.line("ProtectProc=invisible");
        }
    }

    /// Returns the working directory.
    fn home(&self) -> PathBuf {
        match self.service {
            Service::Server => self.layout.data(),
            Service::Sentinel => self.layout.sentinel(),
            Service::Watch => self.layout.run().to_owned(),
        }
    }

    /// Returns where the service may write.
    fn writable(&self) -> Vec<PathBuf> {
        match self.service {
            // A server that is told to write its configuration replaces the file.
            Service::Server => vec![self.layout.data(), self.layout.config()],
            Service::Sentinel => vec![self.layout.sentinel()],
            // How far the data is stands beside it.
            Service::Watch => vec![
                self.layout.run().to_owned(),
                self.layout.storage().to_owned(),
            ],
        }
    }

    /// Returns every path without which the service cannot work.
    fn needed(&self) -> Vec<PathBuf> {
        let mut paths = vec![
            self.layout.storage().to_owned(),
            self.launch.program.clone(),
        ];
        if self.service == Service::Watch {
            paths.push(self.layout.run().to_owned());
            for (name, value) in &self.launch.environment {
                if name == "PATH" {
                    paths.extend(std::env::split_paths(value));
                }
            }
        }
        paths
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{line}");
    }
}

/// Writes a command line, in which systemd would put variables in place.
fn command(launch: &Launch, extra: &[&OsStr]) -> String {
    let mut words = vec![launch.program.as_os_str()];
    words.extend(launch.args.iter().map(std::ffi::OsString::as_os_str));
    words.extend(extra);
    let words: Vec<String> = words
        .into_iter()
        .map(|word| quoted(word).replace('$', "$$"))
        .collect();
    words.join(" ")
}

/// Writes a word so that systemd reads it as it is.
fn quoted(word: &OsStr) -> String {
    format!("\"{}\"", escaped(word))
}

/// Writes text without anything that systemd would read as more than text.
fn escaped(word: &OsStr) -> String {
    let mut text = String::new();
    for byte in word.as_bytes() {
        match byte {
            b'%' => text.push_str("%%"),
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            b' '..=b'~' => text.push(char::from(*byte)),
            other => {
                let _ = write!(text, "\\x{other:02x}");
            }
        }
    }
    text
}

/// Settings that count for a process that runs already, or are not for the process at all.
const NOT_OF_PROCESS: [&str; 16] = [
    "Description",
    "Wants",
    "After",
    "RequiresMountsFor",
    "StartLimitIntervalSec",
    "Type",
    "ExecStartPre",
    "ExecStop",
    "KillMode",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Restart",
    "RestartSec",
    "MemoryMax",
    "SyslogIdentifier",
    "WantedBy",
];

/// Returns of a unit's text what its process is started with, in words that are the same for all Juju
/// units: what differs there takes a restart to count.
#[must_use]
pub fn of_process(text: &str, names: &Names, layout: &Layout) -> String {
    let counts = |line: &&str| {
        line.split_once('=')
            .is_some_and(|(name, _)| !name.starts_with('#') && !NOT_OF_PROCESS.contains(&name))
    };
    let lines: Vec<&str> = text.lines().filter(counts).collect();
    let mut own = lines.join("\n");
    for (place, name) in [
        (layout.storage().as_os_str(), "STORAGE"),
        (layout.run().as_os_str(), "RUN"),
        (OsStr::new(&names.user()), "USER"),
    ] {
        own = own.replace(&escaped(place), name);
    }
    own
}
