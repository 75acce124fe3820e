"""The grammar of Aurora and RDS endpoint names, of IP literals and of socket directories. Pure: text in, values out.

    <name>.cluster-<id>.<region>.rds.amazonaws.com          writer endpoint of a cluster
    <name>.cluster-ro-<id>.<region>.rds.amazonaws.com       reader endpoint of a cluster
    <name>.cluster-custom-<id>.<region>.rds.amazonaws.com   custom endpoint
    <instance>.<id>.<region>.rds.amazonaws.com              one instance
    <name>.proxy-<id>.<region>.rds.amazonaws.com            RDS Proxy, also <name>.endpoint.proxy-<id>…
    <name>.shardgrp-<id>.<region>.rds.amazonaws.com         Aurora Limitless shard group
    <name>.global-<id>.global.rds.amazonaws.com             writer endpoint of a global database

The part after <id> differs between AWS partitions: `<region>.rds.amazonaws.com` (commercial, GovCloud),
`<region>.rds.amazonaws.com.cn` and `rds.<region>.amazonaws.com.cn` (China, old and new), and `rds.<region>.` before
`amazonaws.com`, `c2s.ic.gov` or `sc2s.sgov.gov` (government and isolated). Names are compared without case and with
or without a trailing dot, as DNS does.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from enum import Enum

from aurora_actors.model.values import dataclass

__all__ = ["Endpoint", "EndpointKind", "InstancePattern", "instance_id_of", "parse_endpoint", "parse_instance_pattern"]

# A process talks to few names; the bound only keeps one that generates names from growing for ever.
_REMEMBERED_HOSTS = 1024


class EndpointKind(Enum):
    """What a host name stands for. WRITER is the writer endpoint of a cluster, not the instance that writes now."""

    WRITER = "writer"
    READER = "reader"
    CUSTOM = "custom"
    INSTANCE = "instance"
    PROXY = "proxy"
    LIMITLESS = "limitless"
    GLOBAL = "global"
    IP = "ip"
    SOCKET = "socket"
    OTHER = "other"


_KIND_OF_PREFIX = {
    None: EndpointKind.INSTANCE,
    "cluster": EndpointKind.WRITER,
    "cluster-ro": EndpointKind.READER,
    "cluster-custom": EndpointKind.CUSTOM,
    "proxy": EndpointKind.PROXY,
    "shardgrp": EndpointKind.LIMITLESS,
    "global": EndpointKind.GLOBAL,
}
_NOT_RDS = frozenset({EndpointKind.IP, EndpointKind.SOCKET, EndpointKind.OTHER})
_CLUSTER_KINDS = frozenset({EndpointKind.WRITER, EndpointKind.READER, EndpointKind.CUSTOM, EndpointKind.GLOBAL})
# The endpoints whose <id> is also the one in the names of the cluster's instances. A proxy and a shard group have
# an id of their own, and a global endpoint belongs to several regions.
_ZONED_KINDS = frozenset({EndpointKind.WRITER, EndpointKind.READER, EndpointKind.CUSTOM, EndpointKind.INSTANCE})
_REGION_BEFORE_RDS: tuple[tuple[str, ...], ...] = (("rds", "amazonaws", "com"), ("rds", "amazonaws", "com", "cn"))
_REGION_AFTER_RDS: tuple[tuple[str, ...], ...] = (
    ("amazonaws", "com"),
    ("amazonaws", "com", "cn"),
    ("c2s", "ic", "gov"),
    ("sc2s", "sgov", "gov"),
)
_ID_LABEL = r"(?:(cluster-ro|cluster-custom|cluster|proxy|shardgrp|global)-)?([a-z0-9]+)"
_REGION = r"[a-z0-9-]+"
_NAME_LABEL = r"[^\s.:/?@\[\]]+"
_GREEN = r"(.+)-green-[0-9a-z]{6}"
_PORT = r"[0-9]{1,5}"
_DRIVE = r"[A-Za-z]:[\\/]"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host name, address or socket directory and what its spelling tells.

    `host` is lower-case without trailing dot (a socket directory stays as written, an IPv6 literal has no brackets).
    `name` is the cluster name, the instance id or the name of the proxy, "" where the grammar gives none.
    `zone` is the domain in which the cluster's instances are named, such as `abc.eu-west-1.rds.amazonaws.com`;
    "" where the name does not tell it (proxy, shard group, global, and all that is not RDS).
    """

    host: str
    kind: EndpointKind
    name: str = ""
    zone: str = ""
    region: str = ""

    @property
    def is_rds(self) -> bool:
        return self.kind not in _NOT_RDS

    @property
    def is_cluster(self) -> bool:
        """Writer, reader, custom and global endpoints: names that DNS may point to another host tomorrow."""
        return self.kind in _CLUSTER_KINDS

    @property
    def instance_pattern(self) -> str | None:
        """`?.<zone>`, or None where the names of instances cannot be derived and must not be guessed."""
        return f"?.{self.zone}" if self.zone else None

    @property
    def is_green(self) -> bool:
        """A blue/green deployment's green side: `-green-` and six letters or digits end the first label."""
        return self._tells_deployment and re.fullmatch(_GREEN, self._first_label) is not None

    @property
    def is_old(self) -> bool:
        """A blue/green deployment's retired blue side: `-old1` ends the first label."""
        return self._tells_deployment and self._first_label.endswith("-old1") and self._first_label != "-old1"

    @property
    def cluster_endpoint(self) -> str | None:
        """The writer endpoint of this writer or reader endpoint; None for others, whose name is not the cluster's."""
        if self.kind in (EndpointKind.WRITER, EndpointKind.READER):
            return f"{self.name}.cluster-{self.zone}"
        return None

    def without_green(self) -> Endpoint:
        """The name this endpoint takes over at a blue/green switchover; itself if it is not green."""
        if not self.is_green:
            return self
        label, dot, rest = self.host.partition(".")
        match = re.fullmatch(_GREEN, label)
        return parse_endpoint(f"{match[1]}{dot}{rest}") if match else self

    @property
    def _first_label(self) -> str:
        return self.host.partition(".")[0]

    @property
    def _tells_deployment(self) -> bool:
        # In a domain of the user's own, `shop-green-planet.example.com` says nothing about a deployment.
        return self.kind in _ZONED_KINDS or (self.kind is EndpointKind.OTHER and "." not in self.host)


