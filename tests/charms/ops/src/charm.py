"""A small charm on ops, to prove that juju-local runs charms that know nothing of it."""

import json
import pathlib

import ops

TOKEN_LABEL = "token"


class CounterCharm(ops.CharmBase):
    """Counts events in the framework's state and shares a secret among its units."""

    _stored = ops.StoredState()

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self._stored.set_default(events=[])
        on = self.on
        for event in (
            on.install,
            on.start,
            on.config_changed,
            on.leader_elected,
            on.upgrade_charm,
            on.secret_changed,
            on.stop,
            on.remove,
            on.data_storage_attached,
            on.data_storage_detaching,
            on["peers"].relation_created,
            on["peers"].relation_joined,
            on["peers"].relation_changed,
            on["peers"].relation_departed,
        ):
            framework.observe(event, self._reconcile)
        framework.observe(on.report_action, self._report)
        framework.observe(on.fail_action, self._fail)
        framework.observe(on.collect_unit_status, self._collect_status)

    @property
    def _peers(self) -> ops.Relation | None:
        return self.model.get_relation("peers")

    def _reconcile(self, event: ops.EventBase):
        """Runs on every event."""
        self._stored.events.append(event.handle.kind)
        if isinstance(event, ops.StartEvent):
            self.unit.set_workload_version(ops.__version__)
            self.unit.open_port("tcp", 8080)
        if isinstance(event, ops.StorageAttachedEvent):
            (event.storage.location / "attached").write_text(event.storage.full_id)
        if isinstance(event, ops.SecretChangedEvent):
            event.secret.get_content(refresh=True)
        peers = self._peers
        if peers is None:
            return
        peers.data[self.unit]["greeting"] = str(self.config["greeting"])
        if self.unit.is_leader() and "token" not in peers.data[self.app]:
            secret = self.app.add_secret({"value": "first"}, label=TOKEN_LABEL)
            peers.data[self.app]["token"] = secret.id
        if self.unit.is_leader() and self.config["limit"] != 10:
            secret = self.model.get_secret(label=TOKEN_LABEL)
            secret.set_content({"value": f"limit-{self.config['limit']}"})

    def _token(self) -> str:
        peers = self._peers
        if peers is None or "token" not in peers.data[self.app]:
            return ""
        secret = self.model.get_secret(id=peers.data[self.app]["token"], label=TOKEN_LABEL)
        return secret.get_content()["value"]

    def _report(self, event: ops.ActionEvent):
        """Tells everything that the unit can see."""
        peers = self._peers
        event.log("looking around")
        binding = self.model.get_binding("peers")
        event.set_results(
            {
                "word": event.params["word"],
                "leader": str(self.unit.is_leader()),
                "token": self._token(),
                "events": json.dumps(list(self._stored.events)),
                "greetings": json.dumps(
                    {unit.name: peers.data[unit].get("greeting") for unit in sorted(peers.units, key=lambda u: u.name)}
                ),
                "address": str(binding.network.bind_address),
                "planned": self.app.planned_units(),
                "storage": json.dumps([str(pathlib.Path(s.location) / "attached") for s in self.model.storages["data"]]),
                "model": self.model.name,
            }
        )

    def _fail(self, event: ops.ActionEvent):
        event.fail("as asked")

    def _collect_status(self, event: ops.CollectStatusEvent):
        if self._peers is None:
            event.add_status(ops.WaitingStatus("for peers"))
        event.add_status(ops.ActiveStatus(f"{self.config['greeting']} from {self.unit.name}"))


if __name__ == "__main__":
    ops.main(CounterCharm)
