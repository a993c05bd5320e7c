//go:build tools

// Package tools names the programs that scripts/kube-apiserver builds, so that Go keeps their versions.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