@functools.lru_cache(maxsize=_REMEMBERED_HOSTS)
def parse_endpoint(host: str) -> Endpoint:
    """Tell what `host` is. Never raises: whatever the grammar does not know is OTHER. Any thread."""
    if host.startswith(("/", "@")) or re.match(_DRIVE, host):
        return Endpoint(host, EndpointKind.SOCKET)
    if host.endswith(".") and not host.endswith(".."):
        host = host[:-1]
    address = _ip_literal(host)
    if address is not None:
        return Endpoint(address, EndpointKind.IP)
    host = host.lower()
    return _rds_endpoint(host) or Endpoint(host, EndpointKind.OTHER, region=_load_balancer_region(host))


def _ip_literal(host: str) -> str | None:
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        return None
    return None if bracketed and address.version == 4 else str(address)


def _rds_endpoint(host: str) -> Endpoint | None:
    labels = tuple(host.split("."))
    domain = _rds_domain(labels)
    if domain is None:
        return None
    region, length = domain
    *names, id_label = labels[:-length]
    match = re.fullmatch(_ID_LABEL, id_label)
    if match is None or not names or not all(re.fullmatch(_NAME_LABEL, name) for name in names):
        return None
    kind = _KIND_OF_PREFIX[match[1]]
    if (region == "global") is not (kind is EndpointKind.GLOBAL):
        return None
    if kind is EndpointKind.GLOBAL:
        commercial = labels[-3:] == _REGION_BEFORE_RDS[0]
        return Endpoint(host, kind, ".".join(names)) if commercial else None
    if kind is EndpointKind.PROXY and len(names) > 1 and names[-1] == "endpoint":
        del names[-1]
    zone = ".".join((match[2], *labels[-length:])) if kind in _ZONED_KINDS else ""
    return Endpoint(host, kind, ".".join(names), zone, region)


