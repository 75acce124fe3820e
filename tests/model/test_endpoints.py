"""The grammar of endpoint names as a table, its helpers, and generated round trips."""

from __future__ import annotations

import string
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aurora_actors.model.endpoints import (
    Endpoint,
    EndpointKind,
    InstancePattern,
    instance_id_of,
    parse_endpoint,
    parse_instance_pattern,
)

K = EndpointKind
# On a busy machine an example may take long for no fault of its own.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Partition: what stands after the label with the id, and the region in it.
PARTITIONS = (
    ("eu-west-1.rds.amazonaws.com", "eu-west-1"),
    ("us-gov-west-1.rds.amazonaws.com", "us-gov-west-1"),
    ("cn-north-1.rds.amazonaws.com.cn", "cn-north-1"),
    ("rds.cn-northwest-1.amazonaws.com.cn", "cn-northwest-1"),
    ("rds.us-gov-east-1.amazonaws.com", "us-gov-east-1"),
    ("rds.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
    ("rds.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1"),
)
# Leading part, kind, name, whether the names of instances follow.
NAMES = (
    ("orders.cluster-xyz1", K.WRITER, "orders", True),
    ("orders.cluster-ro-xyz1", K.READER, "orders", True),
    ("reports.cluster-custom-xyz1", K.CUSTOM, "reports", True),
    ("orders-1.xyz1", K.INSTANCE, "orders-1", True),
    ("pool.proxy-xyz1", K.PROXY, "pool", False),
    ("pool-ro.endpoint.proxy-xyz1", K.PROXY, "pool-ro", False),
    ("shards.shardgrp-xyz1", K.LIMITLESS, "shards", False),
    ("endpoint.proxy-xyz1", K.PROXY, "endpoint", False),
)


@pytest.mark.parametrize(("domain", "region"), PARTITIONS)
@pytest.mark.parametrize(("leading", "kind", "name", "zoned"), NAMES)
def test_every_kind_in_every_partition(
    leading: str, kind: EndpointKind, name: str, zoned: bool, domain: str, region: str
) -> None:
    host = f"{leading}.{domain}"
    zone = f"xyz1.{domain}" if zoned else ""
    expected = Endpoint(host, kind, name, zone, region)
    assert parse_endpoint(host) == expected
    assert parse_endpoint(f"{host}.") == expected
    assert parse_endpoint(host.upper()) == expected
    assert expected.is_rds
    assert expected.instance_pattern == (f"?.xyz1.{domain}" if zoned else None)


@pytest.mark.parametrize(
    ("host", "is_cluster"),
    [
        ("o.cluster-x.eu-west-1.rds.amazonaws.com", True),
        ("o.cluster-ro-x.eu-west-1.rds.amazonaws.com", True),
        ("o.cluster-custom-x.eu-west-1.rds.amazonaws.com", True),
        ("o.global-x.global.rds.amazonaws.com", True),
        ("o.x.eu-west-1.rds.amazonaws.com", False),
        ("o.proxy-x.eu-west-1.rds.amazonaws.com", False),
        ("o.shardgrp-x.eu-west-1.rds.amazonaws.com", False),
        ("10.0.0.1", False),
        ("db.example.com", False),
    ],
)
def test_which_kinds_are_clusters(host: str, is_cluster: bool) -> None:
    assert parse_endpoint(host).is_cluster is is_cluster


def test_a_global_endpoint_has_no_region_and_no_zone() -> None:
    host = "Shop.Global-abc.global.rds.amazonaws.com."
    assert parse_endpoint(host) == Endpoint(host.lower()[:-1], K.GLOBAL, "shop")


@pytest.mark.parametrize(
    ("literal", "host"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1.", "10.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[2001:DB8:0:0::5]", "2001:db8::5"),
        ("fe80::1%Eth0", "fe80::1%Eth0"),
        ("[fe80::1%eth0]", "fe80::1%eth0"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
    ],
)
def test_addresses(literal: str, host: str) -> None:
    found = parse_endpoint(literal)
    assert found.kind is K.IP
    assert IPv6Address(found.host) == IPv6Address(host) if ":" in host else found.host == host
    assert (found.name, found.zone, found.region, found.is_rds) == ("", "", "", False)


def test_the_scope_of_an_address_keeps_its_case() -> None:
    assert parse_endpoint("FE80::1%Eth0").host == "fe80::1%Eth0"


@pytest.mark.parametrize("path", ["/var/run/Postgresql", "/tmp.", "@abstract", r"C:\Temp", "d:/run"])
def test_socket_directories_stay_as_written(path: str) -> None:
    assert parse_endpoint(path) == Endpoint(path, K.SOCKET)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "localhost",
        "db.example.com",
        "10.0.0.1.example.com",
        "10.0.0.256",
        "[10.0.0.1]",
        "[::1",
        "c:relative",
        "rds.amazonaws.com",
        "eu-west-1.rds.amazonaws.com",
        "abc.eu-west-1.rds.amazonaws.com",
        "cluster-abc.eu-west-1.rds.amazonaws.com",
        ".cluster-abc.eu-west-1.rds.amazonaws.com",
        "o..cluster-abc.eu-west-1.rds.amazonaws.com",
        "o.cluster-abc.eu-west-1.rds.amazonaws.com..",
        "o.cluster-.eu-west-1.rds.amazonaws.com",
        "o.cluster-a-b.eu-west-1.rds.amazonaws.com",
        "o.clusters-abc.eu-west-1.rds.amazonaws.com",
        "o.cluster-abc.eu_west.rds.amazonaws.com",
        "o.cluster-abc..rds.amazonaws.com",
        "o.cluster-abc.eu-west-1.rds.amazonaws.com.example.com",
        "o.cluster-abc.eu-west-1.rds.amazonaws.org",
        "o.cluster-abc.eu-west-1.rdsxamazonaws.com",
        "o.cluster-abc.rds.us-iso-east-1.ic.gov",
        "o.global-abc.eu-west-1.rds.amazonaws.com",
        "o.cluster-abc.global.rds.amazonaws.com",
        "o.abc.global.rds.amazonaws.com",
        "o.global-abc.global.rds.amazonaws.com.cn",
        "o w.cluster-abc.eu-west-1.rds.amazonaws.com",
        "http://o.cluster-abc.eu-west-1.rds.amazonaws.com",
        "o.cluster-абв.eu-west-1.rds.amazonaws.com",
    ],
)
def test_everything_else_is_other(host: str) -> None:
    found = parse_endpoint(host)
    assert found.kind is K.OTHER
    assert (found.name, found.zone, found.region) == ("", "", "")
    assert not found.is_rds
    assert found.instance_pattern is None
    assert found.cluster_endpoint is None


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("db-12ab.elb.eu-west-1.amazonaws.com", "eu-west-1"),
        ("DB-12ab.elb.EU-WEST-1.amazonaws.com.", "eu-west-1"),
        ("elb.eu-west-1.amazonaws.com", ""),
        ("db.eu-west-1.elb.amazonaws.com", ""),
    ],
)
def test_a_load_balancer_tells_its_region_alone(host: str, region: str) -> None:
    found = parse_endpoint(host)
    assert (found.kind, found.region, found.zone) == (K.OTHER, region, "")


