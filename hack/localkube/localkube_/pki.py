"""The certificates of one cluster, made by openssl. Valid for a year."""

import base64
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .shell import run

DAYS = 365


@dataclass(frozen=True)
class Certificate:
    """One certificate.

    Attributes:
        name: Name of its files.
        subject: As openssl takes it, as in ``/O=system:nodes/CN=system:node:a``.
        names: Subject alternative names; with any it is a server's certificate too.
        authority: Name of the CA that signs it.
    """

    name: str
    subject: str
    names: tuple[str, ...] = ()
    authority: str = "ca"

    def extensions(self) -> str:
        """The configuration file that openssl makes it from."""
        usage = "clientAuth, serverAuth" if self.names else "clientAuth"
        lines = [
            "[req]",
            "distinguished_name = dn",
            "x509_extensions = ext",
            "prompt = no",
            "[dn]",
            "[ext]",
            "basicConstraints = critical, CA:FALSE",
            "keyUsage = critical, digitalSignature, keyEncipherment",
            f"extendedKeyUsage = {usage}",
        ]
        if self.names:
            lines.append(f"subjectAltName = {', '.join(self.names)}")
        return "\n".join(lines) + "\n"


_AUTHORITY_CONFIG = """[req]
distinguished_name = dn
x509_extensions = ext
prompt = no
[dn]
[ext]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign, digitalSignature
subjectKeyIdentifier = hash
"""


def certificates(node: str, node_ip: str, service_ip: str) -> Sequence[Certificate]:
    """What every program of a cluster shows the others."""
    return (
        Certificate(
            "apiserver",
            "/CN=kube-apiserver",
            (
                "DNS:kubernetes",
                "DNS:kubernetes.default",
                "DNS:kubernetes.default.svc",
                "DNS:kubernetes.default.svc.cluster.local",
                "DNS:localhost",
                f"DNS:{node}",
                f"IP:{node_ip}",
                f"IP:{service_ip}",
                "IP:127.0.0.1",
            ),
        ),
        Certificate(
            "kubelet",
            f"/O=system:nodes/CN=system:node:{node}",
            (f"DNS:{node}", f"IP:{node_ip}", "IP:127.0.0.1"),
        ),
        Certificate("apiserver-kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet"),
        Certificate("front-proxy-client", "/CN=front-proxy-client", authority="front-proxy-ca"),
        Certificate("admin", "/O=system:masters/CN=kubernetes-admin"),
        Certificate("controller-manager", "/CN=system:kube-controller-manager"),
        Certificate("scheduler", "/CN=system:kube-scheduler"),
        Certificate("proxy", "/CN=system:kube-proxy"),
        Certificate("coredns", "/CN=system:coredns"),
        Certificate("provisioner", "/CN=system:folder-provisioner"),
    )


def write_pki(folder: Path, wanted: Sequence[Certificate]) -> None:
    """Make two authorities, the certificates and the key that signs service accounts."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / "authority.cnf").write_text(_AUTHORITY_CONFIG)
    with ThreadPoolExecutor(4) as pool:
        authorities = [pool.submit(_authority, folder, name) for name in ("ca", "front-proxy-ca")]
        signer = pool.submit(_service_account_key, folder)
        for done in (*authorities, signer):
            done.result()
        list(pool.map(lambda certificate: _sign(folder, certificate), wanted))


def _new_key(folder: Path, name: str) -> list[str]:
    return [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-sha256", "-days", str(DAYS),
        "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt"),
    ]  # fmt: skip


def _authority(folder: Path, name: str) -> None:
    config = str(folder / "authority.cnf")
    run([*_new_key(folder, name), "-config", config, "-subj", f"/CN=localkube-{name}"])


def _sign(folder: Path, certificate: Certificate) -> None:
    config = folder / f"{certificate.name}.cnf"
    config.write_text(certificate.extensions())
    authority = folder / certificate.authority
    run(
        [
            *_new_key(folder, certificate.name),
            "-config", str(config), "-subj", certificate.subject,
            "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key",
        ]
    )  # fmt: skip


def _service_account_key(folder: Path) -> None:
    key = folder / "service-accounts.key"
    run(["openssl", "genrsa", "-out", str(key), "2048"])
    run(["openssl", "rsa", "-in", str(key), "-pubout", "-out", str(key.with_suffix(".pub"))])


def kubeconfig(folder: Path, user: str, server: str, name: str) -> str:
    """A kubeconfig with everything inside it. JSON, which is YAML too.

    Args:
        folder: Where the certificates are.
        user: Whose certificate to put into it.
        server: The API server's URL.
        name: What cluster, user and context are called.
    """

    def data(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    cluster = {"server": server, "certificate-authority-data": data("ca.crt")}
    credentials = {
        "client-certificate-data": data(f"{user}.crt"),
        "client-key-data": data(f"{user}.key"),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": credentials}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
        "preferences": {},
    }
    return json.dumps(document, indent=2) + "\n"
