package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// Pool is a group of workers and the targets that it alone serves. An empty list
// is all.
type Pool struct {
	Name         string
	Environments []string
	Scopes       []string
	Teams        []string
}

// Blobs is where logs and encrypted plans are kept for other workers: a folder,
// a bucket, or, where both are empty, nowhere.
type Blobs struct {
	Folder   string // absolute
	Bucket   string
	Prefix   string // of every key in the bucket; may end in a slash
	Region   string // of the bucket; empty: the SDK's own choice
	KMSKeyID string // empty: S3's own key
}

// Retention is how long ended runs are kept; 0 is for ever.
type Retention struct {
	Runs time.Duration
	Logs time.Duration // their logs, blobs and folders; not longer than Runs
}

// PoolOf names the pool that a target belongs to: the first whose selectors all
// match, otherwise release.DefaultPool.
func (c *Config) PoolOf(t release.Target) string {
	for _, p := range c.Pools {
		if p.matches(t) {
			return p.Name
		}
	}
	return release.DefaultPool
}

// PoolNames lists the configured pools in file order, and release.DefaultPool.
func (c *Config) PoolNames() []string {
	var out []string
	for _, p := range c.Pools {
		out = append(out, p.Name)
	}
	return append(out, release.DefaultPool)
}

func (p Pool) matches(t release.Target) bool {
	selects := func(names []string, name string) bool { return len(names) == 0 || slices.Contains(names, name) }
	return selects(p.Environments, t.Env) && selects(p.Scopes, t.Scope) && selects(p.Teams, t.Team)
}

// checkPool judges the name of a pool.
func checkPool(s string) (summary, detail string) {
	if s == release.DefaultPool {
		return fmt.Sprintf("cannot be %q", s), "that pool is there by itself, for the targets that no other takes; write another name"
	}
	return checkName(s)
}

// checkScope judges what a tag may say in a Region's place.
func checkScope(s string) (summary, detail string) {
	if isScope(s) {
		return "", ""
	}
	return fmt.Sprintf("cannot be %q", short(s)), "write an AWS Region such as us-east-1, or global"
}

// bucketForm is the name of a bucket.
var bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func checkBucket(s string) (summary, detail string) {
	if bucketForm.MatchString(s) && !strings.Contains(s, "..") {
		return "", ""
	}
	return fmt.Sprintf("is no bucket: %q", short(s)), "write its name alone: 3 to 63 lower-case letters, digits, dots and hyphens"
}

