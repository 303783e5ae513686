# syntax=docker/dockerfile:1
# Build:  docker build -t hsm .
# Run:    docker run -d --name hsm -p 11112:11112 -v hsm:/var/lib/hsm --stop-timeout 600 hsm
# Ask:    docker exec hsm hsm status
# As little as it needs:
#         docker run -d --name hsm -p 11112:11112 -v hsm:/var/lib/hsm --stop-timeout 600 --read-only \
#             --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --pids-limit 4096 --memory 8g hsm
# Another configuration: put hsm.yaml into the volume, or mount it and set HSM_CONFIG.

FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml README.md ./
COPY hsm hsm
COPY policies policies
COPY drivers drivers
COPY cli cli
COPY etc etc
# The environment gets no pip of its own: nothing in the image installs anything.
# pyproject.toml has the versions.
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/hsm && pip --python /opt/hsm/bin/python install '.[postgresql,codecs]'

FROM python:3.12-slim-bookworm
RUN pip uninstall --yes --root-user-action=ignore setuptools wheel pip \
    && groupadd --system --gid 10001 hsm \
    && useradd --system --uid 10001 --gid hsm --home-dir /var/lib/hsm --shell /usr/sbin/nologin hsm \
    && install -d -o hsm -g hsm -m 0750 /var/lib/hsm
COPY --from=build /opt/hsm /opt/hsm
ENV PATH=/opt/hsm/bin:$PATH \
    HSM_HOME=/var/lib/hsm \
    HSM_DICOM_LISTEN=0.0.0.0 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/hsm
# By number, so that runAsNonRoot of Kubernetes can see that it is not root.
USER 10001:10001
VOLUME /var/lib/hsm
EXPOSE 11112
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["hsm", "health"]
ENTRYPOINT ["hsm"]
CMD ["serve"]
