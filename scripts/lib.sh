# Shared by the scripts of this directory; to be sourced, not run.
# shellcheck shell=bash
#
# Every script prints what it does on stderr, so that stdout stays free for results.

set -euo pipefail

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export root_dir

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'ERROR %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "cannot run \`$1\` as root: neither root nor sudo; run this script as root once"
    fi
}

# Sets os_id (debian, ubuntu) and os_codename (bookworm, noble, …) of this machine.
read_os_release() {
    [ -r /etc/os-release ] || die "cannot tell which system this is: /etc/os-release is missing"
    os_id=$(. /etc/os-release && printf '%s' "${ID:-}")
    os_codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    os_name=$(. /etc/os-release && printf '%s' "${PRETTY_NAME:-$ID}")
    export os_id os_codename os_name
}

# Prints the address of the archive that this machine already uses for its own suite, so that
# mirrors and proxies of the person's choice are kept.
own_archive() {
    apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
        awk -v suite="$1" '$2 == suite && $1 !~ /security/ { print $1; exit }'
}

# Prints the keyring with which the archive's signatures are checked, or nothing where the
# system keeps its keys in trusted.gpg.d.
archive_keyring() {
    local keyring
    for keyring in "/usr/share/keyrings/$os_id-archive-keyring.gpg"; do
        if [ -r "$keyring" ]; then
            printf '%s\n' "$keyring"
            return
        fi
    done
}
