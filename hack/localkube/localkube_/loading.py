"""Giving images of the store to a running cluster."""

from collections.abc import Sequence

from .cluster import Clusters
from .debian import require_root
from .report import say
from .store import Store


def load(store: Store, clusters: Clusters, cluster: str, images: Sequence[str]) -> None:
    """Give images to a cluster, all at once.

    Raises:
        LocalkubeError: An image or the cluster is not there, and nothing was loaded; or
            containerd refused them.
    """
    state = clusters.require(cluster)
    require_root("loading images")
    ids = store.ids(images)
    with store.paths.lock(f"load-{cluster}"):
        record = clusters.folder(cluster) / "images.json"
        given = store.give(ids, record, clusters.importer(state))
    for image, image_id in ids.items():
        verb = "loaded into" if image in given else "is already in"
        say(f'Image: "{image}" with ID "{image_id[:12]}" {verb} cluster "{cluster}"')
