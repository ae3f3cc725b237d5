# syntax=docker/dockerfile:1

# The image holds one static binary and the certificates of the public authorities. The same commit gives the same
# binary: paths are trimmed, and the build date is that of the commit, passed in by whoever builds:
#
#   docker build --build-arg VERSION="$(git describe --tags --always)" --build-arg REVISION="$(git rev-parse HEAD)" \
#     --build-arg DATE="$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y%m%d-%H:%M:%S)" -t promkeep .
#
# It has no PostgreSQL: give it a database in PROMKEEP_DB_URI.

FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY adapter adapter
COPY cmd cmd
COPY promql promql
COPY schema schema
COPY storage storage
ARG TARGETOS TARGETARCH
ARG VERSION="" REVISION="" BRANCH="" DATE=""
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags "-s -w \
      -X github.com/prometheus/common/version.Version=$VERSION \
      -X github.com/prometheus/common/version.Revision=$REVISION \
      -X github.com/prometheus/common/version.Branch=$BRANCH \
      -X github.com/prometheus/common/version.BuildDate=$DATE" \
      -o /promkeep ./cmd/promkeep

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /promkeep /bin/promkeep
# The number, not the name: Kubernetes must be able to tell that it is not root.
USER 65532:65532
EXPOSE 9201
ENTRYPOINT ["/bin/promkeep"]
CMD ["serve"]
