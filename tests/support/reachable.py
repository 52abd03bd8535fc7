"""A billing API on this machine that the pods of a cluster reach, over HTTPS with its own CA."""

from __future__ import annotations

import dataclasses
import ipaddress
import shutil
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stack.trust import development_trust
from support.billing import BillingApi, new_billing_api
from support.cluster import KubernetesCluster
from support.postgres import PostgresServer


@dataclass
class ReachableBillingApi(BillingApi):
    """A billing API that listens on every address; its URL is the one that pods use too."""

    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    @property
    def ca(self) -> bytes:
        return (self.directory / "ca.crt").read_bytes()

    def start(self, **environment: str) -> None:
        super().start(BRINKBYTE_LISTEN_HOST="0.0.0.0", **environment)


def address_for(cluster: KubernetesCluster) -> str:
    """Return the address of this machine that the cluster's node answers to."""
    node = cluster.get("nodes")["items"][0]
    target = next(
        each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((target, 9))
        address: str = probe.getsockname()[0]
    return address


def reachable_billing_api(
    cluster: KubernetesCluster, server: PostgresServer
) -> ReachableBillingApi:
    """Make a billing API of the vendor whose roots the cluster's image carries; not started."""
    made = new_billing_api(server)
    fields = {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}
    api = ReachableBillingApi(**{**fields, "tls": True}, host=address_for(cluster))
    trust = development_trust()
    for source, target in ((trust.directory, api.root_pem.parent), (trust.signing, api.keys)):
        shutil.rmtree(target)
        shutil.copytree(source, target)
    write_certificates(api)
    return api


def write_certificates(api: ReachableBillingApi) -> None:
    """Write ``ca.crt``, ``tls.crt`` and ``tls.key`` into the API's directory."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    now = datetime.now(UTC)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=400))
        )

    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    addresses = {api.host, "127.0.0.1"}
    leaf = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "billing")]), key.public_key())
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address(each)) for each in sorted(addresses)]
            ),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (api.directory / "ca.crt").write_bytes(ca.public_bytes(pem))
    (api.directory / "tls.crt").write_bytes(leaf.public_bytes(pem))
    (api.directory / "tls.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
