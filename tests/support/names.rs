//! How clients find pods: by names that they look up each time, since addresses change.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, TYPE, rdata::RData};

/// How long an answer is waited for; the resolver is on the same machine.
const PATIENCE: Duration = Duration::from_millis(500);

/// Longest answer over UDP, in bytes.
const ANSWER_MAX: usize = 4096;

/// Where names of a model's pods are looked up, and the name that leads to all pods of the application.
#[derive(Debug, Clone)]
pub struct Book {
    resolver: IpAddr,
    all: String,
}

impl Book {
    /// Asks this resolver; `all` is the name of all pods.
    pub fn new(resolver: IpAddr, all: String) -> Self {
        Self { resolver, all }
    }

    /// Returns the addresses of all pods that are there now.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub fn everybody(&self) -> io::Result<Vec<IpAddr>> {
        self.look_up(&self.all)
    }

    /// Returns the address that a name leads to now.
    ///
    /// # Errors
    ///
    /// When nobody answers, or there is no such name.
    pub fn find(&self, name: &str) -> io::Result<IpAddr> {
        let first = self.look_up(name)?.into_iter().next();
        first.ok_or_else(|| io::Error::other(format!("{name} leads nowhere")))
    }

    fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut query = Packet::new_query(1);
        query.set_flags(PacketFlag::RECURSION_DESIRED);
        query.questions.push(Question::new(
            Name::new(name).map_err(io::Error::other)?.into_owned(),
            QTYPE::TYPE(TYPE::A),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        let question = query.build_bytes_vec().map_err(io::Error::other)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(SocketAddr::new(self.resolver, 53))?;
        socket.send(&question)?;
        let mut answer = [0; ANSWER_MAX];
        let size = socket.recv(&mut answer)?;
        let answer = Packet::parse(&answer[..size]).map_err(io::Error::other)?;
        let addresses = answer
            .answers
            .iter()
            .filter_map(|record| match &record.rdata {
                RData::A(found) => Some(IpAddr::from(Ipv4Addr::from(found.address))),
                _ => None,
            });
        Ok(addresses.collect())
    }
}
