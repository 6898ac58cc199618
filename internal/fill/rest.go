package fill

import (
	"fmt"
	"time"

	"github.com/waymark-cd/waymark/release"
)

const (
	keptResults = 20_000 // of gates
	allFreezes  = 300
	inForce     = 3
	allTokens   = 60
	keptConfigs = 50
)

// rest makes what there is once: the targets as they came to be, what they hold,
// and what people and programs have set up.
func (w *world) rest() (*batch, error) {
	b := &batch{runs: w.runs}
	b.add("audit_head", "id, size", 1, w.log.size)
	b.add("repositories", "name, first_contact_at", Repository, millis(w.began))
	for _, c := range w.cells {
		w.addTarget(b, c)
	}
	for i := range keptResults {
		b.add("gate_results", "key, result, created_at", "checkov/"+digest("tree", i), `{"gate":"checkov","version":"3.2.0","findings":[]}`, millis(w.now.Add(-time.Duration(i)*time.Hour)))
	}
	for i := range keptConfigs {
		b.add("configs", "digest, text, first_seen_at", "sha256:"+digest("config", i), "# as of then\n", millis(w.began))
	}
	far := w.now.AddDate(farYears, 0, 0)
	for i := range allFreezes {
		until, lifted, by := w.began.Add(time.Duration(i+1)*24*time.Hour), int64(0), ""
		switch {
		case i >= allFreezes-inForce:
			until = far
		case i%3 == 0:
			lifted, by = millis(until.Add(-time.Hour)), w.person()
		}
		b.add("freezes", "id, env, scope, team, until, reason, created_by, created_at, lifted_by, lifted_at",
			int64(i+1), []string{"dev", "staging", "prod"}[i%3], "", teams()[i%len(teams())], millis(until), "release week", w.person(), millis(w.began), by, lifted)
	}
	for i := range allTokens {
		b.add("tokens", "id, name, actor, hash, grants, member_of, created_by, created_at, expires_at, used_at, revoked_at, revoked_by",
			int64(i+1), fmt.Sprintf("pipeline-%d", i), w.person(), digest("token", i)+digest("token", -i)[:24], `[{"role":"viewer"}]`, "[]", w.person(), millis(w.began), millis(far), millis(w.now), int64(0), "")
	}
	for i := range 6 {
		b.add("instances", "id, name, host, pool, roles, version, config_digest, started_at, beat_at, draining, stopped_at",
			worker(i), fmt.Sprintf("worker-%d", i), fmt.Sprintf("host-%d", i), Pool, "worker", "1.0.0", "", millis(w.began), millis(far), 0, int64(0))
	}
	for i, name := range []string{"siem", "warehouse", "chat"} {
		b.add("consumers", "name, kind, position, sent_at, failures, failing_since, retry_at, trouble", name, "webhook", w.log.size*int64(i+1)/4, millis(w.now), int64(i), int64(0), int64(0), "")
	}
	for _, name := range []string{"github", "slack", "teams"} {
		b.add("notifications", "name, position, told, dropped, failures, error, told_at, failed_at, retry_at, seen_at", name, w.log.size-10, int64(w.runs), int64(3), int64(0), "", millis(w.now), int64(0), int64(0), millis(w.now))
	}
	return b, nil
}

// addTarget makes a target's row and what its state holds.
func (w *world) addTarget(b *batch, c *cell) {
	region := c.Scope
	if c.IsGlobal() {
		region = "us-east-1"
	}
	b.add("targets", "env, scope, team, account, region, backend, deployed_run_id, newest_run_id", c.Env, c.Scope, c.Team, c.account, region,
		text(map[string]string{"kind": "s3", "bucket": "org-state-" + c.Env, "key": c.Team + "/" + c.Env + "-" + c.Scope + "/terraform.tfstate", "lock": "org-lock-" + c.Env}), c.deployed, c.last)
	if c.deployed == 0 {
		return
	}
	for i := range w.size.Resources / len(w.cells) {
		x := resource(i)
		b.add("inventory", "env, scope, team, address, type, provider, mode, run_id, tag, changed_at", c.Env, c.Scope, c.Team,
			x.Address, x.Type, x.Provider, x.Mode, c.deployed, c.tag, millis(w.now.Add(-time.Duration(i)*time.Minute)))
	}
}

// resource is the nth thing that the code of every target makes.
func resource(n int) release.Resource {
	types := []string{"aws_instance", "aws_security_group_rule", "aws_subnet", "aws_iam_role", "aws_iam_role_policy_attachment", "aws_s3_bucket", "aws_route53_record",
		"aws_lambda_function", "aws_cloudwatch_metric_alarm", "aws_db_instance", "kubernetes_deployment", "kubernetes_service", "datadog_monitor", "random_password"}
	kind := types[n%len(types)]
	provider := "registry.opentofu.org/hashicorp/aws"
	switch n % len(types) {
	case 10, 11:
		provider = "registry.opentofu.org/hashicorp/kubernetes"
	case 12:
		provider = "registry.opentofu.org/datadog/datadog"
	case 13:
		provider = "registry.opentofu.org/hashicorp/random"
	}
	names := []string{"web", "api", "worker", "cache", "ingress", "batch", "metrics"}
	address := fmt.Sprintf("module.regional.%s.%s[%d]", kind, names[n/len(types)%len(names)], n/len(types)/len(names))
	return release.Resource{Address: address, Type: kind, Provider: provider, Mode: "managed"}
}
