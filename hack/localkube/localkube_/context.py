"""What an image is built from: the build context's files, as .dockerignore leaves them."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path


def ignore_rules(text: str) -> list[tuple[bool, re.Pattern[str]]]:
    """Read a .dockerignore: (whether it excludes, what it matches), in order."""
    rules = []
    for line in text.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        excludes = not pattern.startswith("!")
        cleaned = pattern.lstrip("!").strip().strip("/")
        if cleaned and cleaned != ".":
            rules.append((excludes, re.compile(_expression(cleaned))))
    return rules


def _expression(pattern: str) -> str:
    parts = []
    position = 0
    while position < len(pattern):
        if pattern.startswith("**/", position):
            parts.append("(?:.*/)?")
            position += 3
        elif pattern.startswith("**", position):
            parts.append(".*")
            position += 2
        elif pattern[position] == "*":
            parts.append("[^/]*")
            position += 1
        elif pattern[position] == "?":
            parts.append("[^/]")
            position += 1
        else:
            parts.append(re.escape(pattern[position]))
            position += 1
    # A pattern that names a folder takes all that is in it.
    return "".join(parts) + r"(?:/.*)?\Z"


def ignored(name: str, rules: Sequence[tuple[bool, re.Pattern[str]]]) -> bool:
    """Whether the last rule that matches a path excludes it."""
    result = False
    for excludes, pattern in rules:
        if pattern.match(name):
            result = excludes
    return result


def context_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a build context, sorted: (path inside it, path)."""
    ignore = folder / ".dockerignore"
    rules = ignore_rules(ignore.read_text()) if ignore.exists() else []
    keeps = any(not excludes for excludes, _ in rules)
    for top, folders, files in os.walk(folder):
        relative = Path(top).relative_to(folder)
        # A folder that is left out may hold something that a later rule takes back.
        folders[:] = sorted(
            name
            for name in folders
            if name != ".git" and (keeps or not ignored((relative / name).as_posix(), rules))
        )
        links = [name for name in folders if (Path(top) / name).is_symlink()]
        for name in sorted([*files, *links]):
            inside = (relative / name).as_posix()
            if not ignored(inside, rules):
                yield inside, Path(top) / name


def context_digest(folder: Path) -> str:
    """Hash of a build context: names, modes and contents."""
    content = hashlib.sha256()
    for name, file in context_files(folder):
        status = file.lstat()
        content.update(f"{name}\0{status.st_mode:o}\0".encode())
        if file.is_symlink():
            content.update(bytes(file.readlink()))
        elif file.is_file():
            with file.open("rb") as handle:
                content.update(hashlib.file_digest(handle, "sha256").digest())
    return content.hexdigest()
