# An image that serves models: docker build -t aerogel .
#
#   docker run -p 8080:8080 -v aerogel-cache:/cache -v /my/models:/models:ro aerogel /models/MODEL
#
# Two stages: compilers stay in the first. Debian's own Python, so that both have the same one.
FROM debian:trixie-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ python3-dev python3-venv ca-certificates
COPY . /src
# Without tests, headers and compiled copies that nobody reads: 250 MB is the limit of the whole image.
RUN python3 -m venv /build \
    && python3 -m venv --without-pip /opt/aerogel \
    && /build/bin/python -m pip --python /opt/aerogel/bin/python install --no-cache-dir --no-compile "/src[serve,grammar]" \
    && find /opt/aerogel -type d \( -name tests -o -name __pycache__ -o -name include \) -prune -exec rm -rf {} + \
    && find /opt/aerogel -name "*.pyi" -delete

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 libstdc++6 ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 aerogel \
    && install -d -o aerogel /cache
COPY --from=build /opt/aerogel /opt/aerogel
# Measurements of kernels and models of the hub are kept in /cache: a volume there makes the next start quick.
ENV PATH=/opt/aerogel/bin:$PATH AEROGEL_CACHE=/cache HF_HOME=/cache/hub PYTHONDONTWRITEBYTECODE=1
USER aerogel
VOLUME /cache
EXPOSE 8080
ENTRYPOINT ["aerogel", "serve", "--host", "0.0.0.0", "--port", "8080"]
