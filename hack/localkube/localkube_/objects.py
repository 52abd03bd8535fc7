"""The objects that every cluster has from the start. Pure."""

from typing import Any

from .components import PROVISIONER_NAME, Layout

Json = dict[str, Any]


def first_objects(layout: Layout) -> list[tuple[str, Json]]:
    """The objects that every cluster has from the start: (collection's path, object)."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    ports = [("dns", "UDP", 53), ("dns-tcp", "TCP", 53)]
    return [
        (
            f"{rbac}/clusterroles",
            {
                "metadata": {"name": "system:coredns"},
                "rules": [
                    {
                        "apiGroups": [""],
                        "resources": ["endpoints", "services", "pods", "namespaces"],
                        "verbs": ["list", "watch"],
                    },
                    {
                        "apiGroups": ["discovery.k8s.io"],
                        "resources": ["endpointslices"],
                        "verbs": ["list", "watch"],
                    },
                ],
            },
        ),
        _binding("system:coredns", "system:coredns"),
        _binding("system:folder-provisioner", "system:persistent-volume-provisioner"),
        (
            "/apis/storage.k8s.io/v1/storageclasses",
            {
                "metadata": {
                    "name": "standard",
                    "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
                },
                "provisioner": PROVISIONER_NAME,
                "reclaimPolicy": "Delete",
                "volumeBindingMode": "WaitForFirstConsumer",
            },
        ),
        (
            "/api/v1/namespaces/kube-system/services",
            {
                "metadata": {
                    "name": "kube-dns",
                    "namespace": "kube-system",
                    "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"},
                },
                "spec": {
                    "clusterIP": str(layout.subnets.dns_service_ip),
                    "ports": [
                        {"name": name, "protocol": protocol, "port": port}
                        for name, protocol, port in ports
                    ],
                },
            },
        ),
        (
            "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices",
            {
                "metadata": {
                    "name": "kube-dns-node",
                    "namespace": "kube-system",
                    "labels": {
                        "kubernetes.io/service-name": "kube-dns",
                        "endpointslice.kubernetes.io/managed-by": "localkube",
                    },
                },
                "addressType": "IPv4",
                "endpoints": [
                    {"addresses": [str(layout.subnets.node_ip)], "conditions": {"ready": True}}
                ],
                "ports": [
                    {"name": name, "protocol": protocol, "port": port}
                    for name, protocol, port in ports
                ],
            },
        ),
    ]


def _binding(user: str, role: str) -> tuple[str, Json]:
    return (
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        {
            "metadata": {"name": user},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": role,
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        },
    )
