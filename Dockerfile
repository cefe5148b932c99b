# octad in a container: `docker build .` makes the image of a node, a coordinator or the command
# line, `docker build --target etcd .` that of the etcd that `docker-compose.yml` starts.

FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY sharding ./sharding
COPY client ./client
COPY coordinator ./coordinator
COPY storage_node ./storage_node
COPY chaos ./chaos
RUN python -m venv /opt/octad \
 && /opt/octad/bin/pip install --no-cache-dir --disable-pip-version-check ./client .

FROM debian:bookworm-slim AS etcd
RUN apt-get update \
 && apt-get install --yes --no-install-recommends etcd-server etcd-client \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10002 --no-create-home etcd-user \
 && install --directory --owner=10002 --group=10002 --mode=0700 /data
USER 10002
VOLUME /data
ENTRYPOINT ["etcd"]
HEALTHCHECK --interval=10s --timeout=5s --retries=3 \
    CMD ["env", "ETCDCTL_API=3", "etcdctl", "endpoint", "health"]

FROM python:3.11-slim-bookworm AS octad
RUN useradd --system --uid 10001 --no-create-home octad \
 && install --directory --owner=10001 --group=10001 --mode=0700 /data
COPY --from=build /opt/octad /opt/octad
COPY --chmod=0755 deploy/healthcheck.py /opt/octad/bin/healthcheck
ENV PATH=/opt/octad/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 9000 9400 10000 11000 12000
STOPSIGNAL SIGTERM
ENTRYPOINT ["octad"]
CMD ["--help"]
