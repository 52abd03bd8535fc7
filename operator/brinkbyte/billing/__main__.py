"""``python -m brinkbyte.billing`` is ``brinkbyte billing``."""

from brinkbyte.billing.cli import app

if __name__ == "__main__":
    app(prog_name="brinkbyte billing")
