# Home server and workers: stock MariaDB and skyshard, which sets it up as a local cluster's servers are.
FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends mariadb-server python3 python3-venv gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /skyshard
COPY . .
RUN python3 -m venv /venv && /venv/bin/pip install --quiet -c constraints.txt setuptools wheel cython \
    && /venv/bin/pip install --quiet --no-build-isolation -c constraints.txt .
RUN useradd --system --home-dir /var/lib/skyshard --create-home skyshard && chown skyshard /var/lib/skyshard
USER skyshard
