"""PostgreSQL: one StatefulSet with our own init and start commands on the official image.

The image contract: ``sh``, ``initdb``, ``pg_ctl``, ``postgres``, ``psql`` and ``pg_isready`` on
PATH, a passwd entry for the user id. Nothing of the image's entrypoint is used.
"""

from __future__ import annotations

from typing import Final

from brinkbyte.controller.children import common
from brinkbyte.controller.children.common import Object, Plan
from brinkbyte.resources import names

DATA_DIR: Final = "/var/lib/brinkbyte/data"
PGDATA: Final = f"{DATA_DIR}/pgdata"
SOCKET_DIR: Final = "/run/brinkbyte"
_HBA: Final = f"{SOCKET_DIR}/pg_hba.conf"
_PASSWORD: Final = f"{names.POSTGRES_DIR}/{names.POSTGRES_PASSWORD_KEY}"

# Runs before every start, so that a password that was made anew is carried into the database. The
# temporary server listens on a socket that only this pod has. A cluster is made under another name
# and moved, so that a kill half-way leaves nothing that looks like a database.
INIT_SCRIPT: Final = f"""\
set -eu
umask 077
pgdata="{PGDATA}"
wanted="$(postgres --version | sed 's/[^0-9]*\\([0-9]*\\).*/\\1/')"
if [ -s "$pgdata/PG_VERSION" ]; then
  found="$(cat "$pgdata/PG_VERSION")"
  if [ "$found" != "$wanted" ]; then
    echo "the data is of PostgreSQL $found, the image is $wanted: use an image of $found" >&2
    exit 64
  fi
else
  rm -rf "$pgdata" "$pgdata.new"
  initdb --pgdata="$pgdata.new" --username=postgres --encoding=UTF8 --locale=C.UTF-8 \\
    --data-checksums --auth-local=trust --auth-host=scram-sha-256 >/dev/null
  mv "$pgdata.new" "$pgdata"
fi
printf 'local all all trust\\n' > {SOCKET_DIR}/setup_hba.conf
pg_ctl --pgdata="$pgdata" --wait --timeout=600 --silent --log={SOCKET_DIR}/setup.log start \\
  --options="-c listen_addresses='' -c unix_socket_directories={SOCKET_DIR} \\
-c hba_file={SOCKET_DIR}/setup_hba.conf -c log_min_error_statement=panic \\
-c shared_preload_libraries=pg_stat_statements" || {{ cat {SOCKET_DIR}/setup.log >&2; exit 1; }}
psql --host={SOCKET_DIR} --username=postgres --dbname=postgres --no-psqlrc --quiet \\
  --set=ON_ERROR_STOP=1 <<'SQL'
\\set password `cat {_PASSWORD}`
SELECT 'CREATE ROLE {names.POSTGRES_ROLE} LOGIN' WHERE NOT EXISTS
  (SELECT FROM pg_roles WHERE rolname = '{names.POSTGRES_ROLE}') \\gexec
ALTER ROLE {names.POSTGRES_ROLE} LOGIN PASSWORD :'password';
GRANT pg_read_all_stats TO {names.POSTGRES_ROLE};
SELECT 'CREATE DATABASE {names.POSTGRES_DATABASE} OWNER {names.POSTGRES_ROLE}' WHERE NOT EXISTS
  (SELECT FROM pg_database WHERE datname = '{names.POSTGRES_DATABASE}') \\gexec
\\connect {names.POSTGRES_DATABASE}
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
SQL
pg_ctl --pgdata="$pgdata" --wait --silent --mode=fast stop
rm -f {SOCKET_DIR}/setup_hba.conf
printf 'local all all trust\\nhost all all all scram-sha-256\\n' > {_HBA}
"""  # noqa: S608 - constants of ours only

_SETTINGS: Final = {
    "listen_addresses": "*",
    "unix_socket_directories": SOCKET_DIR,
    "hba_file": _HBA,
    "password_encryption": "scram-sha-256",
    "shared_preload_libraries": "pg_stat_statements",
    "max_connections": "100",
    "wal_compression": "on",
    "log_destination": "stderr",
    "logging_collector": "off",
    # A statement in the log would carry customers' data.
    "log_min_error_statement": "panic",
}


def build(plan: Plan) -> list[Object]:
    """Return the objects of PostgreSQL; none when the customer runs it."""
    settings = plan.resolved.postgres
    if settings is None:
        return []
    component = common.POSTGRES
    image = settings.image
    mounts = {
        "data": DATA_DIR,
        "run": SOCKET_DIR,
        "tmp": "/tmp",  # noqa: S108 - an emptyDir of the pod
        "shm": "/dev/shm",  # noqa: S108 - an emptyDir of the pod
        **common.secret_mounts("postgres"),
    }
    ready = ("pg_isready", "--quiet", "--host=127.0.0.1", f"--username={names.POSTGRES_ROLE}")
    command = ["postgres", "-D", PGDATA]
    for name, value in _SETTINGS.items():
        command += ["-c", f"{name}={value}"]
    template = common.pod_template(
        plan,
        component,
        settings,
        credentials=[component],
        grace_seconds=60,
        init_containers=[
            common.container(
                plan,
                "init",
                image,
                ["sh", "-c", INIT_SCRIPT],
                resources=settings.resources,
                mounts=mounts,
                read_only=["postgres"],
            )
        ],
        containers=[
            common.container(
                plan,
                component,
                image,
                command,
                resources=settings.resources,
                mounts=mounts,
                read_only=["postgres"],
                ports={"postgres": names.POSTGRES_PORT},
                startupProbe=common.exec_probe(*ready, period=1, failures=600),
                readinessProbe=common.exec_probe(*ready, period=5, failures=3),
                livenessProbe=common.exec_probe(*ready, period=15, failures=8),
                # SIGTERM waits for every client to leave; a fast stop writes everything and goes.
                lifecycle={
                    "preStop": {
                        "exec": {
                            "command": ["pg_ctl", "-D", PGDATA, "--mode=fast", "--wait", "stop"]
                        }
                    }
                },
            )
        ],
        volumes=[
            common.empty_dir("run", size="16Mi"),
            common.empty_dir("tmp", size="1Gi"),
            common.empty_dir("shm", size="128Mi", memory=True),
            *common.secret_volumes(plan, "postgres"),
        ],
    )
    stateful_set = common.child(
        plan,
        "apps/v1",
        "StatefulSet",
        component,
        spec={
            "replicas": 1,
            "serviceName": plan.name(component),
            "selector": {"matchLabels": common.selector(plan.tenant.name, component)},
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Retain",
                "whenScaled": "Retain",
            },
            "template": template,
            "volumeClaimTemplates": [common.claim_template(plan, component, settings)],
        },
    )
    return [
        common.service_account(plan, component),
        common.service(plan, component, {"postgres": names.POSTGRES_PORT}),
        stateful_set,
    ]
