# One image with everything that a run needs: waymark, OpenTofu, tflint, Checkov,
# git and ssh. Build it with `docker build -t waymark .`; compose.yaml starts it
# with PostgreSQL.
#
# The modules under tools/ say which versions are built; dockerfile_test.go holds
# the arguments below against them. Debian's own packages are pinned to their
# upstream version and still get security updates.

ARG GO_VERSION=1.26.8
ARG DEBIAN_VERSION=bookworm

FROM golang:${GO_VERSION}-${DEBIAN_VERSION} AS build
ENV CGO_ENABLED=0

# The tools first: they change least and take longest (about 8 minutes).
FROM build AS tofu
ARG TOFU_VERSION=1.12.6
WORKDIR /src/tools
COPY tools/go.mod tools/go.sum ./
RUN test "$(go list -m -f '{{.Version}}' github.com/opentofu/opentofu)" = "v${TOFU_VERSION}" \
    && go build -trimpath -ldflags "-s -w -X github.com/opentofu/opentofu/version.dev=no" \
        -o /out/tofu github.com/opentofu/opentofu/cmd/tofu

FROM build AS tflint
ARG TFLINT_VERSION=0.64.0
WORKDIR /src/tools/tflint
COPY tools/tflint/go.mod tools/tflint/go.sum ./
RUN test "$(go list -m -f '{{.Version}}' github.com/terraform-linters/tflint)" = "v${TFLINT_VERSION}" \
    && go build -trimpath -ldflags "-s -w" -o /out/tflint github.com/terraform-linters/tflint

# Checkov lives in a virtual environment of Debian's Python, which the last stage
# has as well, so that the folder can be copied as it is.
FROM debian:${DEBIAN_VERSION}-slim AS checkov
ARG CHECKOV_VERSION=3.3.13
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3=3.11.* python3-venv=3.11.* \
    && python3 -m venv /usr/local/lib/checkov \
    && /usr/local/lib/checkov/bin/pip install --no-cache-dir "checkov==${CHECKOV_VERSION}"

FROM build AS waymark
ARG VERSION=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /out/waymark ./cmd/waymark

FROM debian:${DEBIAN_VERSION}-slim
ARG CHECKOV_VERSION=3.3.13
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates git=1:2.39.* openssh-client=1:9.2p1-* python3=3.11.* wget=1.21.* \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 65532 --user-group --home-dir /var/lib/waymark --shell /usr/sbin/nologin waymark \
    && install -d -o 65532 -g 65532 -m 0700 /var/lib/waymark \
    && install -d /etc/waymark \
    && ln -s /usr/local/lib/checkov/bin/checkov /usr/local/bin/checkov
COPY --from=checkov /usr/local/lib/checkov /usr/local/lib/checkov
COPY --from=tofu /out/tofu /usr/local/bin/tofu
COPY --from=tflint /out/tflint /usr/local/bin/tflint
COPY --from=waymark /out/waymark /usr/local/bin/waymark
# Each program starts, and Checkov is the version whose output the adapter knows.
RUN waymark version && tofu version && tflint --version && git --version && ssh -V \
    && test "$(checkov --version)" = "${CHECKOV_VERSION}"

# The root file system may be read-only: data_dir and /tmp are all that is written.
USER 65532:65532
ENV HOME=/var/lib/waymark
WORKDIR /var/lib/waymark
VOLUME /var/lib/waymark
EXPOSE 8080

# wget, since waymark has no command that asks for its own health. It expects the
# port of EXPOSE: with another one in waymark.hcl, override the check.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["wget", "--quiet", "--no-proxy", "--tries=1", "--timeout=4", "--output-document=/dev/null", "http://127.0.0.1:8080/healthz"]

# No init in the image: a runner reaps what it starts, and waymark its runners.
# Only what a killed runner leaves behind falls to process 1; `docker run --init`
# (compose: init: true) reaps that too.
#
# When the container ends, so do its runners. Give it the stop hook
# `waymark drain --wait`, as compose.yaml does, and a stop time-out that is longer
# than an apply.
STOPSIGNAL SIGTERM
ENTRYPOINT ["waymark"]
CMD ["serve", "--config", "/etc/waymark/waymark.hcl"]