@pytest.mark.parametrize(
    ("host", "green", "old", "without"),
    [
        ("o-green-a1b2c3.cluster-x.eu-west-1.rds.amazonaws.com", True, False,
         "o.cluster-x.eu-west-1.rds.amazonaws.com"),
        ("O-GREEN-A1B2C3.x.eu-west-1.rds.amazonaws.com.", True, False, "o.x.eu-west-1.rds.amazonaws.com"),
        ("o-green-a1b2c3", True, False, "o"),
        ("o-green-a1b2c3-green-d4e5f6", True, False, "o-green-a1b2c3"),
        ("o-old1.cluster-x.eu-west-1.rds.amazonaws.com", False, True, None),
        ("o-1-old1", False, True, None),
        ("o-green-a1b2c.x.eu-west-1.rds.amazonaws.com", False, False, None),
        ("o-green-a1b2c34", False, False, None),
        ("-green-a1b2c3", False, False, None),
        ("-old1", False, False, None),
        ("o-old2", False, False, None),
        ("shop-green-planet.example.com", False, False, None),
        ("shop-old1.example.com", False, False, None),
        ("pool-green-a1b2c3.proxy-x.eu-west-1.rds.amazonaws.com", False, False, None),
    ],
)  # fmt: skip
def test_the_names_of_blue_green_deployments(host: str, green: bool, old: bool, without: str | None) -> None:
    found = parse_endpoint(host)
    assert (found.is_green, found.is_old) == (green, old)
    assert found.without_green() == (found if without is None else parse_endpoint(without))


