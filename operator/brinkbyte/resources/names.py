"""Names that operator, instance, reporter and charts agree on.

A resource's name has at most 32 characters and our suffixes at most 20: CronJob and StatefulSet
names end at 52 (their children append to them).
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "vision.brinkbyte.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
MAX_NAME_LENGTH: Final = 32
MAX_SUFFIX_LENGTH: Final = 20

# Labels of our children. Never the parent's: GitOps tools prune what carries their labels.
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "brinkbyte-operator"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_OWNER_KIND: Final = f"{GROUP}/owner-kind"
LABEL_OWNER_NAME: Final = f"{GROUP}/owner-name"
LABEL_TENANT: Final = f"{GROUP}/tenant"
LABEL_CUSTOMER: Final = f"{GROUP}/customer"
ANNOTATION_CREDENTIALS: Final = f"{GROUP}/credentials-hash"
FIELD_MANAGER: Final = "brinkbyte-operator"
FINALIZER: Final = f"{GROUP}/instance"
ENROLLMENT_SECRET_TYPE: Final = f"{GROUP}/enrollment"
ENROLLMENT_TOKEN_KEY: Final = "token"  # noqa: S105 - the name of a key, not a secret
CA_KEY: Final = "ca.crt"
# The Secret that spec.license.bundleSecretRef names (see ``bundles``).
BUNDLE_SECRET_TYPE: Final = f"{GROUP}/bundle"
BUNDLE_KEY: Final = "bundle.json"
BUNDLE_PARTS_KEY: Final = "parts"

# Children of a Tenant: f"{tenant}{SUFFIX}".
LICENSE_SUFFIX: Final = "-btn-license"
IDENTITY_SUFFIX: Final = "-btn-identity"
ACCESS_SUFFIX: Final = "-btn-access"
DEVICES_SUFFIX: Final = "-btn-devices"
REQUEST_SUFFIX: Final = "-btn-request"
POSTGRES_SUFFIX: Final = "-btn-postgres"
REDIS_SUFFIX: Final = "-btn-redis"
TRITON_SUFFIX: Final = "-btn-triton"
INSTANCE_SUFFIX: Final = "-btn-instance"
REPORTER_SUFFIX: Final = "-btn-reporter"
DEVICE_TOKEN_SUFFIX: Final = "-bed-token"  # noqa: S105 - the name of a Secret
CAMERA_LICENSE_SUFFIX: Final = "-bcl-license"

# Secret <tenant>-btn-license, mounted at LICENSE_DIR in instance and reporter pods.
LICENSE_KEY: Final = "license.jwt"
SEATS_KEY: Final = "seats.jws"
REVOCATIONS_KEY: Final = "revocations.jws"
KEY_SET_KEY: Final = "jwks.json"
# Secret <tenant>-btn-identity, mounted at IDENTITY_DIR: who this instance is to the billing API.
INSTANCE_ID_KEY: Final = "instance-id"
CREDENTIAL_KEY: Final = "credential"
PRIVATE_KEY_KEY: Final = "private-key.pem"
BILLING_URL_KEY: Final = "billing-url"
BILLING_CA_KEY: Final = "billing-ca.crt"
CLUSTER_FINGERPRINT_KEY: Final = "cluster-fingerprint"
AIR_GAP_KEY: Final = "air-gap"
"""There on a site without a line: nobody waits for a billing URL or a credential."""
# Secret <tenant>-btn-request of a site without a line: what the vendor is asked for.
REQUEST_KEY: Final = "request.json"
# Secret <tenant>-btn-access, mounted at ACCESS_DIR: who may call the instance.
SERVICE_TOKEN_KEY: Final = "service-token"  # noqa: S105 - REST of cameras, license, usage
OPERATOR_TOKEN_KEY: Final = "operator-token"  # noqa: S105 - /internal/v1 only
# Secret <tenant>-btn-devices, mounted at DEVICES_DIR.
DEVICES_KEY: Final = "devices.json"
# Secret <tenant>-btn-postgres, mounted at POSTGRES_DIR. The DSN is for the role "brinkbyte", which
# owns the database "brinkbyte".
POSTGRES_DSN_KEY: Final = "dsn"
POSTGRES_PASSWORD_KEY: Final = "password"  # noqa: S105 - the name of a key
POSTGRES_ROLE: Final = "brinkbyte"
POSTGRES_DATABASE: Final = "brinkbyte"
# Secret <tenant>-btn-redis, mounted at REDIS_DIR.
REDIS_URL_KEY: Final = "url"
REDIS_PASSWORD_KEY: Final = "password"  # noqa: S105 - the name of a key
# Secret <tenant>-btn-triton, mounted at TRITON_DIR in Triton and instance pods.
TRITON_CONTROL_KEY: Final = "control-key"
# Secret <camera license>-bcl-license, or spec.secretName.
CAMERA_TOKEN_KEY: Final = "camera.jwt"  # noqa: S105 - the name of a key
# Secret <device>-bed-token.
DEVICE_TOKEN_KEY: Final = "token"  # noqa: S105 - the name of a key

MOUNT_ROOT: Final = "/etc/brinkbyte"
LICENSE_DIR: Final = f"{MOUNT_ROOT}/license"
IDENTITY_DIR: Final = f"{MOUNT_ROOT}/identity"
ACCESS_DIR: Final = f"{MOUNT_ROOT}/access"
DEVICES_DIR: Final = f"{MOUNT_ROOT}/devices"
POSTGRES_DIR: Final = f"{MOUNT_ROOT}/postgres"
REDIS_DIR: Final = f"{MOUNT_ROOT}/redis"
TRITON_DIR: Final = f"{MOUNT_ROOT}/triton"

INSTANCE_PORT: Final = 8080
POSTGRES_PORT: Final = 5432
REDIS_PORT: Final = 6379
TRITON_HTTP_PORT: Final = 8000
TRITON_GRPC_PORT: Final = 8001
TRITON_METRICS_PORT: Final = 8002
TRITON_CONTROL_HEADER: Final = "brinkbyte-control"
"""HTTP header that carries the control key to Triton's restricted model-repository API."""
