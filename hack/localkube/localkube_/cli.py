"""The command line: kind's where pytest-kind calls it, and our own besides."""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from . import debian, kubeconfig
from .boot import enter
from .cluster import Clusters, unmount_below
from .gobuild import FOR_USERS, build_all, built, remove_unused
from .images import Images, prune
from .loading import load
from .paths import Paths
from .report import LocalkubeError, say
from .store import Store

DEFAULT_NAME = "kind"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    # Ended by a signal it cleans up like after Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(arguments.run(arguments, Paths.from_environment()))
    except LocalkubeError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ERROR: interrupted", file=sys.stderr)
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def seconds(text: str) -> float:
    """Read a duration as kind takes it: 30s, 5m, 1h30m."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        if text == "0":
            return 0.0
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration such as 30s or 5m")
    factors = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(number) * factors[unit] for number, unit in parts)


def _program(text: str) -> str:
    if text not in FOR_USERS:
        raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(sorted(FOR_USERS))}")
    return text


def _key_value(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    return key, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="localkube",
        description="A real Kubernetes cluster from plain processes, without Docker.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    get = commands.add_parser("get", help="list clusters").add_subparsers(required=True)
    get.add_parser("clusters").set_defaults(run=_get_clusters)

    create = commands.add_parser("create", help="create a cluster").add_subparsers(required=True)
    cluster = create.add_parser("cluster")
    _add_name(cluster)
    _add_kubeconfig(cluster)
    cluster.add_argument("--image", help="accepted for kind's sake; has no effect")
    cluster.add_argument("--config", help="accepted for kind's sake; has no effect")
    cluster.add_argument("--wait", type=seconds, default=0.0, metavar="DURATION",
                         help="give up after this time (at least one minute)")  # fmt: skip
    cluster.set_defaults(run=_create)

    loading = commands.add_parser("load", help="load images").add_subparsers(required=True)
    image = loading.add_parser("docker-image")
    _add_name(image)
    image.add_argument("images", nargs="+", metavar="IMAGE")
    image.set_defaults(run=_load)

    delete = commands.add_parser("delete", help="delete a cluster").add_subparsers(required=True)
    cluster = delete.add_parser("cluster")
    _add_name(cluster)
    _add_kubeconfig(cluster)
    cluster.set_defaults(run=_delete)

    _add_programs(
        commands.add_parser("build", help="build all programs, and install what they need")
    ).set_defaults(run=_build)

    one = commands.add_parser("build-image", help="build an image from a Dockerfile")
    one.add_argument("--tag", "-t", required=True)
    one.add_argument("--file", "-f", type=Path, help="default: Dockerfile of the context")
    one.add_argument("--build-arg", type=_key_value, action="append", default=[], metavar="K=V")
    one.add_argument("context", type=Path)
    one.set_defaults(run=_build_image)

    commands.add_parser(
        "build-images", help="build the base images and the local PostgreSQL, Redis and Triton"
    ).set_defaults(run=_build_images)

    path = commands.add_parser("path", help="print where a built program is")
    path.add_argument("program", choices=sorted(FOR_USERS))
    path.set_defaults(run=_path)

    info = commands.add_parser("info", help="print a cluster's addresses and folders as JSON")
    _add_name(info)
    info.set_defaults(run=_info)

    execute = commands.add_parser("exec", help="run a command inside a cluster's namespaces")
    _add_name(execute)
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    execute.set_defaults(run=_exec)

    logs = commands.add_parser("logs", help="print the logs of a cluster's programs")
    _add_name(logs)
    logs.add_argument("component", nargs="?", help="such as kubelet; default: list them")
    logs.set_defaults(run=_logs)

    clean = commands.add_parser("clean", help="remove unfinished clusters and what they left")
    clean.add_argument(
        "--all-clusters",
        action="store_true",
        help="running ones too; of every state folder unless BRINKBYTE_STATE names one",
    )
    clean.set_defaults(run=_clean)

    commands.add_parser(
        "prune", help="remove programs and images from the cache that nothing uses any more"
    ).set_defaults(run=_prune)

    commands.add_parser("cache-dir", help="print the cache's folder").set_defaults(run=_cache_dir)
    return parser


def _add_programs(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    names = ", ".join(sorted(FOR_USERS))
    parser.add_argument(
        "programs", nargs="*", type=_program, metavar="PROGRAM", help=f"only these, of {names}"
    )
    return parser


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default=DEFAULT_NAME, help="the cluster (default: %(default)s)")


def _add_kubeconfig(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kubeconfig", type=Path, help="default: KUBECONFIG or ~/.kube/config")


def _get_clusters(_: argparse.Namespace, paths: Paths) -> int:
    names = Clusters(paths).names()
    for name in names:
        print(name)
    if not names:
        print("No kind clusters found.", file=sys.stderr)
    return 0


def _create(arguments: argparse.Namespace, paths: Paths) -> int:
    for option in ("image", "config"):
        if getattr(arguments, option):
            say(f"--{option} is for kind and has no effect here")
    file = arguments.kubeconfig or kubeconfig.default_file()
    try:
        Clusters(paths).create(arguments.name, file, arguments.wait)
    except LocalkubeError as error:
        raise LocalkubeError(f"failed to create cluster: {error}") from error
    return 0


def _load(arguments: argparse.Namespace, paths: Paths) -> int:
    load(Store(paths), Clusters(paths), arguments.name, arguments.images)
    return 0


def _delete(arguments: argparse.Namespace, paths: Paths) -> int:
    say(f'Deleting cluster "{arguments.name}" ...')
    Clusters(paths).delete(arguments.name, arguments.kubeconfig)
    return 0


def _build(arguments: argparse.Namespace, paths: Paths) -> int:
    if arguments.programs:
        wanted = {FOR_USERS[name][0]: None for name in arguments.programs}
        build_all(paths, tuple(wanted))
        return 0
    debian.install(paths, debian.CLUSTER_PACKAGES)
    build_all(paths)
    say(f"all programs are in {paths.programs}")
    return 0


def _build_image(arguments: argparse.Namespace, paths: Paths) -> int:
    dockerfile = arguments.file or arguments.context / "Dockerfile"
    values = dict(arguments.build_arg)
    Images(paths).build(arguments.tag, dockerfile, arguments.context, values)
    return 0


def _build_images(_: argparse.Namespace, paths: Paths) -> int:
    Images(paths).build_locals()
    return 0


def _path(arguments: argparse.Namespace, paths: Paths) -> int:
    print(built(paths, *FOR_USERS[arguments.program]))
    return 0


def _info(arguments: argparse.Namespace, paths: Paths) -> int:
    print(Clusters(paths).describe(arguments.name))
    return 0


def _exec(arguments: argparse.Namespace, paths: Paths) -> int:
    command = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if not command:
        raise LocalkubeError("give the command to run after --")
    state = Clusters(paths).require(arguments.name)
    return subprocess.run([*enter(state.pid), *command], check=False).returncode


def _logs(arguments: argparse.Namespace, paths: Paths) -> int:
    folder = Clusters(paths).log_files(arguments.name)
    known = sorted(file.stem for file in folder.glob("*.log"))
    if arguments.component is None:
        print("\n".join(known))
        return 0
    if arguments.component not in known:
        raise LocalkubeError(f"there is no log of {arguments.component}; there are: {known}")
    with (folder / f"{arguments.component}.log").open(errors="replace") as log:
        shutil.copyfileobj(log, sys.stdout)
    return 0


def _clean(arguments: argparse.Namespace, paths: Paths) -> int:
    debian.require_root("removing clusters")
    clusters = Clusters(paths)
    if not arguments.all_clusters:
        for name in clusters.remove_unfinished():
            say(f'removed what was left of cluster "{name}"')
        clusters.tidy()
        return 0
    if os.environ.get("BRINKBYTE_STATE"):
        clusters.remove_all()
        return 0
    for state in sorted(clusters.known_states()):
        Clusters(Paths(paths.cache, state)).remove_all()
    clusters.remove_strays("")
    unmount_below(paths.cache)
    return 0


def _prune(_: argparse.Namespace, paths: Paths) -> int:
    remove_unused(paths)
    prune(paths)
    return 0


def _cache_dir(_: argparse.Namespace, paths: Paths) -> int:
    print(paths.cache)
    return 0
