# Rewards with uncertainty over HTTP; docs/serving.md shows how to build and run it.
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG PIP_OPTIONS=""
# a volume that is mounted where the image has no folder belongs to root, and no model could be downloaded to it
RUN useradd --create-home urm && install --directory --owner=urm --group=urm /home/urm/.cache
COPY . /src
RUN python -m pip install --no-cache-dir ${PIP_OPTIONS} --constraint /src/constraints.txt "/src[serve]"
USER urm
WORKDIR /home/urm
EXPOSE 8770
HEALTHCHECK --start-period=10m --timeout=10s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8770/ready', timeout=5)"]
ENTRYPOINT ["urm", "serve"]
