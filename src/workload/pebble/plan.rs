//! What the charm adds to Pebble's plan: one service, the check of it, and the time before a pod's end.

use std::collections::BTreeMap;
use std::path::Path;

use super::words::command_line;
use super::{CheckSpec, Layer, Level, Override, PebbleError, Probe, ServiceSpec, Startup, grace};
use crate::limits::{
    PEBBLE_CHECK_FAILURES, PEBBLE_CHECK_LIMIT, PEBBLE_CHECK_PERIOD, SERVER_STOP_LIMIT,
    SMALL_STOP_LIMIT, STOP_MARGIN,
};
use crate::workload::{Launch, Service};

/// Returns the layer that lets Pebble run one service, when it is told to; `mark` is what the end of the pod waits for.
pub(super) fn layer(service: Service, launch: &Launch, mark: &Path) -> Result<Layer, PebbleError> {
    let stop_limit = match service {
        Service::Server => SERVER_STOP_LIMIT + STOP_MARGIN,
        Service::Sentinel | Service::Watch => SMALL_STOP_LIMIT,
    };
    let summary = format!("{service}, started and stopped by the charm");
    let spec = ServiceSpec {
        requires: vec![grace::NAME.to_owned()],
        environment: launch.environment.iter().cloned().collect(),
        ..ServiceSpec::when_told(&summary, command_line(launch)?, stop_limit)
    };
    // Never of level `alive`: a container would be killed that loads its data.
    let check = launch.serves.clone().map(|(host, port)| CheckSpec {
        r#override: Override::Replace,
        level: Some(Level::Ready),
        startup: Startup::Enabled,
        period: PEBBLE_CHECK_PERIOD,
        timeout: PEBBLE_CHECK_LIMIT,
        threshold: PEBBLE_CHECK_FAILURES,
        probe: Probe::Tcp {
            port,
            host: Some(host),
        },
    });
    let name = service.name().to_owned();
    Ok(Layer {
        summary: "what the charm runs".to_owned(),
        services: BTreeMap::from([
            (name.clone(), spec),
            (grace::NAME.to_owned(), grace::service(mark)?),
        ]),
        checks: check
            .into_iter()
            .map(|check| (name.clone(), check))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_starts_without_the_charm_and_nothing_is_killed_early() {
        let launch = Launch::new(
            "/usr/bin/valkey-server",
            ["/srv/a b/valkey.conf", "--x=ä'\""],
        )
        .serving_on("valkey-0.valkey-endpoints", 6379);
        let mark = Path::new("/srv/a b/mark");
        for service in [Service::Server, Service::Sentinel] {
            let text = serde_json::to_value(layer(service, &launch, mark).unwrap()).unwrap();
            // Stopped first, and in one order with both: what is required is started with it.
            assert_eq!(text["services"][service.name()]["requires"][0], grace::NAME);
            let grace = &text["services"][grace::NAME];
            assert!(
                grace["after"]
                    .as_array()
                    .unwrap()
                    .contains(&service.name().into())
            );
            assert!(grace["requires"].is_null());
            let spec = &text["services"][service.name()];
            for (key, expected) in [
                ("override", "replace"),
                ("startup", "disabled"),
                ("on-success", "ignore"),
                ("on-failure", "ignore"),
            ] {
                assert_eq!(spec[key], expected, "{service}: {key}");
            }
            let command = spec["command"].as_str().unwrap();
            assert_eq!(
                shlex::split(command).unwrap(),
                ["/usr/bin/valkey-server", "/srv/a b/valkey.conf", "--x=ä'\""]
            );
            let check = &text["checks"][service.name()];
            assert_eq!(check["level"], "ready", "never alive: {check}");
            assert_eq!(check["tcp"]["port"], 6379);
        }
        let spec = layer(Service::Server, &launch, mark).unwrap();
        assert!(spec.services["server"].kill_delay >= SERVER_STOP_LIMIT);
    }
}
