//! The instruments are tested too: a cut that does not cut would let every case pass.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::net::{CLIENT, CLIENT_ADDRESS, How, Net, PERSON, PERSON_ADDRESS, Way, remove_leftovers};

/// How long a packet gets; it needs microseconds.
const ARRIVAL: Duration = Duration::from_millis(400);

/// Sends a packet from one namespace to another; tells whether it arrives, or what the sender hears.
fn passes(net: &Net, from: (&str, Ipv4Addr), to: (&str, Ipv4Addr)) -> io::Result<bool> {
    let (sender, receiver) = (net.door(from.0), net.door(to.0));
    let bound = thread::spawn(move || {
        receiver.enter();
        UdpSocket::bind((to.1, 5000))
    });
    let receiver = bound.join().expect("the receiver is there")?;
    receiver.set_read_timeout(Some(ARRIVAL))?;
    let sent = thread::spawn(move || -> io::Result<()> {
        sender.enter();
        let socket = UdpSocket::bind((from.1, 0))?;
        socket.connect(SocketAddr::from((to.1, 5000)))?;
        socket.set_read_timeout(Some(ARRIVAL / 4))?;
        socket.send(b"x")?;
        match socket.recv(&mut [0; 1]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other("an answer that nobody sent")),
        }
    });
    let told = sent.join().expect("the sender is there");
    let arrived = receiver.recv(&mut [0; 1]).is_ok();
    told.map(|()| arrived)
}

#[test]
fn the_router_loses_and_rejects_what_it_is_told_to() {
    let net = Net::new();
    let (here, there) = ((PERSON, PERSON_ADDRESS), (CLIENT, CLIENT_ADDRESS));
    for (way, how, out, back) in [
        (Way::Both, How::Drop, "lost", "lost"),
        (Way::Out, How::Drop, "lost", "passes"),
        (Way::In, How::Drop, "passes", "lost"),
        (Way::Both, How::Reject, "rejected", "rejected"),
        (Way::Out, How::Reject, "rejected", "passes"),
        (Way::In, How::Reject, "passes", "rejected"),
    ] {
        let seen = |from, to| match passes(&net, from, to) {
            Ok(true) => "passes".to_owned(),
            Ok(false) => "lost".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::HostUnreachable => "rejected".to_owned(),
            Err(error) => error.to_string(),
        };
        net.cut(here.1, &[there.1], way, how);
        assert_eq!(
            (seen(here, there).as_str(), seen(there, here).as_str()),
            (out, back),
            "{way:?} {how:?}"
        );
        net.heal();
        assert_eq!(
            (seen(here, there).as_str(), seen(there, here).as_str()),
            ("passes", "passes"),
            "healed after {way:?} {how:?}"
        );
    }
}

/// A process that is ended when the test ends, if nobody else did that.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_a_crashed_run_left_is_removed_and_what_is_in_use_stays() {
    let net = Net::new();
    // No process has the id 0, so this owner is gone.
    let orphan = format!("vochaos-0-1-{}", std::process::id());
    let space = format!("{orphan}-u0");
    let folder = std::env::temp_dir().join(format!("{orphan}-folder"));
    fs::create_dir_all(&folder).unwrap();
    let made = Command::new("ip").args(["netns", "add", &space]).status();
    assert!(made.unwrap().success());
    let mut sleeper = Sleeper(
        Command::new("nsenter")
            .arg(format!("--net=/run/netns/{space}"))
            .args(["sleep", "300"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    let comm = format!("/proc/{}/comm", sleeper.0.id());
    while fs::read_to_string(&comm).unwrap().trim() != "sleep" {
        assert!(Instant::now() < deadline, "the process does not start");
        thread::sleep(Duration::from_millis(10));
    }
    remove_leftovers();
    let ended = loop {
        if let Some(status) = sleeper.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "the process lives on");
        thread::sleep(Duration::from_millis(10));
    };
    assert!(!ended.success());
    assert!(!fs::exists(format!("/run/netns/{space}")).unwrap());
    assert!(!folder.exists());
    assert!(
        fs::exists(format!("/run/netns/{}-router", net.name())).unwrap(),
        "the living run's network stays"
    );
}