// prefixForm is what keys in a bucket may begin with: parts that do not begin
// with a dot.
var prefixForm = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199})*/?$`)

func checkPrefix(s string) (summary, detail string) {
	if len(s) <= 512 && prefixForm.MatchString(s) {
		return "", ""
	}
	return fmt.Sprintf("is no prefix: %q", short(s)),
		`write one such as "waymark/": letters, digits and . _ - in parts between slashes, none at the beginning, and no part that begins with a dot`
}

// kmsKeyForm is the id or ARN of a key or of an alias.
var kmsKeyForm = regexp.MustCompile(`^(?:(?:arn:aws[a-z0-9-]*:kms:[a-z0-9-]+:[0-9]{12}:key/)?(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})` +
	`|(?:arn:aws[a-z0-9-]*:kms:[a-z0-9-]+:[0-9]{12}:)?alias/[A-Za-z0-9/_-]{1,250})$`)

func checkKMSKey(s string) (summary, detail string) {
	if kmsKeyForm.MatchString(s) {
		return "", ""
	}
	return fmt.Sprintf("is no key: %q", short(s)), "write its id, its ARN, or an alias such as alias/waymark"
}

// intact reports whether every value under these paths could be read.
func (d *decoder) intact(paths ...string) bool {
	for broken := range d.broken {
		for _, path := range paths {
			if broken == path || strings.HasPrefix(broken, path+".") {
				return false
			}
		}
	}
	return true
}

// checkPools finds selectors that name nothing, and pools that no target
// belongs to.
func (d *decoder) checkPools(cfg *Config) {
	if !d.intact("environment", "teams", "global_region") {
		return // what pools select from is not known
	}
	var scopes []string
	if cfg.GlobalRegion != "" {
		scopes = append(scopes, release.Global)
	}
	for _, e := range cfg.Environments {
		for _, r := range e.Regions {
			if !slices.Contains(scopes, r) {
				scopes = append(scopes, r)
			}
		}
	}
	before := len(d.problems)
	for _, p := range cfg.Pools {
		d.checkSelector(p, "environments", p.Environments, cfg.environmentNames())
		d.checkSelector(p, "scopes", p.Scopes, scopes)
		d.checkSelector(p, "teams", p.Teams, cfg.Teams)
	}
	if len(d.problems) == before && d.intact("pool") {
		d.checkPoolUse(cfg)
	}
}

// checkSelector holds one list of a pool against what is configured.
func (d *decoder) checkSelector(p Pool, name string, selected, known []string) {
	path := []string{"pool", p.Name, name}
	at := d.at(path...)
	if d.has(path...) && len(selected) == 0 && d.intact(strings.Join(path, ".")) {
		d.report(at, strings.Join(path, ".")+" is empty", "nothing would match: name some, or leave it out for all")
	}
	for _, s := range selected {
		switch {
		case slices.Contains(known, s):
		case s == release.Global:
			d.report(at, fmt.Sprintf("pool %q takes global targets, and global_region is missing", p.Name),
				`write global_region = "us-east-1" at the top of the file`)
		default:
			d.report(at, fmt.Sprintf("%s cannot name %q, which is not configured", strings.Join(path, "."), short(s)), Choose(s, known))
		}
	}
}

// checkPoolUse reports pools that no target belongs to.
func (d *decoder) checkPoolUse(cfg *Config) {
	matched, takenBy := map[string]bool{}, map[string]string{} // the pool that is chosen before, by pool
	used := map[string]bool{}
	for at := range cfg.cells {
		owner := cfg.PoolOf(at.Target)
		used[owner] = true
		for _, p := range cfg.Pools {
			if p.matches(at.Target) {
				matched[p.Name], takenBy[p.Name] = true, owner
			}
		}
	}
	for _, p := range cfg.Pools {
		at := d.at("pool", p.Name)
		switch {
		case used[p.Name]:
		case matched[p.Name]:
			d.report(at, fmt.Sprintf("no target belongs to pool %q", p.Name),
				fmt.Sprintf("what it matches belongs to a pool before it, such as %q: put this one first, or narrow that one", takenBy[p.Name]))
		default:
			d.report(at, fmt.Sprintf("no target belongs to pool %q", p.Name),
				"its selectors must all match, and no configured target matches them all: change them, or take the block out")
		}
	}
}

// checkBlobs finds places that exclude each other, and settings of a bucket
// where there is none.
func (d *decoder) checkBlobs(cfg *Config) {
	b := &cfg.Blobs
	if !d.has("blobs") {
		return
	}
	if b.Region == "" && b.Bucket != "" && !d.broken["blobs.region"] {
		b.Region = cfg.AWS.Region
	}
	folder, bucket := d.has("blobs", "folder"), d.has("blobs", "bucket")
	switch {
	case folder && bucket:
		d.report(d.at("blobs", "bucket"), "blobs has both a folder and a bucket", "they are kept in one place: take one of the two out")
	case !folder && !bucket:
		d.report(d.at("blobs"), "blobs has neither a folder nor a bucket", `write folder = "/srv/waymark-blobs" or bucket = "...", or take the block out`)
	case folder:
		for _, name := range []string{"prefix", "region", "kms_key_id"} {
			if d.has("blobs", name) {
				d.report(d.at("blobs", name), fmt.Sprintf("blobs.%s does nothing for a folder", name), "it is a setting of a bucket: take it out")
			}
		}
		if rest, err := filepath.Rel(cfg.Server.DataDir, b.Folder); b.Folder != "" && d.intact("server.data_dir") && err == nil && filepath.IsLocal(rest) {
			d.report(d.at("blobs", "folder"), "blobs.folder is in data_dir, which belongs to one process alone", "write a folder that every replica sees")
		}
	}
}

// checkRetention fills in how long logs are kept.
func (d *decoder) checkRetention(cfg *Config) {
	r := &cfg.Retention
	switch {
	case !d.intact("retention"):
	case r.Logs == 0:
		r.Logs = r.Runs
	case r.Runs != 0 && r.Logs > r.Runs:
		d.report(d.at("retention", "logs"), fmt.Sprintf("retention.logs is longer than retention.runs, %s", r.Runs),
			"nobody finds the log of a run that is forgotten: write a shorter time, or leave it out for the same")
	}
}
