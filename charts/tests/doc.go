// Package tests renders the Helm chart as helm does, and holds what comes out against the types of Kubernetes and against
// the real binary; likewise the Dockerfile, the compose file and the systemd unit, with the parsers of those who read them. It is a
// module of its own, so that what only this needs stays out of promkeep's. It must not know anything of promkeep but its
// binary and its files.
package tests
