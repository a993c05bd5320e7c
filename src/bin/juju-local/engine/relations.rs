//! Relations that people make and remove.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::Response;
use crate::charm;

use super::find;
use super::model::{Endpoint, Life, Model, Relation};

/// An endpoint that a person may mean.
struct Candidate {
    application: String,
    name: String,
    interface: String,
    role: charm::Role,
    limit: Option<u64>,
}

/// Returns the endpoints that `application[:endpoint]` may mean; peers are none.
fn candidates(model: &Model, text: &str) -> Result<Vec<Candidate>, String> {
    let (application, endpoint) = match text.split_once(':') {
        Some((application, endpoint)) => (application, Some(endpoint)),
        None => (text, None),
    };
    let app = find::application(model, application)?;
    let mut found: Vec<Candidate> = app
        .charm
        .metadata
        .endpoints
        .iter()
        .filter(|(name, end)| {
            end.role != charm::Role::Peer && endpoint.is_none_or(|wanted| wanted == name.as_str())
        })
        .map(|(name, end)| Candidate {
            application: application.to_owned(),
            name: name.clone(),
            interface: end.interface.clone(),
            role: end.role,
            limit: end.limit,
        })
        .collect();
    if endpoint.is_none_or(|wanted| wanted == "juju-info") {
        found.push(Candidate {
            application: application.to_owned(),
            name: "juju-info".to_owned(),
            interface: "juju-info".to_owned(),
            role: charm::Role::Provider,
            limit: None,
        });
    }
    match (found.is_empty(), endpoint) {
        (true, Some(endpoint)) => Err(format!(
            "application {application:?} has no {endpoint:?} relation"
        )),
        _ => Ok(found),
    }
}

/// Relates two endpoints.
///
/// # Errors
///
/// When none or several pairs of endpoints fit, or the limit of one is reached.
pub fn integrate(model: &mut Model, ends: &[String; 2]) -> Result<Response, String> {
    let [one, other] = [candidates(model, &ends[0])?, candidates(model, &ends[1])?];
    let mut pairs = Vec::new();
    for left in &one {
        for right in &other {
            let fits = left.interface == right.interface && left.role != right.role;
            if fits && left.application != right.application {
                let left_first = left.role == charm::Role::Provider;
                pairs.push(if left_first {
                    (left, right)
                } else {
                    (right, left)
                });
            }
        }
    }
    let explicit: Vec<_> = pairs
        .iter()
        .filter(|(provider, _)| provider.name != "juju-info")
        .collect();
    let (provider, requirer) = match (explicit.as_slice(), pairs.as_slice()) {
        ([only], _) => **only,
        ([], [only]) => *only,
        ([], []) => return Err("no relations found".to_owned()),
        (several, all) => {
            let several: Vec<_> = if several.is_empty() {
                all.iter().collect()
            } else {
                several.to_vec()
            };
            let shown: Vec<_> = several
                .iter()
                .map(|(p, r)| {
                    format!(
                        "\"{}:{} {}:{}\"",
                        p.application, p.name, r.application, r.name
                    )
                })
                .collect();
            return Err(format!(
                "ambiguous relation: {:?} could refer to {}",
                ends.join(" "),
                shown.join("; ")
            ));
        }
    };
    for end in [provider, requirer] {
        let present = model.relations.values().filter(|relation| {
            relation
                .own(&end.application)
                .is_some_and(|own| own.name == end.name)
        });
        let present = u64::try_from(present.count()).unwrap_or(u64::MAX);
        if end.limit.is_some_and(|limit| present >= limit) {
            let tail = if model.variant.is_four() {
                ""
            } else {
                " (quota limit exceeded)"
            };
            return Err(format!(
                "establishing a new relation for {}:{} would exceed its maximum relation limit of {}{tail}",
                end.application,
                end.name,
                end.limit.unwrap_or_default()
            ));
        }
    }
    let end = |candidate: &Candidate| Endpoint {
        application: candidate.application.clone(),
        name: candidate.name.clone(),
        interface: candidate.interface.clone(),
    };
    let endpoints = vec![end(provider), end(requirer)];
    if model
        .relations
        .values()
        .any(|relation| relation.endpoints == endpoints)
    {
        return Err(format!(
            "cannot add relation \"{}:{} {}:{}\": relation already exists",
            provider.application, provider.name, requirer.application, requirer.name
        ));
    }
    add_relation(model, endpoints);
    Ok(Response::Done)
}

/// Adds a relation.
pub fn add_relation(model: &mut Model, endpoints: Vec<Endpoint>) {
    let id = model.next_relation;
    model.next_relation += 1;
    let relation = Relation {
        id,
        endpoints,
        life: Life::Alive,
        scope: BTreeSet::new(),
        units: BTreeMap::new(),
        applications: BTreeMap::new(),
    };
    model.relations.insert(id, relation);
}

/// Marks a relation as no longer wanted.
///
/// # Errors
///
/// When there is none, or several.
pub fn remove_relation(model: &mut Model, ends: &[String; 2]) -> Result<Response, String> {
    for end in ends {
        candidates(model, end)?;
    }
    let means = |relation: &Relation, text: &str| {
        let (application, endpoint) = text.split_once(':').unwrap_or((text, ""));
        let own = relation.own(application);
        own.is_some_and(|own| endpoint.is_empty() || own.name == endpoint)
    };
    let found: Vec<u64> = model
        .relations
        .values()
        .filter(|relation| !relation.is_peer() && ends.iter().all(|end| means(relation, end)))
        .map(|relation| relation.id)
        .collect();
    let [id] = found.as_slice() else {
        let shown = ends.join(" ");
        return Err(if found.is_empty() {
            format!("relation {shown:?} not found")
        } else {
            format!("{shown:?} could refer to several relations; name the endpoints")
        });
    };
    if let Some(relation) = model.relations.get_mut(id) {
        relation.life = Life::Dying;
    }
    Ok(Response::Done)
}
