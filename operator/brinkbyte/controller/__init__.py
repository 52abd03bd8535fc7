"""The Kubernetes operator: brings Tenants, EdgeDevices and CameraLicenses to what they ask for.

In: watch events of our three kinds and of the children that carry our label, fed by kopf and, where
they come by the ten thousand, by watches of our own. Out:
server-side applies, statuses, Kubernetes Events, calls to the billing API and to the instances.
May import: ``brinkbyte.client``, ``catalog``, ``license``, ``metering``, ``resources``, ``kit``.

- ``app``: kopf registration, nothing else; it only puts keys on the queue.
- ``queue``: one reconcile per key at a time, backoff, come-back times.
- ``cluster``: the only place that talks to Kubernetes. ``compare``, ``strays``, ``ownership``: what
  differs from the desired, what has to go before it can come back, and what is not ours to touch.
- ``watching``, ``roster``: camera licenses and Secrets as they are, packed small, and who has news.
- ``children``: pure builders of every child object.
- ``status``: pure (spec, observed) → conditions.
- ``reconcile_tenant``, ``members``: the level-triggered reconciles; a pass over the members looks
  at cameras that have news, and now and then at all. ``volumes``: what of a
  StatefulSet cannot change in place. ``finalize``: a Tenant goes.
- ``asking``: calls of the billing API in flight; a reconcile waits a moment and goes on without.
  ``writing``: cameras being written while the billing API is asked about the next.
  ``gathering``: how long the next pass over a crowd waits for those who are still coming.
- ``air_gap``, ``bundle_results``: a site without a line: request, bundle, what it says of each.
- ``enrollment``, ``inventory``, ``documents``, ``instance_poll``: the billing API and the instance.
- ``lean``, ``lean_kopf``: libraries without what the operator never uses.
"""

from brinkbyte.controller import lean as lean  # before whoever loads those libraries whole
