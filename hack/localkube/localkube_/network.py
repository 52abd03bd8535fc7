"""Subnets of clusters, and the one link that ties a cluster to the host."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from .report import LocalkubeError
from .shell import run, succeeds

# A cluster takes a /20: pods, services, and the two ends of its link.
_RANGES = ("10.240.0.0/15", "10.180.0.0/15", "172.28.0.0/15", "192.168.192.0/18")
NODE_LINK = "eth0"


@dataclass(frozen=True)
class Subnets:
    """The addresses of one cluster; everything follows from its block.

    Attributes:
        block: The /20 that all of it lies in.
    """

    block: IPv4Network

    def _part(self, offset: int, prefix: int) -> IPv4Network:
        return IPv4Network((int(self.block.network_address) + offset, prefix))

    @property
    def pods(self) -> IPv4Network:
        """Addresses of pods."""
        return self._part(0, 22)

    @property
    def services(self) -> IPv4Network:
        """Virtual addresses of services."""
        return self._part(4 * 256, 22)

    @property
    def link(self) -> IPv4Network:
        """Addresses of the link between host and cluster."""
        return self._part(8 * 256, 30)

    @property
    def host_ip(self) -> IPv4Address:
        """The host's end of the link; pods reach servers on the host here."""
        return self.link[1]

    @property
    def node_ip(self) -> IPv4Address:
        """The cluster's end: API server, kubelet, DNS, node ports."""
        return self.link[2]

    @property
    def api_service_ip(self) -> IPv4Address:
        """Virtual address of the API server."""
        return self.services[1]

    @property
    def dns_service_ip(self) -> IPv4Address:
        """Virtual address of the cluster's DNS."""
        return self.services[10]


def choose(taken: Iterable[IPv4Network]) -> Subnets:
    """The first block that overlaps nothing that is taken.

    Raises:
        LocalkubeError: All are taken.
    """
    busy = [network for network in taken if network.prefixlen > 0]
    for text in _RANGES:
        for block in IPv4Network(text).subnets(new_prefix=20):
            if not any(block.overlaps(network) for network in busy):
                return Subnets(block)
    raise LocalkubeError(
        f"no subnet is free in {', '.join(_RANGES)}; delete a cluster or a route of the host"
    )


def host_routes(table: Path = Path("/proc/net/route")) -> Iterator[IPv4Network]:
    """The networks that the host has routes to."""
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(f), "little") for f in (fields[1], fields[7]))
        yield IPv4Network((address, mask.bit_count()))


def add_link(name: str, subnets: Subnets, pid: int, alias: str) -> None:
    """Tie the network namespace of a process to the host, both ways.

    Args:
        name: The host end's name.
        subnets: The cluster's addresses.
        pid: A process in the namespace.
        alias: Shown by `ip link`, so that a person knows what it is.
    """
    run(["ip", "link", "add", name, "type", "veth", "peer", "name", NODE_LINK, "netns", str(pid)])
    run(["ip", "link", "set", name, "alias", alias, "up"])
    run(["ip", "address", "add", f"{subnets.host_ip}/{subnets.link.prefixlen}", "dev", name])
    via = ["via", str(subnets.node_ip), "dev", name, "onlink"]
    for network in (subnets.pods, subnets.services):
        run(["ip", "route", "add", str(network), *via])


def remove_link(name: str) -> None:
    """Remove a link, its other end and its routes; fine if it is not there."""
    link = Path(f"/sys/class/net/{name}")
    # It goes by itself when the last process of the namespace ends, perhaps meanwhile.
    if link.exists() and not succeeds(["ip", "link", "delete", name]) and link.exists():
        raise LocalkubeError(f"link {name} cannot be removed; try `ip link delete {name}`")


def links() -> list[str]:
    """The names of the host's links."""
    return sorted(link.name for link in Path("/sys/class/net").iterdir())
