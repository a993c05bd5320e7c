# Shared by the scripts of this directory; to be sourced, not run.
# shellcheck shell=bash
#
# Every script says what it does on stderr, so that stdout stays free for results.

set -euo pipefail

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export root_dir

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'ERROR %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Prints the comment at the top of the running script.
help_text() { sed -n '/^# shellcheck/d; 2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "cannot run \`$1\` as root: neither root nor sudo is there; run scripts/setup as root once"
    fi
}

# Sets os_id (debian, ubuntu), os_codename (bookworm, noble, …) and os_name of this machine.
os_id='' os_codename='' os_name=''
read_os_release() {
    [ -r /etc/os-release ] || die "cannot tell which system this is: /etc/os-release is missing"
    # shellcheck source=/dev/null
    os_id=$(. /etc/os-release && printf '%s' "${ID:-}")
    # shellcheck source=/dev/null
    os_codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    # shellcheck source=/dev/null disable=SC2034 # the sourcing scripts use it
    os_name=$(. /etc/os-release && printf '%s' "${PRETTY_NAME:-${ID:-unknown}}")
}

# Prints the address of the archive that this machine already uses for its own suite, so that
# mirrors and proxies of the person's choice are kept.
own_archive() {
    # shellcheck disable=SC2016 # apt fills these in.
    apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
        awk -v suite="$os_codename" '$2 == suite && $1 !~ /security/ && !found { print $1; found = 1 }'
}

# Whether apt already knows the suite of this name.
knows_suite() {
    # shellcheck disable=SC2016 # apt fills this in.
    apt-get indextargets --format '$(RELEASE)' 'Created-By: Packages' | grep -Fxq "$1"
}

# Prints the keyring with which the archive's signatures are checked, or nothing where the
# system keeps its keys elsewhere.
archive_keyring() {
    local keyring=/usr/share/keyrings/$os_id-archive-keyring.gpg
    if [ -r "$keyring" ]; then
        printf '%s\n' "$keyring"
    fi
}

# Makes sure that there is a cargo that is new enough for this package.
need_cargo() {
    local wanted found
    [ -f "$HOME/.cargo/env" ] && ! have cargo && PATH=$HOME/.cargo/bin:$PATH
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root_dir/Cargo.toml")
    have cargo || die "cannot build: cargo is missing; install Rust $wanted or newer, for example with rustup"
    found=$(cargo --version | awk '{ print $2 }')
    if [ "$(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
        die "cannot build with cargo $found: Rust $wanted or newer is needed; install it, for example with rustup"
    fi
}

# The oldest Go that fetches the one that a module asks for by itself.
go_oldest=1.21

# Whether there is a Go that is new enough; puts it on PATH where its packages leave it beside.
have_go() {
    local place found
    for place in '' /usr/local/go/bin /usr/lib/go/bin; do
        [ -z "$place" ] || { [ -x "$place/go" ] && PATH=$place:$PATH; } || continue
        have go || continue
        found=$(go env GOVERSION 2>/dev/null) || continue
        found=${found#go}
        [ "$(printf '%s\n%s\n' "$go_oldest" "$found" | sort -V | head -n 1)" = "$go_oldest" ] && return 0
    done
    return 1
}

# Makes sure that there is a Go that is new enough.
need_go() {
    have_go || die "cannot build: Go $go_oldest or newer is missing; run scripts/setup"
}

# Where cargo puts what it builds.
target_dir=${CARGO_TARGET_DIR:-$root_dir/target}
export target_dir
