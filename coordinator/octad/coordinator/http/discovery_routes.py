"""The services that are there, for programs of others: Prometheus, and whatever reads Consul."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from octad.client.cluster.service_records import ServiceInstance
from octad.client.membership.choosing import Wanted
from octad.client.membership.event_document import ClusterEvent, WatchToken
from octad.coordinator.discovery.consul_documents import (
    agent_self,
    consul_wait_s,
    service_entries,
    service_names,
)
from octad.coordinator.discovery.prometheus_targets import (
    NODE_SERVICE,
    node_targets,
    service_targets,
)
from octad.coordinator.http.http_answers import (
    WATCH_WAIT_S_MAX,
    BadParameter,
    flag_of,
    json_answer,
    revision_of,
)
from octad.coordinator.http.http_watches import HttpWatches
from octad.coordinator.mirror.cluster_feed import shown_age
from octad.coordinator.schema.records import NodeRecord
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.store.interface import Revision

_INDEX_HEADER = "X-Consul-Index"
_CONTACT_HEADER = "X-Consul-LastContact"  # Milliseconds.
_LEADER_HEADER = "X-Consul-KnownLeader"


class DiscoveryRoutes:
    """The handlers; `by_name` are all of them."""

    def __init__(self, coordinator: Coordinator, watches: HttpWatches) -> None:
        self._coordinator = coordinator
        self._watches = watches
        self.by_name: dict[str, Handler] = {
            "sd-prometheus": self._prometheus,
            "consul-service": self._consul_service,
            "consul-services": self._consul_services,
            "consul-self": self._consul_self,
        }

    async def _prometheus(self, request: web.Request) -> web.Response:
        feed = self._coordinator.feed
        await feed.current()
        service, wanted = request.query.get("service"), wanted_of(request)
        prefix = "services/" if service is None else f"services/{service}/"
        groups = service_targets(filter(wanted.matches, _instances(feed.history.state(prefix))))
        if service in (None, NODE_SERVICE) and wanted == Wanted():
            states = feed.history.state("nodes/")
            nodes = (msgspec.json.decode(each.value, type=NodeRecord) for each in states)
            groups += node_targets(nodes)
        return json_answer(groups, age_s=feed.age_s)

    async def _consul_services(self, request: web.Request) -> web.Response:
        index = await self._wait(request, "services/")
        state = self._coordinator.feed.history.state("services/")
        return self._consul(service_names(_instances(state)), index)

    async def _consul_service(self, request: web.Request) -> web.Response:
        if "filter" in request.query:
            raise BadParameter("filter=: not known here; use passing and tag")
        prefix = f"services/{request.match_info['service']}/"
        index = await self._wait(request, prefix)
        entries = service_entries(
            _instances(self._coordinator.feed.history.state(prefix)),
            self._coordinator.config.token.cluster,
            passing=flag_of(request, "passing"),
            tags=request.query.getall("tag", []),
        )
        return self._consul(entries, index)

    async def _consul_self(self, _: web.Request) -> web.Response:
        config = self._coordinator.config
        return self._consul(agent_self(config.token.cluster, config.version), Revision(1))

    async def _wait(self, request: web.Request, prefix: str) -> Revision:
        """A blocking query: returns what its answer's index is, once there is something new.

        Without anything new it is the old one, so that no one takes the answer for a change.
        """
        cluster = self._coordinator.config.token.cluster
        if request.query.get("dc", cluster) not in ("", cluster):
            raise BadParameter(f"dc={request.query['dc'][:80]}: this is {cluster}")
        feed, asked = self._coordinator.feed, revision_of(request, "index")
        await feed.current()
        if asked:
            position = await feed.position_of(WatchToken(feed.life, asked))
            if position is not None:
                with self._watches.room():
                    told = await feed.next(prefix, position, _consul_wait(request))
                if not told.document.reset and not told.document.events:
                    return asked
        return max(Revision(1), feed.history.revision)

    def _consul(self, document: object, index: Revision) -> web.Response:
        feed = self._coordinator.feed
        answer = json_answer(document, age_s=feed.age_s)
        answer.headers[_INDEX_HEADER] = str(index)
        answer.headers[_CONTACT_HEADER] = str(int(shown_age(feed.age_s) * 1000))
        answer.headers[_LEADER_HEADER] = "true"
        return answer


def wanted_of(request: web.Request) -> Wanted:
    """The query's `passing`, `zone` and `label`s; raises BadParameter."""
    labels = {}
    for text in request.query.getall("label", []):
        name, equals, value = text.partition("=")
        if not equals:
            raise BadParameter(f"label={text[:80]}: NAME=VALUE")
        labels[name] = value
    return Wanted(flag_of(request, "passing"), request.query.get("zone"), labels)


instance_of = msgspec.json.Decoder(ServiceInstance).decode


def _instances(events: Iterable[ClusterEvent]) -> list[ServiceInstance]:
    return [instance_of(event.value) for event in events]


def _consul_wait(request: web.Request) -> float:
    text = request.query.get("wait", "")
    wait_s = consul_wait_s(text) if text else WATCH_WAIT_S_MAX
    if wait_s is None:
        raise BadParameter(f"wait={text[:80]}: as 5m, 30s or 500ms")
    return min(wait_s, WATCH_WAIT_S_MAX)
