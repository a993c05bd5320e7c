//! The names of pods: a resolver on the bridge that answers from the model, as a cluster's does.
//!
//! A pod's name leads to its present address as long as it has one, ready or not. Other names of the cluster's domain
//! do not exist, and names outside of it neither: pods have no way out.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::limits::{NAME_QUESTION_MAX, NAME_TTL_S};

use super::super::model::Model;
use super::super::state::Engine;
use super::DOMAIN;
use super::network::Bridge;

/// Port of resolvers.
const PORT: u16 = 53;

/// Begins to answer on the bridge, until the engine ends.
///
/// # Errors
///
/// When the port cannot be had.
pub fn answer(engine: &Arc<Engine>, bridge: Bridge) -> Result<()> {
    let socket = UdpSocket::bind((bridge.address(), PORT))
        .with_context(|| format!("cannot resolve names at {}", bridge.address()))?;
    let engine = Arc::clone(engine);
    std::thread::spawn(move || {
        let mut question = [0_u8; NAME_QUESTION_MAX];
        loop {
            let Ok((size, from)) = socket.recv_from(&mut question) else {
                continue;
            };
            let reply = {
                let state = engine.lock();
                if state.ending {
                    return;
                }
                if state.model.settings.names_silent {
                    continue;
                }
                reply(&state.model, question.get(..size).unwrap_or_default())
            };
            if let Some(reply) = reply {
                let _ = socket.send_to(&reply, from);
            }
        }
    });
    Ok(())
}

/// Answers a question; what is none gets no answer.
fn reply(model: &Model, question: &[u8]) -> Option<Vec<u8>> {
    let query = Packet::parse(question).ok()?;
    if query.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    let asked = query.questions.first()?.clone();
    let name = asked.qname.to_string().to_lowercase();
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    let found = addresses(model, name.trim_end_matches('.'));
    if found.is_none() {
        *reply.rcode_mut() = RCODE::NameError;
    }
    if matches!(asked.qtype, QTYPE::TYPE(TYPE::A) | QTYPE::ANY) {
        for address in found.into_iter().flatten() {
            let data = RData::A(A {
                address: u32::from(address),
            });
            let record = ResourceRecord::new(asked.qname.clone(), CLASS::IN, NAME_TTL_S, data);
            reply.answers.push(record);
        }
    }
    reply.questions.push(asked);
    reply.build_bytes_vec().ok()
}

/// Returns the addresses that a name leads to; `None` when there is no such name.
fn addresses(model: &Model, name: &str) -> Option<Vec<Ipv4Addr>> {
    let within = name.strip_suffix(&format!(".{}.svc.{DOMAIN}", model.name))?;
    if let Some(application) = model.applications.get(within) {
        return Some(vec![model.pod_address(application.service_host)]);
    }
    if let (false, Some(application)) = (within.contains('.'), within.strip_suffix("-endpoints")) {
        let all: Vec<_> = model
            .units_of(application)
            .iter()
            .filter_map(|unit| unit.address)
            .collect();
        return (!all.is_empty()).then_some(all);
    }
    let (pod, service) = within.split_once('.')?;
    let application = service.strip_suffix("-endpoints")?;
    let number = pod.strip_prefix(application)?.strip_prefix('-')?;
    let unit = model.units.get(&format!("{application}/{number}"))?;
    unit.address.map(|address| vec![address])
}
