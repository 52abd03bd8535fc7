"""A real Kubernetes cluster from plain processes, for machines without Docker.

``cli`` reads the command line (the part of kind's that pytest-kind calls, and our own).
``gobuild`` builds the programs, ``images`` the container images, ``cluster`` starts and
ends clusters; the rest are their parts. Standard library only: it runs before any
virtual environment exists.
"""
