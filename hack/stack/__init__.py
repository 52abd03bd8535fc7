"""Bring the whole product up on a cluster, for the demo, the cluster tests and the benchmarks.

In: a kubeconfig, or nothing (then a cluster is made: kind where Docker runs, else the local one).
Out: images in the cluster, both Helm releases, a customer with an enrollment, manifests applied.
It drives the product from outside, through kubectl, helm and HTTP; of ``brinkbyte`` it uses the
domain rooms and the console script only.
"""
