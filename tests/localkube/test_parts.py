"""The parts of the tool that decide something, without a cluster."""

import argparse
import json
import os
from contextlib import nullcontext
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from localkube_ import debian, gobuild, images, store
from localkube_.cli import main, seconds
from localkube_.cluster import Clusters
from localkube_.components import Layout, node_file
from localkube_.context import context_digest, context_files, ignore_rules, ignored
from localkube_.gobuild import Program
from localkube_.network import Subnets, choose, host_routes
from localkube_.nodeconfig import config_files
from localkube_.objects import first_objects
from localkube_.paths import Paths
from localkube_.preload import link_tree
from localkube_.report import LocalkubeError
from localkube_.state import State, read_state

pytestmark = pytest.mark.unit


def test_subnets_of_a_cluster_do_not_overlap() -> None:
    subnets = Subnets(IPv4Network("10.240.16.0/20"))
    parts = [subnets.pods, subnets.services, subnets.link]
    assert all(part.subnet_of(subnets.block) for part in parts)
    assert not any(a.overlaps(b) for a in parts for b in parts if a is not b)
    assert subnets.host_ip in subnets.link
    assert subnets.api_service_ip in subnets.services
    assert subnets.pods.num_addresses > 2 * 110


def test_the_first_free_subnet_is_chosen() -> None:
    first = choose([IPv4Network("0.0.0.0/0")]).block
    second = choose([first]).block
    assert not first.overlaps(second)
    assert not choose([IPv4Network("10.0.0.0/8")]).block.overlaps(IPv4Network("10.0.0.0/8"))


def test_no_subnet_left_says_what_to_do() -> None:
    with pytest.raises(LocalkubeError, match="delete a cluster or a route"):
        choose([IPv4Network("0.0.0.0/1"), IPv4Network("128.0.0.0/1")])


def test_clusters_of_two_state_folders_never_share_a_subnet(tmp_path: Path) -> None:
    # Neither runs, so no route tells of them.
    folders = (tmp_path / "a", tmp_path / "b")
    one, two = (
        Clusters(Paths(tmp_path / "cache", folder))._reserve("same").subnets for folder in folders
    )
    assert not one.block.overlaps(two.block)


def test_host_routes_are_read_from_the_kernels_table(tmp_path: Path) -> None:
    table = tmp_path / "route"
    table.write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "lk0\t0000F00A\t0208F00A\t0003\t0\t0\t0\t00FCFFFF\t0\t0\t0\n"
    )
    assert list(host_routes(table)) == [IPv4Network("0.0.0.0/0"), IPv4Network("10.240.0.0/22")]


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("redis", "docker.io/library/redis:latest"),
        ("brinkbyte/operator:dev", "docker.io/brinkbyte/operator:dev"),
        ("registry.example:5000/a/b", "registry.example:5000/a/b:latest"),
        ("localhost/x:1", "localhost/x:1"),
    ],
)
def test_image_names_are_completed_as_kubernetes_does(given: str, full: str) -> None:
    assert store.canonical(given) == full


def test_a_bad_image_name_is_refused() -> None:
    with pytest.raises(LocalkubeError, match="not the name of an image"):
        store.canonical("no spaces here")


