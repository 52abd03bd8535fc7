"""The configuration files of a cluster's programs. Pure."""

import json
from typing import Any

from .components import CONTAINERD_SOCKET, DNS_READY_PORT, DOMAIN, HOST_NAME, MAX_PODS, Layout
from .gobuild import PAUSE_IMAGE

Json = dict[str, Any]


def config_files(layout: Layout) -> dict[str, str]:
    """The configuration files, by name."""
    return {
        "containerd.toml": _containerd(layout),
        "cni/10-localkube.conflist": json.dumps(_cni(layout), indent=1),
        "kubelet.json": json.dumps(_kubelet(layout), indent=1),
        "proxy.json": json.dumps(_proxy(layout), indent=1),
        "scheduler.json": json.dumps(_scheduler(layout), indent=1),
        "Corefile": _corefile(layout),
        # Pods that do not ask the cluster's DNS have no other.
        "resolv.conf": "",
    }


def _containerd(layout: Layout) -> str:
    folder = layout.folder
    return f"""version = 2
root = "{folder / "containerd"}"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
max_concurrent_downloads = 3

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{layout.cni}"
conf_dir = "{folder / "config" / "cni"}"
max_conf_num = 1
"""


def _cni(layout: Layout) -> Json:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(layout.subnets.pods)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "/run/cni",
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "localkube", "plugins": [bridge, portmap]}


def _kubelet(layout: Layout) -> Json:
    pki = layout.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [str(layout.subnets.dns_service_ip)],
        "clusterDomain": DOMAIN,
        "resolvConf": str(layout.folder / "config" / "resolv.conf"),
        "podLogsDir": str(layout.folder / "pod-logs"),
        "volumePluginDir": str(layout.folder / "kubelet-plugins"),
        "maxPods": MAX_PODS,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "enforceNodeAllocatable": [],
        "evictionHard": {},
        "localStorageCapacityIsolation": False,
        "failSwapOn": False,
        "failCgroupV1": False,
        # The machine may lack CAP_SYS_RESOURCE, and its settings are not ours to change.
        "featureGates": {"KubeletInUserNamespace": True},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "imageMaximumGCAge": "0s",
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "serializeImagePulls": False,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        # Changed Secrets and ConfigMaps reach their volumes at this pace.
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "5s",
        "shutdownGracePeriod": "0s",
        "enableProfilingHandler": False,
    }


def _proxy(layout: Layout) -> Json:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": layout.node,
        "clusterCIDR": str(layout.subnets.pods),
        "clientConnection": {
            "kubeconfig": str(layout.kubeconfig("proxy")),
            "qps": 100,
            "burst": 200,
        },
        "iptables": {"minSyncPeriod": "100ms", "syncPeriod": "30s", "localhostNodePorts": False},
        # These belong to the host's first network namespace.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def _scheduler(layout: Layout) -> Json:
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {
            "kubeconfig": str(layout.kubeconfig("scheduler")),
            "qps": 200,
            "burst": 400,
        },
        "leaderElection": {"leaderElect": False},
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": 3,
    }


def _corefile(layout: Layout) -> str:
    return f""".:53 {{
    bind {layout.subnets.node_ip}
    errors
    ready {layout.subnets.node_ip}:{DNS_READY_PORT}
    hosts {{
        {layout.subnets.host_ip} {HOST_NAME}
        ttl 30
        fallthrough
    }}
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {layout.kubeconfig("coredns")}
        pods insecure
        ttl 5
    }}
    cache {{
        success 9984 5
        denial 9984 1
    }}
}}
"""
