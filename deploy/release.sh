#!/usr/bin/env bash
# Builds what a release consists of into dist/: for linux/amd64 and linux/arm64 an archive with the binary, the licence, the
# manuals and the systemd unit; the chart; and the checksums of them all. The same commit gives the same files.
#
#   deploy/release.sh [VERSION]        # such as v0.1.0; without, what git describe says
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:-$(git describe --tags --always --dirty)}
revision=$(git rev-parse HEAD)
branch=$(git rev-parse --abbrev-ref HEAD)
commit_time=$(git log -1 --format=%ct)
date=$(date -u -d "@$commit_time" +%Y%m%d-%H:%M:%S)
package=github.com/prometheus/common/version
go=${GO:-go}

# pack ARCHIVE DIRECTORY NAME: everything that depends on who packs, and when, is fixed.
pack() {
    tar --sort=name --mtime="@$commit_time" --owner=0 --group=0 --numeric-owner --format=ustar -C "$2" -cf - "$3" | gzip -n9 >"$1"
}

rm -rf dist
mkdir -p dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for arch in amd64 arm64; do
    name=promkeep-${version#v}.linux-$arch
    mkdir "$work/$name"
    CGO_ENABLED=0 GOOS=linux GOARCH=$arch "$go" build -trimpath -buildvcs=false -o "$work/$name/promkeep" -ldflags "-s -w \
        -X $package.Version=$version -X $package.Revision=$revision -X $package.Branch=$branch -X $package.BuildDate=$date" ./cmd/promkeep
    cp LICENSE README.md CHANGELOG.md deploy/promkeep.service "$work/$name"
    cp -R docs "$work/$name/docs"
    find "$work/$name" -type d -exec chmod 755 {} + -o -type f -exec chmod 644 {} +
    chmod 755 "$work/$name/promkeep"
    pack "dist/$name.tar.gz" "$work" "$name"
    echo "dist/$name.tar.gz"
done

# As "helm package" does: the chart's own version is in Chart.yaml, its tests' values stay behind.
chart_version=$(sed -n 's/^version: //p' charts/promkeep/Chart.yaml)
cp -R charts/promkeep "$work/promkeep"
rm -rf "$work/promkeep/ci"
sed -i "s/^appVersion: .*/appVersion: \"${version#v}\"/" "$work/promkeep/Chart.yaml"
find "$work/promkeep" -type d -exec chmod 755 {} + -o -type f -exec chmod 644 {} +
pack "dist/promkeep-chart-$chart_version.tgz" "$work" promkeep
echo "dist/promkeep-chart-$chart_version.tgz"

(cd dist && sha256sum -- *.tar.gz *.tgz >sha256sums.txt)
echo dist/sha256sums.txt
