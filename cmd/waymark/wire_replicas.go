package main

import (
	"os"

	"github.com/waymark-cd/waymark/store"
)

// instance is what this process tells of itself to those that share its database.
func instance(id string) store.Instance {
	host, _ := os.Hostname() // for people alone
	return store.Instance{ID: id, Name: host, Host: host, Version: versionText()}
}
