//go:build tools

// Package tools names the program that scripts/pebble builds, in the version that go.mod pins.
package tools

import _ "github.com/canonical/pebble/cmd/pebble"