def _rds_domain(labels: tuple[str, ...]) -> tuple[str, int] | None:
    """Region of an RDS name, and how many labels at its end stand after the one with the id."""
    for suffix in _REGION_BEFORE_RDS:
        length = len(suffix) + 1
        if len(labels) > length and labels[-len(suffix) :] == suffix and re.fullmatch(_REGION, labels[-length]):
            return labels[-length], length
    for suffix in _REGION_AFTER_RDS:
        length = len(suffix) + 2
        if len(labels) > length and labels[-len(suffix) :] == suffix and labels[-length] == "rds":
            region = labels[1 - length]
            return (region, length) if re.fullmatch(_REGION, region) else None
    return None


def _load_balancer_region(host: str) -> str:
    """`<x>.elb.<region>.amazonaws.com` is no database, but its region is the database's."""
    labels = host.split(".")
    if len(labels) > 4 and labels[-4] == "elb" and labels[-2:] == ["amazonaws", "com"] and labels[0]:
        return labels[-3] if re.fullmatch(_REGION, labels[-3]) else ""
    return ""


@dataclass(frozen=True, slots=True)
class InstancePattern:
    """How a cluster's instances are named: a host name with `?` for the instance id, and a port if all share one."""

    template: str
    port: int | None = None

    def endpoint_of(self, instance_id: str) -> str:
        """The host name of an instance. Raises ValueError if `instance_id` cannot be part of a host name."""
        if not re.fullmatch(_NAME_LABEL, instance_id):
            raise ValueError(f"{instance_id!r} is no instance id: expected one label of a host name")
        return self.template.replace("?", instance_id.lower())

    def __str__(self) -> str:
        return self.template if self.port is None else f"{self.template}:{self.port}"


def parse_instance_pattern(text: str) -> InstancePattern:
    """Read `cluster_instance_host_pattern`: `?.<domain>` or `?.<domain>:<port>`.

    Raises ValueError, with a sentence that says what is wrong, for text without exactly one `?` in its first label, for
    a bad port, and for the domain of a proxy or of a cluster endpoint, in which no instance is named.
    """
    host, colon, port_text = text.strip().lower().partition(":")
    template = host.removesuffix(".")
    labels = template.split(".")
    if "/" in text or "@" in text:
        raise ValueError("expected a host name with `?` for the instance id, not a URL or a path")
    if labels[0].count("?") != 1 or template.count("?") != 1:
        raise ValueError(
            "expected exactly one `?`, in the first label, where the instance id belongs,"
            " such as ?.abc.eu-west-1.rds.amazonaws.com"
        )
    if not all(re.fullmatch(_NAME_LABEL, label.replace("?", "x")) for label in labels):
        raise ValueError("expected a host name of labels with dots between them, with `?` for the instance id")
    if colon and not (re.fullmatch(_PORT, port_text) and 0 < int(port_text) < 65536):
        raise ValueError(f"port {port_text!r}: expected a number from 1 to 65535")
    _refuse_other_kinds(template)
    return InstancePattern(template, int(port_text) if colon else None)


def _refuse_other_kinds(template: str) -> None:
    endpoint = parse_endpoint(template.replace("?", "x"))
    if endpoint.kind is EndpointKind.PROXY:
        raise ValueError("this is the domain of an RDS Proxy; the cluster's instances are named in another one")
    if endpoint.is_rds and endpoint.kind is not EndpointKind.INSTANCE:
        hint = f"; the instances' is {endpoint.instance_pattern}" if endpoint.zone else ""
        raise ValueError(f"this is the domain of a {endpoint.kind.value} endpoint, not of instances{hint}")


def instance_id_of(host: str, pattern: InstancePattern) -> str | None:
    """The instance id in `host`, lower-case, if `host` is named after `pattern`; else None."""
    before, _, after = pattern.template.partition("?")
    name = parse_endpoint(host).host
    if len(name) <= len(before) + len(after) or not (name.startswith(before) and name.endswith(after)):
        return None
    instance_id = name[len(before) : len(name) - len(after)]
    return instance_id if re.fullmatch(_NAME_LABEL, instance_id) else None
