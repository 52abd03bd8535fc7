"""Putting a cluster into a user's kubeconfig, and taking it out again."""

import os
from pathlib import Path

from .report import LocalkubeError
from .shell import run


def default_file() -> Path:
    """Where kubectl looks: the first of KUBECONFIG, else the home folder's."""
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return Path(named) if named else Path("~/.kube/config").expanduser()


def add(file: Path, document: str, kubectl: Path) -> None:
    """Merge a cluster's kubeconfig into a file and make it the current context."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = document
    if file.exists() and file.read_text().strip():
        part = _beside(file, "localkube")
        _write(part, document)
        try:
            env = {"KUBECONFIG": f"{part}{os.pathsep}{file}"}
            text = run([kubectl, "config", "view", "--flatten", "--raw"], env=env)
        finally:
            part.unlink()
    partial = _beside(file, "new")
    _write(partial, text)
    partial.replace(file)


def remove(file: Path, name: str, kubectl: Path) -> None:
    """Take a cluster's context, cluster and user out of a file, if it is there."""
    if not file.exists() or name not in file.read_text():
        return
    config = [str(kubectl), "--kubeconfig", str(file), "config"]
    try:
        current = run([*config, "view", "-o", "jsonpath={.current-context}"])
        contexts = run([*config, "get-contexts", "-o", "name"]).split()
    except LocalkubeError:
        return  # not a kubeconfig; then it is not ours to change
    if name in contexts:
        run([*config, "delete-context", name])
        run([*config, "delete-cluster", name])
        run([*config, "delete-user", name])
    if current == name:
        run([*config, "unset", "current-context"])


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}.{suffix}")


def _write(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)
