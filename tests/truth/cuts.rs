//! Cuts between the addresses of a script's units, in a network that the test made for itself.
//!
//! Packets vanish where they arrive, as behind a broken cable: nobody is told.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Cuts an address off from the others; who asks from elsewhere still gets through.
pub fn cut_off(one: &str, others: &[&str]) {
    let set = others.join(", ");
    let table = table_of(one);
    nft(&format!(
        "table ip {table} {{
            chain arriving {{
                type filter hook input priority 0; policy accept;
                ip saddr {one} ip daddr {{ {set} }} drop
                ip daddr {one} ip saddr {{ {set} }} drop
            }}
        }}"
    ));
}

/// Ends a cut.
pub fn heal(one: &str) {
    nft(&format!("delete table ip {}", table_of(one)));
}

fn table_of(address: &str) -> String {
    format!("cut_{}", address.replace('.', "_"))
}

fn nft(rules: &str) {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft is missing: run scripts/setup");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(rules.as_bytes()).expect("nft reads");
    drop(input);
    assert!(
        child.wait().expect("nft ends").success(),
        "cannot set {rules}"
    );
}
