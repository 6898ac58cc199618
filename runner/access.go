package runner

import (
	"os"
	"path/filepath"
)

// access is what one tool may reach.
type access struct {
	read      []string // files and folders to read and execute
	write     []string // folders to do anything in, but for making devices
	noNetwork bool
}

// What every tool may read and execute: the system, and nobody's home or data.
// Of /etc it is what programs need to find names, certificates and libraries:
// keys and configurations of services lie there too. Beyond these come the
// folders on PATH, those of the tool's executable, what the Spec names, and
// where /etc/resolv.conf leads.
func systemPaths() []string {
	return []string{"/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt", "/dev", "/proc", "/sys",
		"/nix", "/run/systemd/resolve", "/var/lib/ca-certificates",
		"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/resolv.conf", "/etc/hosts",
		"/etc/host.conf", "/etc/gai.conf", "/etc/nsswitch.conf", "/etc/protocols", "/etc/services", "/etc/passwd",
		"/etc/group", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/ld.so.cache", "/etc/ld.so.conf",
		"/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/alternatives", "/etc/os-release", "/etc/gitconfig", "/etc/static"}
}

// devicePaths are the devices that every tool may write to.
func devicePaths() []string {
	return []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}
}

// followLinks adds to each path that is a link what it leads to.
func followLinks(paths ...string) []string {
	var all []string
	for _, path := range paths {
		if path == "" {
			continue
		}
		all = append(all, path)
		if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
			all = append(all, real)
		}
	}
	return all
}

// resolverFile is where the system's resolver is configured; /etc/resolv.conf
// is often a link to somewhere beneath /run.
func resolverFile() []string {
	real, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if _, statErr := os.Stat(real); err != nil || statErr != nil {
		return nil
	}
	return []string{real}
}
