"""The console script ``brinkbyte``, also as ``kubectl brinkbyte``.

In: words on a command line. Out: the programs of the rooms below, their results as tables or JSON.
May import: every room.
"""
