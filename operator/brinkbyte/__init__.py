"""BrinkByte Vision: Kubernetes operator, customer instance, metering and global billing API.

Rooms, from the top down; imports only ever point down (``import-linter`` holds it):

``cli`` → ``controller`` | ``instance`` | ``reporter`` | ``billing`` → ``guards`` → ``store`` |
``client`` → ``catalog`` | ``license`` | ``metering`` | ``resources`` → ``kit``.
"""

__version__ = "0.1.0"
