"""What runs on a cluster's node: programs and their flags. Pure."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .network import NODE_LINK, Subnets

PROVISIONER_NAME = "localkube.brinkbyte.io/folder"
API_PORT = 6443
DNS_READY_PORT = 8181
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
DOMAIN = "cluster.local"
HOST_NAME = "host.localkube.internal"
MAX_PODS = 110
# The kernel settings that kubelet wants to find, or else sets on the host.
KUBELET_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}

Json = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """The facts of one cluster that its configuration is made from.

    Attributes:
        folder: The cluster's folder.
        name: The cluster's name.
        subnets: Its addresses.
        cgroup: Its root control group, without a slash.
        kube: The folder of the Kubernetes programs.
        coredns: CoreDNS.
        provisioner: The storage provisioner.
        containerd: containerd.
        cni: The folder of the network plugins.
    """

    folder: Path
    name: str
    subnets: Subnets
    cgroup: str
    kube: Path
    coredns: Path
    provisioner: Path
    containerd: str
    cni: Path

    @property
    def node(self) -> str:
        """The node's name, as kind names it."""
        return f"{self.name}-control-plane"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.subnets.node_ip}:{API_PORT}"

    @property
    def pki(self) -> Path:
        """The folder of the certificates."""
        return self.folder / "pki"

    @property
    def logs(self) -> Path:
        """The folder of the programs' logs."""
        return self.folder / "logs"

    @property
    def volumes(self) -> Path:
        """The folder of the volumes that claims get."""
        return self.folder / "volumes"

    @property
    def objects_file(self) -> Path:
        """There as soon as the cluster's first objects are."""
        return self.folder / "objects-applied"

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig of one of the programs."""
        return self.pki / f"{user}.kubeconfig"


@dataclass(frozen=True)
class NodeProgram:
    """One program, and what has to be true before it starts."""

    name: str
    argv: list[str]
    after: str | None = None
    env: dict[str, str] = field(default_factory=dict)

    def spec(self) -> Json:
        """As the supervisor reads it."""
        return {"name": self.name, "argv": self.argv, "after": self.after, "env": self.env}


def programs(layout: Layout) -> list[NodeProgram]:
    """Everything that runs, in the order of starting."""
    kube = layout.kube
    config = layout.folder / "config"
    return [
        NodeProgram("etcd", _etcd(layout), env={"GOGC": "200"}),
        NodeProgram("containerd", [layout.containerd, "--config", str(config / "containerd.toml")]),
        NodeProgram("kube-apiserver", _apiserver(layout), env={"GOGC": "200"}),
        NodeProgram("kube-controller-manager", _controller_manager(layout), "apiserver"),
        NodeProgram(
            "kube-scheduler",
            [str(kube / "kube-scheduler"), f"--config={config / 'scheduler.json'}"],
            "apiserver",
        ),
        NodeProgram(
            "kubelet",
            [
                str(kube / "kubelet"),
                f"--config={config / 'kubelet.json'}",
                f"--kubeconfig={layout.kubeconfig('kubelet')}",
                f"--root-dir={layout.folder / 'kubelet'}",
                f"--hostname-override={layout.node}",
                f"--node-ip={layout.subnets.node_ip}",
            ],
            "apiserver",
        ),
        NodeProgram(
            "kube-proxy",
            [str(kube / "kube-proxy"), f"--config={config / 'proxy.json'}"],
            "apiserver",
        ),
        NodeProgram("coredns", [str(layout.coredns), "-conf", str(config / "Corefile")], "objects"),
        NodeProgram(
            "provisioner",
            [
                str(layout.provisioner),
                f"--kubeconfig={layout.kubeconfig('provisioner')}",
                f"--name={PROVISIONER_NAME}",
                f"--root={layout.volumes}",
                f"--node={layout.node}",
            ],
            "objects",
        ),
    ]


def _etcd(layout: Layout) -> list[str]:
    return [
        str(layout.kube / "etcd"),
        f"--data-dir={layout.folder / 'etcd'}",
        # The cluster does not outlive the machine, so nothing is gained by waiting for disks.
        "--unsafe-no-fsync",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
        "--quota-backend-bytes=4294967296",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=10m",
        "--log-level=warn",
    ]


def _apiserver(layout: Layout) -> list[str]:
    pki = layout.pki
    return [
        str(layout.kube / "kube-apiserver"),
        f"--advertise-address={layout.subnets.node_ip}",
        f"--secure-port={API_PORT}",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--service-cluster-ip-range={layout.subnets.services}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        f"--service-account-key-file={pki / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        "--max-requests-inflight=3000",
        "--max-mutating-requests-inflight=2000",
        "--profiling=false",
    ]


def _controller_manager(layout: Layout) -> list[str]:
    pki = layout.pki
    kubeconfig = layout.kubeconfig("controller-manager")
    # Defaults are for many nodes and one control plane that others share; here a test
    # creates and removes hundreds of objects at once and waits for them.
    workers = {
        "deployment": 10,
        "replicaset": 10,
        "statefulset": 10,
        "job": 10,
        "cron-job": 10,
        "namespace": 20,
        "gc": 40,
        "endpoint": 10,
        "service-endpoint": 10,
    }
    return [
        str(layout.kube / "kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        f"--service-account-private-key-file={pki / 'service-accounts.key'}",
        f"--service-cluster-ip-range={layout.subnets.services}",
        f"--cluster-cidr={layout.subnets.pods}",
        "--allocate-node-cidrs=false",
        "--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        *(f"--concurrent-{name}-syncs={count}" for name, count in workers.items()),
    ]


def node_file(layout: Layout) -> Json:
    """What the supervisor reads."""
    return {
        "link": NODE_LINK,
        "address": f"{layout.subnets.node_ip}/{layout.subnets.link.prefixlen}",
        "kubeletSysctls": KUBELET_SYSCTLS,
        "sysctls": {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"},
        "folders": ["/run/containerd", "/run/cni", "/run/lock", "/var/lib/cni"],
        "logs": str(layout.logs),
        "ca": str(layout.pki / "ca.crt"),
        "readyUrl": f"{layout.server}/readyz",
        "objectsFile": str(layout.objects_file),
        "programs": [program.spec() for program in programs(layout)],
    }
