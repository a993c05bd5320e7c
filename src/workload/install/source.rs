//! Where Valkey comes from on which system. Decides only.

/// What this machine's system calls itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct System {
    /// As in `debian` or `ubuntu`.
    pub id: String,
    /// As in `12` or `24.04`; empty where the next release is in the making.
    pub version: String,
    /// As in `bookworm`.
    pub codename: String,
    /// For people.
    pub name: String,
}

impl System {
    /// Reads `/etc/os-release`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
                .unwrap_or_default()
        };
        Self {
            id: value("ID"),
            version: value("VERSION_ID"),
            codename: value("VERSION_CODENAME"),
            name: value("PRETTY_NAME"),
        }
    }

    /// Returns the first numbers of the version, as in (24, 4) for `24.04`.
    fn release(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        Some((major, minor))
    }
}

/// How the distribution offers Valkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the suite that the machine uses anyway.
    Packages,
    /// In another suite of the same archive.
    Suite(String),
    /// Not at all, as far as this version of the charm knows; with the reason.
    None(String),
}

/// Decides where the distribution's packages are.
#[must_use]
pub fn source(system: &System) -> Source {
    let too_old = |first: &str| {
        Source::None(format!(
            "{} has no packages of Valkey; {first} is the first release that has",
            shown(system)
        ))
    };
    match (system.id.as_str(), system.release()) {
        ("ubuntu", Some(release)) if release >= (24, 4) => Source::Packages,
        ("ubuntu", _) => too_old("Ubuntu 24.04"),
        ("debian", Some((12, _))) => Source::Suite("bookworm-backports".to_owned()),
        // Without a version it is the next release in the making.
        ("debian", None) => Source::Packages,
        ("debian", Some((major, _))) if major >= 13 => Source::Packages,
        ("debian", Some(_)) => too_old("Debian 12"),
        _ => Source::None(format!(
            "the charm knows the packages of Ubuntu and Debian only, this is {}",
            shown(system)
        )),
    }
}

fn shown(system: &System) -> &str {
    if system.name.is_empty() {
        "an unknown system"
    } else {
        &system.name
    }
}

/// What a resource's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Nothing: no file was attached, or an empty one in its place.
    Absent,
    /// A package.
    Package,
    /// An archive of packages, or of a build of Valkey.
    Archive,
    /// The server's binary itself.
    Program,
    /// Something else.
    Unknown,
}

/// How much of a file [`resource`] has to see, in bytes.
pub const RESOURCE_HEAD_BYTES: usize = 512;

/// Says what a resource is by the beginning of its file.
#[must_use]
pub fn resource(head: &[u8]) -> Resource {
    let begins = |magic: &[u8]| head.starts_with(magic);
    let compressed: [&[u8]; 4] = [
        &[0x1f, 0x8b],
        &[0xfd, b'7', b'z', b'X', b'Z', 0],
        &[0x28, 0xb5, 0x2f, 0xfd],
        b"BZh",
    ];
    if head.is_empty() {
        Resource::Absent
    } else if begins(b"!<arch>\n") {
        Resource::Package
    } else if begins(b"\x7fELF") {
        Resource::Program
    } else if compressed.iter().any(|magic| begins(magic)) || head.get(257..262) == Some(b"ustar") {
        Resource::Archive
    } else {
        Resource::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_has_its_source() {
        let packages = Source::Packages;
        let backports = Source::Suite("bookworm-backports".to_owned());
        for (id, version, expected) in [
            ("ubuntu", "24.04", Ok(&packages)),
            ("ubuntu", "26.04", Ok(&packages)),
            ("ubuntu", "25.10", Ok(&packages)),
            ("ubuntu", "22.04", Err("Ubuntu 24.04")),
            ("ubuntu", "", Err("Ubuntu 24.04")),
            ("debian", "12", Ok(&backports)),
            ("debian", "13", Ok(&packages)),
            ("debian", "", Ok(&packages)),
            ("debian", "11", Err("Debian 12")),
            ("fedora", "43", Err("Ubuntu and Debian only")),
            ("", "", Err("an unknown system")),
        ] {
            let text = format!("PRETTY_NAME=\"{id}\"\nID={id}\nVERSION_ID=\"{version}\"\n");
            match (source(&System::parse(&text)), expected) {
                (Source::None(why), Err(words)) => assert!(why.contains(words), "{why}"),
                (found, Ok(expected)) => assert_eq!(&found, expected, "{text}"),
                (found, Err(words)) => panic!("{text}: {found:?}, not {words:?}"),
            }
        }
    }

    #[test]
    fn the_release_file_is_read_with_and_without_quotes() {
        let system = System::parse(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nID_LIKE=x\n\
             VERSION_ID='12'\nVERSION_CODENAME=bookworm\n",
        );
        let text = |text: &str| text.to_owned();
        assert_eq!(
            system,
            System {
                id: text("debian"),
                version: text("12"),
                codename: text("bookworm"),
                name: text("Debian GNU/Linux 12 (bookworm)"),
            }
        );
        assert_eq!(System::parse("garbage"), System::default());
    }

    #[test]
    fn a_resource_is_known_by_its_content() {
        let mut tar = vec![0_u8; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (head, expected) in [
            (&b""[..], Resource::Absent),
            (b"!<arch>\ndebian-binary", Resource::Package),
            (b"\x7fELF\x02\x01", Resource::Program),
            (b"\x1f\x8b\x08", Resource::Archive),
            (b"\xfd7zXZ\0", Resource::Archive),
            (b"\x28\xb5\x2f\xfd", Resource::Archive),
            (tar.as_slice(), Resource::Archive),
            (b"PK\x03\x04", Resource::Unknown),
            (b"hello", Resource::Unknown),
        ] {
            assert_eq!(resource(head), expected, "{head:?}");
        }
    }
}
