# The one image of BrinkByte Vision: operator, instance, reporter and billing API are commands of it.
# Any Debian-like base with python3 (3.11 or newer) and its venv module will do.
ARG BASE_IMAGE=docker.io/library/python:3.14-slim
FROM ${BASE_IMAGE} AS build
RUN python3 -m venv /opt/brinkbyte
COPY requirements.txt /tmp/requirements.txt
RUN /opt/brinkbyte/bin/pip install --no-cache-dir --require-hashes --no-deps -r /tmp/requirements.txt

FROM ${BASE_IMAGE}
COPY --from=build /opt/brinkbyte /opt/brinkbyte
COPY operator/brinkbyte /opt/brinkbyte/lib/brinkbyte
RUN /opt/brinkbyte/bin/python -m compileall -q /opt/brinkbyte/lib \
    && printf '#!/bin/sh\nexec /opt/brinkbyte/bin/python -m brinkbyte.cli.main "$@"\n' \
        > /opt/brinkbyte/bin/brinkbyte \
    && chmod 0755 /opt/brinkbyte/bin/brinkbyte
# The vendor's root public keys: part of the release, never a setting, a field or a Secret.
ARG TRUST_ROOTS=operator/brinkbyte/trust/roots.json
COPY ${TRUST_ROOTS} /opt/brinkbyte/lib/brinkbyte/trust/roots.json
ENV PATH=/opt/brinkbyte/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp LOGNAME=brinkbyte \
    PYTHONPATH=/opt/brinkbyte/lib PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
ENTRYPOINT ["/opt/brinkbyte/bin/brinkbyte"]
