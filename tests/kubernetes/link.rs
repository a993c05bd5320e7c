//! The way from the charm to the API server, which a test can cut.

use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

/// What becomes of connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They work.
    Up,
    /// They are closed at once.
    Closed,
    /// They are accepted and nothing ever comes.
    Silent,
}

/// A relay on a port of its own.
pub struct Link {
    pub port: u16,
    state: Arc<AtomicU8>,
}

/// State of a relay that has to end.
const ENDED: u8 = 9;

impl Drop for Link {
    fn drop(&mut self) {
        self.state.store(ENDED, Ordering::SeqCst);
        // Wakes who waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Link {
    /// Relays to a port of this machine.
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(AtomicU8::new(State::Up as u8));
        let seen = Arc::clone(&state);
        thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                match seen.load(Ordering::SeqCst) {
                    ENDED => return,
                    up if up == State::Up as u8 => relay(stream, target),
                    silent if silent == State::Silent as u8 => held.push(stream),
                    _ => {}
                }
            }
        });
        Self { port, state }
    }

    /// Changes what becomes of the connections that come from now on.
    pub fn set(&self, state: State) {
        self.state.store(state as u8, Ordering::SeqCst);
    }
}

fn relay(near: TcpStream, target: u16) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else {
        return;
    };
    let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else {
        return;
    };
    // Nobody waits for a relay whose test is over.
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(120)));
    }
    thread::spawn(move || pump(near, far));
    thread::spawn(move || pump(far_too, near_too));
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
