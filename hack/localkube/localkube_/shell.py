"""Running other programs."""

import os
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .report import LocalkubeError


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
) -> str:
    """Run a program and return what it printed.

    Raises:
        LocalkubeError: It is not there, took too long or ended with an error.
    """
    command = [str(part) for part in argv]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **env} if env else None,
            cwd=cwd,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise LocalkubeError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LocalkubeError(f"`{' '.join(command)}` took longer than {timeout:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LocalkubeError(f"`{' '.join(command)}` failed ({done.returncode}): {said}")
    return done.stdout


def succeeds(argv: Sequence[str | Path]) -> bool:
    """Whether a program ends without an error; its output is dropped."""
    try:
        run(argv)
    except LocalkubeError:
        return False
    return True


def run_logged(
    argv: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run a long program with its output in a log file.

    Args:
        argv: The program and its arguments.
        log: Where the output goes; the folder is made.
        env: Variables on top of our own.
        cwd: Folder to run it in.
        on_line: Called with each line of output, for progress.

    Raises:
        LocalkubeError: It failed; the message has the last lines of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    last: deque[str] = deque(maxlen=25)
    command = [str(part) for part in argv]
    with log.open("w") as out:
        try:
            process = subprocess.Popen(
                command,
                env={**os.environ, **env} if env else None,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except FileNotFoundError as error:
            raise LocalkubeError(f"{command[0]} is not installed") from error
        with process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    out.write(line)
                    out.flush()
                    last.append(line.rstrip())
                    if on_line:
                        on_line(line.rstrip())
            except BaseException:
                process.kill()
                raise
    if process.returncode != 0:
        tail = "\n  ".join(last)
        raise LocalkubeError(f"{command[0]} failed; the whole output is in {log}:\n  {tail}")


def isolated(argv: Sequence[str | Path]) -> list[str]:
    """The command in mount and process namespaces of its own.

    What it mounts never shows on the host, and what it starts ends with it.
    """
    prefix = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]
    return [*prefix, *(str(part) for part in argv)]