@pytest.mark.parametrize(
    ("host", "writer"),
    [
        ("o.cluster-ro-x.eu-west-1.rds.amazonaws.com", "o.cluster-x.eu-west-1.rds.amazonaws.com"),
        ("o.cluster-x.eu-west-1.rds.amazonaws.com", "o.cluster-x.eu-west-1.rds.amazonaws.com"),
        ("o.cluster-ro-x.rds.cn-north-1.amazonaws.com.cn", "o.cluster-x.rds.cn-north-1.amazonaws.com.cn"),
        ("r.cluster-custom-x.eu-west-1.rds.amazonaws.com", None),
        ("o-1.x.eu-west-1.rds.amazonaws.com", None),
        ("o.proxy-x.eu-west-1.rds.amazonaws.com", None),
    ],
)
def test_the_writer_endpoint_of_a_cluster(host: str, writer: str | None) -> None:
    assert parse_endpoint(host).cluster_endpoint == writer


@pytest.mark.parametrize(
    ("text", "template", "port"),
    [
        ("?.abc.eu-west-1.rds.amazonaws.com", "?.abc.eu-west-1.rds.amazonaws.com", None),
        (" ?.ABC.eu-west-1.rds.amazonaws.com. ", "?.abc.eu-west-1.rds.amazonaws.com", None),
        ("?.db.example.com:5433", "?.db.example.com", 5433),
        ("?.db.example.com.:5433", "?.db.example.com", 5433),
        ("db-?-x.example.com", "db-?-x.example.com", None),
        ("?", "?", None),
        ("?.rds.cn-north-1.amazonaws.com.cn", "?.rds.cn-north-1.amazonaws.com.cn", None),
    ],
)
def test_patterns(text: str, template: str, port: int | None) -> None:
    pattern = parse_instance_pattern(text)
    assert pattern == InstancePattern(template, port)
    assert parse_instance_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "exactly one `?`"),
        ("db.example.com", "exactly one `?`"),
        ("??.example.com", "exactly one `?`"),
        ("db.?.example.com", "in the first label"),
        ("?.?.example.com", "exactly one `?`"),
        ("?..example.com", "labels"),
        ("? .example.com", "labels"),
        ("?.example.com:", "port"),
        ("?.example.com:0", "1 to 65535"),
        ("?.example.com:65536", "1 to 65535"),
        ("?.example.com:00000165000", "1 to 65535"),
        ("?.example.com:٣", "port"),
        ("?.example.com:5432:5432", "port"),
        ("postgresql://u:p@?.example.com", "not a URL"),
        ("/tmp/?", "not a URL or a path"),
        ("?.proxy-abc.eu-west-1.rds.amazonaws.com", "RDS Proxy"),
        ("?.endpoint.proxy-abc.eu-west-1.rds.amazonaws.com:5432", "RDS Proxy"),
        ("?.cluster-custom-abc.eu-west-1.rds.amazonaws.com", "?.abc.eu-west-1.rds.amazonaws.com"),
        ("?.cluster-abc.eu-west-1.rds.amazonaws.com", "writer endpoint"),
        ("?.cluster-ro-abc.eu-west-1.rds.amazonaws.com", "reader endpoint"),
        ("?.global-abc.global.rds.amazonaws.com", "global endpoint"),
    ],
)
def test_bad_patterns(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-z]") as caught:
        parse_instance_pattern(text)
    assert sentence in str(caught.value)


def test_a_pattern_names_instances() -> None:
    pattern = parse_instance_pattern("db-?.example.com:5433")
    assert pattern.endpoint_of("Orders-1") == "db-orders-1.example.com"


@pytest.mark.parametrize("instance_id", ["", "a.b", "a b", "a?", "a:5432", "a/b", "u@h", "a\n"])
def test_what_is_no_instance_id_makes_no_host_name(instance_id: str) -> None:
    with pytest.raises(ValueError, match="no instance id"):
        parse_instance_pattern("?.example.com").endpoint_of(instance_id)


