"""Images: built once, anew when what they are made from changes, and nothing of this machine."""

from pathlib import Path

import pytest

from localkube.tooling import IMAGE, Cluster, Tool

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TAG = "brinkbyte/localkube-test:1"
DOCKERFILE = """ARG BASE_IMAGE=debian:trixie-slim
FROM ${BASE_IMAGE} AS first
COPY word /word
RUN test -s /etc/pip.conf && test -n "$(ls /etc/apt/sources.list.d)" && cp /word /built

FROM ${BASE_IMAGE}
COPY --from=first /built /built
USER 1000:1000
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / ".dockerignore").write_text("notes\n")
    (tmp_path / "word").write_text("one\n")
    return tmp_path


def build(tool: Tool, context: Path, *, check: bool = True) -> str:
    arguments = (f"--tag={TAG}", f"--build-arg=BASE_IMAGE={IMAGE}", str(context))
    return tool.run("build-image", *arguments, check=check).stderr


def test_an_image_is_built_anew_only_when_its_inputs_change(
    tool: Tool, pair: tuple[Cluster, Cluster], context: Path
) -> None:
    (context / "word").write_text(f"{context.name}\n")
    assert "done in" in build(tool, context)
    (context / "notes").write_text("ignored")
    assert f"image {TAG} is up to date" in build(tool, context)
    (context / "word").write_text("two\n")
    assert "done in" in build(tool, context)

    _, two = pair
    shown = tool.run("load", "docker-image", "--name=two", TAG).stderr
    assert 'loaded into cluster "two"' in shown
    shown = tool.run("load", "docker-image", "--name=two", TAG).stderr
    assert 'is already in cluster "two"' in shown
    look = "cat /built; cat /etc/pip.conf; ls /etc/apt/sources.list.d /run/image-build"
    two.kubectl("run", "look", f"--image={TAG}", "--restart=Never", "--", "sh", "-c", look)
    two.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/look", "--timeout=60s")
    logs = two.kubectl("logs", "look").splitlines()
    # The last folder is not even there; neither mirror nor certificate was baked in.
    # What is not there is told beside, before or behind.
    assert sorted(line for line in logs if line and "cannot access" not in line) == [
        "/etc/apt/sources.list.d:", "two",
    ]  # fmt: skip


def test_a_failing_build_shows_why_and_where_the_log_is(tool: Tool, context: Path) -> None:
    (context / "Dockerfile").write_text(DOCKERFILE + "RUN echo no luck today && false\n")
    said = build(tool, context, check=False)
    assert "no luck today" in said
    assert "the whole output is in" in said


def test_a_missing_dockerfile_is_named(tool: Tool, tmp_path: Path) -> None:
    assert f"there is no Dockerfile {tmp_path}/Dockerfile" in build(tool, tmp_path, check=False)


def test_local_images_hold_their_contract(tool: Tool, pair: tuple[Cluster, Cluster]) -> None:
    """The programs that the charts name, run as their uid on a read-only root."""
    _, two = pair
    images = {
        "brinkbyte/local-postgres:17": (
            999,
            "postgres --version && initdb --version && psql --version && pg_isready --version"
            " && pg_ctl --version && id -un && locale -a | grep -i c.utf",
        ),
        "brinkbyte/local-redis:8": (999, "redis-server --version && redis-cli --version"),
        "brinkbyte/local-triton:2.51": (
            1000,
            "command -v tritonserver && test -x /opt/tritonserver/bin/tritonserver"
            " && bash --version"
            " && ldd /opt/tritonserver/bin/tritonserver | grep -c 'not found' | grep -x 0",
        ),
    }
    tool.run("load", "docker-image", "--name=two", *images)
    for image, (uid, script) in images.items():
        name = image.split("/")[1].split(":")[0]
        security = {"runAsUser": uid, "runAsNonRoot": True, "readOnlyRootFilesystem": True}
        container = {
            "name": "main",
            "image": image,
            "command": ["sh", "-ec", script],
            "securityContext": security,
        }
        two.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            }
        )
        wait = "--for=jsonpath={.status.phase}=Succeeded"
        two.kubectl("wait", wait, f"pod/{name}", "--timeout=60s")
