package config

import "time"

func poolBlock() block {
	return block{
		name: "pool", label: "name", many: true, checkLabel: checkPool,
		in: within(func(c *Config, name string) any {
			return added(&c.Pools, Pool{Name: name})
		}),
		about: "Workers by name, and the targets that they alone serve: a worker that is started with `waymark serve --pool <name>` takes no others. " +
			"A target belongs to the first pool, in the order of the file, whose selectors all match it. One that belongs to none is served by the pool `default`, which is there by itself.",
		fields: []field{
			{name: "environments", at: of(func(p *Pool) any { return &p.Environments }), unset: "all", example: `["dev"]`,
				meaning: "Environments whose targets belong to the pool."},
			{name: "scopes", at: of(func(p *Pool) any { return &p.Scopes }), check: checkScope, unset: "all", example: `["eu-central-1"]`,
				meaning: "Scopes whose targets belong to the pool: Regions, or `global`."},
			{name: "teams", at: of(func(p *Pool) any { return &p.Teams }), unset: "all", example: `["research"]`,
				meaning: "Teams whose targets belong to the pool."},
		},
	}
}

func blobsBlock() block {
	return block{
		name: "blobs",
		in:   within(func(c *Config, _ string) any { return &c.Blobs }),
		about: "Where logs and encrypted plans are kept for other workers: either a folder that all of them see, or a bucket. " +
			"Without this block they stay on the disk of the worker that made them, where no other can read them.",
		fields: []field{
			{name: "folder", at: of(func(b *Blobs) any { return &b.Folder }), file: true, unset: "no folder",
				example: `"/srv/waymark-blobs"`, meaning: "A folder that all replicas see, outside of `data_dir`."},
			{name: "bucket", at: of(func(b *Blobs) any { return &b.Bucket }), check: checkBucket, unset: "no bucket",
				example: `"org-waymark-blobs"`, meaning: "A bucket of S3. The service's identity needs `s3:GetObject`, `s3:PutObject`, `s3:DeleteObject`, `s3:AbortMultipartUpload` and `s3:ListBucket`."},
			{name: "prefix", at: of(func(b *Blobs) any { return &b.Prefix }), check: checkPrefix, unset: "the whole bucket",
				example: `"waymark/"`, meaning: "What the keys in the bucket begin with."},
			{name: "region", at: of(func(b *Blobs) any { return &b.Region }), check: checkRegion, unset: "`aws.region`, or the SDK's own choice",
				example: `"us-east-1"`, meaning: "Region of the bucket."},
			{name: "kms_key_id", at: of(func(b *Blobs) any { return &b.KMSKeyID }), check: checkKMSKey, unset: "S3's own key",
				example: `"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"`,
				meaning: "Key of KMS that S3 encrypts with: its id or ARN, or those of an alias. The service's identity needs `kms:GenerateDataKey` and `kms:Decrypt`."},
		},
	}
}

// leastRetention is the shortest time for which anything of an ended run is kept.
const leastRetention = 24 * time.Hour

func retentionBlock() block {
	return block{
		name: "retention",
		in:   within(func(c *Config, _ string) any { return &c.Retention }),
		about: "How long ended runs are kept. Never forgotten are the deployed and the newest run of a target, a run whose end is unknown, and any entry of the audit log. " +
			"Without this block everything is kept.",
		fields: []field{
			{name: "runs", at: of(func(r *Retention) any { return &r.Runs }), least: leastRetention, unset: "for ever", example: `"2160h"`,
				meaning: "How long after its end a run is forgotten, with its plan and findings. At least `\"24h\"`."},
			{name: "logs", at: of(func(r *Retention) any { return &r.Logs }), least: leastRetention, unset: "as `runs`", example: `"720h"`,
				meaning: "How long after its end a run's log, blobs and folders are deleted; not longer than `runs`. At least `\"24h\"`."},
		},
	}
}