@pytest.mark.parametrize(
    ("host", "pattern", "instance_id"),
    [
        ("Orders-1.abc.eu-west-1.rds.amazonaws.com.", "?.abc.eu-west-1.rds.amazonaws.com", "orders-1"),
        ("db-7.example.com", "db-?.example.com:5433", "7"),
        ("db-.example.com", "db-?.example.com", None),
        ("a.b.example.com", "?.example.com", None),
        ("example.com", "?.example.com", None),
        (".example.com", "?.example.com", None),
        ("orders.cluster-abc.eu-west-1.rds.amazonaws.com", "?.abc.eu-west-1.rds.amazonaws.com", None),
        ("aba.example.com", "ab?ba.example.com", None),
        ("orders-1", "?", "orders-1"),
        ("10.0.0.1", "?", None),
        ("::1", "?", None),
        ("/tmp", "?", None),
    ],
)
def test_the_instance_id_in_a_host_name(host: str, pattern: str, instance_id: str | None) -> None:
    assert instance_id_of(host, parse_instance_pattern(pattern)) == instance_id


_ALNUM = string.ascii_lowercase + string.digits
_IDS = st.text(_ALNUM, min_size=1, max_size=20)
_LABELS = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,8}){0,3}", fullmatch=True)
_REGIONS = st.from_regex(r"[a-z]{2}-[a-z]{4,9}-[1-9]", fullmatch=True)
_FORMS = st.sampled_from(
    ["{r}.rds.amazonaws.com", "{r}.rds.amazonaws.com.cn", "rds.{r}.amazonaws.com.cn", "rds.{r}.amazonaws.com",
     "rds.{r}.c2s.ic.gov", "rds.{r}.sc2s.sgov.gov"]
)  # fmt: skip
_KINDS = st.sampled_from(
    [("", K.INSTANCE), ("cluster-", K.WRITER), ("cluster-ro-", K.READER), ("cluster-custom-", K.CUSTOM)]
)


@untimed
@given(_LABELS, _KINDS, _IDS, _REGIONS, _FORMS)
def test_what_is_put_together_is_taken_apart(
    name: str, kind: tuple[str, EndpointKind], zone_id: str, region: str, form: str
) -> None:
    domain = form.format(r=region)
    found = parse_endpoint(f"{name}.{kind[0]}{zone_id}.{domain}")
    assert found == Endpoint(f"{name}.{kind[0]}{zone_id}.{domain}", kind[1], name, f"{zone_id}.{domain}", region)
    pattern = parse_instance_pattern(found.instance_pattern or "")
    assert instance_id_of(pattern.endpoint_of(name), pattern) == name
    assert parse_endpoint(pattern.endpoint_of(name)).zone == found.zone


@untimed
@given(_LABELS, st.text(_ALNUM, min_size=6, max_size=6), _IDS, _REGIONS)
def test_green_names_lead_back(name: str, suffix: str, zone_id: str, region: str) -> None:
    blue = parse_endpoint(f"{name}.cluster-ro-{zone_id}.{region}.rds.amazonaws.com")
    green = parse_endpoint(f"{name}-green-{suffix}.cluster-ro-{zone_id}.{region}.rds.amazonaws.com")
    assert green.is_green
    assert green.without_green() == blue


@untimed
@given(st.one_of(st.text(), st.text("a.-:[]?%/@cluster0"), st.from_regex(r"([a-zA-Z0-9-]*\.){3,7}[a-z.]*")))
def test_parsing_never_raises_and_the_host_parses_to_the_same(text: str) -> None:
    found = parse_endpoint(text)
    assert parse_endpoint(found.host) == found
    assert found.without_green().is_green in (False, True)
    assert bool(found.instance_pattern) == bool(found.zone)


@untimed
@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_every_address_is_one(address: IPv4Address | IPv6Address) -> None:
    assert parse_endpoint(str(address)) == Endpoint(str(address), K.IP)


@untimed
@given(st.text())
def test_a_pattern_that_is_read_reads_the_same_again(text: str) -> None:
    try:
        pattern = parse_instance_pattern(text)
    except ValueError:
        return
    assert parse_instance_pattern(str(pattern)) == pattern