@pytest.mark.parametrize(
    ("text", "wanted"), [("30s", 30.0), ("5m", 300.0), ("1h30m", 5400.0), ("0", 0.0)]
)
def test_durations_are_read_as_kind_reads_them(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


def test_a_bad_duration_is_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        seconds("soon")


def test_ignore_file_is_followed() -> None:
    rules = ignore_rules("# comment\n*\n!src\n**/__pycache__\nsrc/*.tmp\n")
    assert ignored("README.md", rules)
    assert not ignored("src/a/b.py", rules)
    assert ignored("src/a/__pycache__/b.pyc", rules)
    assert ignored("src/x.tmp", rules)
    assert not ignored("src/a/x.tmp", rules)


def test_context_digest_follows_what_the_build_can_see(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("build\n")
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "out").write_text("1")
    (tmp_path / "link").symlink_to("a.py")
    assert [name for name, _ in context_files(tmp_path)] == [".dockerignore", "a.py", "link"]
    before = context_digest(tmp_path)
    (tmp_path / "build" / "out").write_text("2")
    assert context_digest(tmp_path) == before
    (tmp_path / "a.py").chmod(0o755)
    changed = context_digest(tmp_path)
    assert changed != before
    (tmp_path / "a.py").write_text("2")
    assert context_digest(tmp_path) not in {before, changed}


def test_base_images_of_a_dockerfile_are_found() -> None:
    text = (
        "ARG BASE_IMAGE=debian:trixie-slim\nFROM ${BASE_IMAGE} AS build\n"
        "FROM --platform=linux/amd64 other:1\nFROM build\nFROM scratch\n"
    )
    assert images.base_images(text, {}) == ["debian:trixie-slim", "other:1"]
    assert images.base_images(text, {"BASE_IMAGE": "x:1"}) == ["x:1", "other:1"]


def test_mirrors_come_from_the_machines_apt_sources(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example/debian x main\n"
        "deb [arch=amd64] http://third.example/tools stable main\n"
    )
    (tmp_path / "sources.list.d" / "debian.sources").write_text(
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\n"
        "Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\n"
    )
    found = debian.mirror_of(tmp_path)
    assert found.archive == "http://mirror.example/debian"
    assert found.security == "http://mirror.example/debian-security"
    assert "Suites: trixie-security" in found.sources("trixie")


@pytest.mark.parametrize("slashes", ["", "//"])
def test_a_list_of_mirrors_gives_its_first(tmp_path: Path, slashes: str) -> None:
    for name in ("debian", "debian-security"):
        (tmp_path / f"{name}.list").write_text(
            f"# comment\nfile:/srv/{name}\n"
            f"https://first.example/{name}\tpriority:1\nhttps://second.example/{name}\n"
        )
    lists = f"mirror+file:{slashes}{tmp_path}"
    (tmp_path / "sources.list").write_text(
        f"deb {lists}/debian.list bookworm main\n"
        f"deb {lists}/debian-security.list bookworm-security main\n"
        f"deb {lists}/missing.list bookworm main\n"
    )
    found = debian.mirror_of(tmp_path)
    assert found.archive == "https://first.example/debian"
    assert found.security == "https://first.example/debian-security"


def test_a_machine_without_a_debian_mirror_is_told_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(LocalkubeError, match=debian.MIRROR_VARIABLE):
        debian.mirror_of(tmp_path)


def test_folders_that_a_cluster_covers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRINKBYTE_STATE", "/run/somewhere")
    with pytest.raises(LocalkubeError, match="BRINKBYTE_STATE"):
        Paths.from_environment()


def test_cache_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BRINKBYTE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["cache-dir"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "brinkbyte")


def test_no_clusters_reads_as_kind_says_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BRINKBYTE_STATE", str(tmp_path))
    assert main(["get", "clusters"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "No kind clusters found.\n"


def test_a_program_that_is_not_built_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BRINKBYTE_CACHE", str(tmp_path))
    assert main(["path", "helm"]) == 1
    assert "localkube build" in capsys.readouterr().err


def test_only_the_last_used_development_builds_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.Store, "buildah", lambda *_: ["true"])
    made = images.Images(Paths(tmp_path, tmp_path / "state"))
    blobs = made.store.layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    known = {}
    for number, tag in enumerate(
        ["x:dev-0", "x:1", *(f"x:dev-{n}" for n in range(1, 6)), "y:dev-0"]
    ):
        (blobs / f"c{number}").write_text("config")
        (blobs / f"m{number}").write_text(
            json.dumps({"config": {"digest": f"sha256:c{number}"}, "layers": []})
        )
        known[store.canonical(f"a/{tag}")] = {"digest": f"sha256:m{number}"}
        record = made._record(f"a/{tag}")
        record.parent.mkdir(exist_ok=True)
        record.touch()
        # The first was used again later than all others.
        os.utime(record, (100 + number, 100 + number) if number else (200, 200))
    (made.store.layout / "images.json").write_text(json.dumps(known))
    made._drop_older("a/x:1")
    assert made.store.names() == list(known)
    made._drop_older("a/x:dev-5")
    kept = {store.canonical(f"a/{tag}") for tag in ("x:dev-0", "x:1", "y:dev-0")}
    kept |= {store.canonical(f"a/x:dev-{number}") for number in (3, 4, 5)}
    assert set(made.store.names()) == kept
    assert {blob.name[1:] for blob in blobs.iterdir()} == {"0", "1", "4", "5", "6", "7"}
    assert made._record("a/x:dev-3").exists()
    assert not made._record("a/x:dev-1").exists()


@pytest.mark.parametrize(
    ("go", "enough"),
    [
        ("go1.26.1\nlocal", True),
        ("go1.27rc1\nauto", True),
        ("go1.24.4\nauto", True),
        ("go1.24.4\nlocal", False),
        ("go1.25.0\ngo1.25.0", False),
        ("go1.19.8\n", False),
        ("devel go1.27-abc\nauto", True),
    ],
)
def test_an_old_go_is_told_unless_it_fetches_a_newer_one(
    monkeypatch: pytest.MonkeyPatch, go: str, enough: bool
) -> None:
    monkeypatch.setattr(gobuild, "run", lambda *_, **__: f"{go}\n")
    monkeypatch.setattr(gobuild, "which", lambda _: "/usr/bin/go")
    with nullcontext() if enough else pytest.raises(LocalkubeError, match="too old"):
        gobuild._check_go()


def test_content_address_follows_flags() -> None:
    assert (
        Program("kube", version="v1.35.4").digest() != Program("kube", version="v1.35.5").digest()
    )
    assert (
        "-X k8s.io/component-base/version.gitMinor=35"
        in Program("kube", version="v1.35.4").linker_flags
    )


def test_state_is_written_whole_and_read_back(tmp_path: Path) -> None:
    state = State(name="a", block="10.240.0.0/20", link="lk1", cgroup="localkube-a", pid=7)
    state.write(tmp_path / "a")
    assert read_state(tmp_path / "a") == state
    (tmp_path / "a" / "state.json").write_text('{"name": "a"')
    assert read_state(tmp_path / "a") is None


def test_a_preloaded_folder_shares_files_but_not_databases(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "layer").mkdir(parents=True)
    (source / "layer").chmod(0o1777)
    (source / "layer" / "blob").write_text("content")
    (source / "layer" / "link").symlink_to("nowhere")
    (source / "meta.db").write_text("database")
    target = tmp_path / "target"
    link_tree(source, target)
    assert (target / "layer" / "blob").samefile(source / "layer" / "blob")
    assert not (target / "meta.db").samefile(source / "meta.db")
    assert (target / "meta.db").read_text() == "database"
    assert (target / "layer" / "link").readlink() == Path("nowhere")
    assert (target / "layer").stat().st_mode == (source / "layer").stat().st_mode


def test_configuration_of_a_node_names_its_own_addresses_and_folders(tmp_path: Path) -> None:
    subnets = Subnets(IPv4Network("10.240.16.0/20"))
    layout = Layout(
        folder=tmp_path,
        name="a",
        subnets=subnets,
        cgroup="localkube-a",
        kube=Path("/cache/kube"),
        coredns=Path("/cache/coredns"),
        provisioner=Path("/cache/provisioner"),
        containerd="/usr/bin/containerd",
        cni=Path("/usr/lib/cni"),
    )
    files = config_files(layout)
    kubelet = json.loads(files["kubelet.json"])
    assert kubelet["clusterDNS"] == ["10.240.20.10"]
    assert kubelet["cgroupRoot"] == "/localkube-a"
    assert str(subnets.pods) in files["cni/10-localkube.conflist"]
    node = node_file(layout)
    assert [program["name"] for program in node["programs"]][:3] == [
        "etcd",
        "containerd",
        "kube-apiserver",
    ]
    assert node["readyUrl"] == "https://10.240.24.2:6443/readyz"
    classes = [body for path, body in first_objects(layout) if path.endswith("storageclasses")]
    assert [each["metadata"]["name"] for each in classes] == ["standard"]
