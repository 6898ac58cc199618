package bench

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/waymark-cd/waymark/internal/fill"
	"github.com/waymark-cd/waymark/release"
)

// page is an address of the service, in one of the ways in which people and
// programs ask it.
type page struct {
	route string               // as the server has it
	how   string               // what is asked for
	at    func(f facts) string // the address; each time another where that makes a difference
	want  int                  // status; 0: 200
	kind  kind                 // of what it costs
}

// kind says whether a page's time is the service's own.
type kind int

const (
	ordinary kind = iota
	stream        // it does not end: its beginning is timed
	rated         // it answers so many a second and no more: it is asked slowly
)

// facts are what addresses are made of.
type facts struct {
	n       int   // of the request
	runs    int64 // the highest id
	entries int64
	planned []string // runs with a plan, findings and a report
	public  []string // runs of a public environment
	asset   string   // address of the style sheet
	next    string   // cursor of the inventory
}

func (f facts) target() release.Target {
	all := fill.Targets()
	return all[f.n*37%len(all)]
}

// run is one of all runs, in no order.
func (f facts) run() int64 { return 1 + int64(f.n)*7919%f.runs }

func (f facts) entry() int64 { return int64(f.n) * 104729 % f.entries }

func (f facts) of(some []string) string { return some[f.n%len(some)] }

func fixed(address string) func(facts) string { return func(facts) string { return address } }

// deep is an address with a target, or with a cursor anywhere in the list, in its query.
func deep(address string) func(facts) string {
	return func(f facts) string {
		address := strings.ReplaceAll(address, "{run}", strconv.FormatInt(f.run(), 10))
		address = strings.ReplaceAll(address, "{entry}", strconv.FormatInt(f.entry(), 10))
		return strings.ReplaceAll(address, "{target}", f.target().String())
	}
}

// ofTarget is an address with a target in its path.
func ofTarget(begin, end string) func(facts) string {
	return func(f facts) string {
		t := f.target()
		return begin + t.Env + "/" + t.Scope + "/" + t.Team + end
	}
}

// pages lists every address, the lists with each of their filters.
func pages() []page {
	const api = "GET /api/v1/"
	out := []page{
		{route: "GET /{$}", how: "board", at: fixed("/")},
		{route: "GET /{$}", how: "board, one environment", at: fixed("/?env=prod")},
		{route: "GET /{$}", how: "board, what needs a person", at: fixed("/?state=needs")},
		{route: "GET /targets/{env}/{scope}/{team}", how: "target", at: ofTarget("/targets/", "")},
		{route: "GET /targets/{env}/{scope}/{team}", how: "target, older runs", at: func(f facts) string { return ofTarget("/targets/", "?cursor=")(f) + strconv.FormatInt(f.run(), 10) }},
		{route: "GET /targets/{env}/{scope}/{team}/lock", how: "lock", at: ofTarget("/targets/", "/lock")},
		{route: "GET /runs/{id}", how: "run, any", at: deep("/runs/{run}")},
		{route: "GET /runs/{id}", how: "run with plan and findings", at: func(f facts) string { return "/runs/" + f.of(f.planned) }},
		{route: "GET /public/runs/{id}", how: "public run", at: func(f facts) string { return "/public/runs/" + f.of(f.public) }, kind: rated},
		{route: "GET /badge/{env}/{scope}/{badge}", how: "badge", at: func(f facts) string {
			t := f.target()
			return "/badge/dev/" + t.Scope + "/" + t.Team + ".svg"
		}, kind: rated},
		{route: "GET /login", how: "login, by somebody who is in", at: fixed("/login"), want: 303},
		{route: "GET /login/start/{oidc}", how: "login by an issuer, none configured", at: fixed("/login/start/none"), want: 404},
		{route: "GET /login/callback/{oidc}", how: "login by an issuer, none configured", at: fixed("/login/callback/none"), want: 401},
		{route: "GET /live", how: "stream of a page", at: fixed("/live"), kind: stream},
		{route: "GET /assets/", how: "style sheet", at: func(f facts) string { return f.asset }},
		{route: "GET /docs", how: "description of the API", at: fixed("/docs")},
		{route: "GET /openapi.json", how: "description of the API", at: fixed("/openapi.json")},
		{route: "GET /healthz", how: "health", at: fixed("/healthz")},
		{route: "GET /readyz", how: "readiness", at: fixed("/readyz")},
		{route: "GET /metrics", how: "metrics", at: fixed("/metrics")},
		{route: api + "targets", how: "all targets", at: fixed("/api/v1/targets")},
		{route: api + "targets/{env}/{scope}/{team}", how: "one target", at: ofTarget("/api/v1/targets/", "")},
		{route: api + "runs/{id}", how: "one run", at: deep("/api/v1/runs/{run}")},
		{route: api + "runs/{id}/plan", how: "plan", at: func(f facts) string { return "/api/v1/runs/" + f.of(f.planned) + "/plan" }},
		{route: api + "runs/{id}/findings", how: "findings", at: deep("/api/v1/runs/{run}/findings")},
		{route: api + "runs/{id}/reports", how: "reports", at: deep("/api/v1/runs/{run}/reports")},
		{route: api + "runs/{id}/reports/{gate}", how: "one report", at: func(f facts) string { return "/api/v1/runs/" + f.of(f.planned) + "/reports/" + fill.Gate }},
		{route: api + "runs/{id}/logs/search", how: "search in a log that is gone", at: deep("/api/v1/runs/{run}/logs/search?text=error")},
		{route: api + "runs/{id}/logs", how: "log that is gone", at: deep("/api/v1/runs/{run}/logs")},
		{route: api + "events", how: "stream of events", at: fixed("/api/v1/events"), kind: stream},
		{route: api + "locks", how: "locks of all states", at: fixed("/api/v1/locks")},
		{route: api + "instances", how: "instances", at: fixed("/api/v1/instances")},
		{route: api + "notifications", how: "notifications", at: fixed("/api/v1/notifications")},
		{route: api + "consumers", how: "consumers", at: fixed("/api/v1/consumers")},
		{route: api + "freezes", how: "freezes in force", at: fixed("/api/v1/freezes")},
		{route: api + "freezes", how: "freezes, all", at: fixed("/api/v1/freezes?all=true")},
		{route: api + "tokens", how: "tokens", at: fixed("/api/v1/tokens")},
		{route: api + "whoami", how: "who somebody is", at: fixed("/api/v1/whoami")},
	}
	return append(append(append(out, runPages()...), releasePages()...), append(inventoryPages(), auditPages()...)...)
}

func runPages() []page {
	var out []page
	add := func(how, query string) {
		out = append(out, page{route: "GET /api/v1/runs", how: how, at: deep("/api/v1/runs" + query)})
	}
	add("runs", "")
	add("runs, 500 of them", "?limit=500")
	add("runs, deep", "?cursor={run}")
	add("runs of a target", "?target={target}")
	add("runs of a target, deep", "?target={target}&cursor={run}")
	for _, s := range release.States() {
		add("runs that are "+string(s), "?state="+string(s))
		add("runs that are "+string(s)+", deep", "?state="+string(s)+"&cursor={run}")
		add("runs of a target that are "+string(s), "?target={target}&state="+string(s))
	}
	for _, k := range []release.Kind{release.Deploy, release.Drift, release.Rollback, release.Destroy, release.PlanOnly} {
		add("runs of kind "+string(k), "?kind="+string(k))
		add("runs of kind "+string(k)+", deep", "?kind="+string(k)+"&cursor={run}")
		add("runs of a target of kind "+string(k), "?target={target}&kind="+string(k))
		add("runs of kind "+string(k)+" that failed", "?state=failed&kind="+string(k)+"&cursor={run}")
		add("runs of a target of kind "+string(k)+" that were rejected", "?target={target}&state=rejected&kind="+string(k))
		add("runs of a target of kind "+string(k)+" that succeeded", "?target={target}&state=succeeded&kind="+string(k))
	}
	return out
}

func releasePages() []page {
	var out []page
	add := func(how, query string) {
		out = append(out, page{route: "GET /api/v1/releases", how: how, at: deep("/api/v1/releases" + query)},
			page{route: "GET /releases", how: how + ", page", at: deep("/releases" + query)})
	}
	add("releases", "")
	add("releases, deep", "?cursor={run}")
	add("releases of a target", "?target={target}")
	for _, d := range []release.Decision{release.Admitted, release.Adopted, release.Refused} {
		add("releases "+string(d), "?decision="+string(d))
		add("releases "+string(d)+", deep", "?decision="+string(d)+"&cursor={run}")
		add("releases of a target, "+string(d), "?target={target}&decision="+string(d))
	}
	return out
}

func inventoryPages() []page {
	var out []page
	add := func(how, query string) {
		out = append(out, page{route: "GET /api/v1/inventory", how: how, at: deep("/api/v1/inventory" + query)},
			page{route: "GET /inventory", how: how + ", page", at: deep("/inventory" + query)})
	}
	add("inventory", "")
	add("inventory, next page", "?cursor={resource}")
	add("inventory of a target", "?target={target}")
	add("inventory by type", "?type=aws_db_instance")
	add("inventory by a type that is nowhere", "?type=aws_unheard_of")
	add("inventory by provider", "?provider=datadog")
	add("inventory by a provider that is nowhere", "?provider=azurerm")
	add("inventory by text", "?text=metrics[1]")
	add("inventory by a text that is nowhere", "?text=nowhere")
	add("inventory by type and text", "?type=aws_instance&text=batch")
	for i := range out {
		at := out[i].at
		out[i].at = func(f facts) string { return strings.ReplaceAll(at(f), "{resource}", f.next) }
	}
	return append(out, page{route: "GET /api/v1/targets/{env}/{scope}/{team}/resources", how: "resources of a target", at: ofTarget("/api/v1/targets/", "/resources")},
		page{route: "GET /api/v1/targets/{env}/{scope}/{team}/resources", how: "resources of a target by text", at: ofTarget("/api/v1/targets/", "/resources?text=metrics")})
}

func auditPages() []page {
	var out []page
	add := func(how, query string) {
		out = append(out, page{route: "GET /audit", how: how, at: deep("/audit" + query)})
	}
	add("audit", "")
	add("audit, deep", "?before={entry}")
	add("audit, one entry", "?entry={entry}")
	add("audit of a target", "?target={target}")
	add("audit of a target, deep", "?target={target}&before={entry}")
	add("audit of a target that is nowhere", "?target=dev_us-east-1/nobody")
	add("audit of a run", "?run={run}")
	add("audit by action", "?action=run.rejected")
	add("audit by action, deep", "?action=run.destroy_requested&before={entry}")
	add("audit by an action that never was", "?action=run.unheard_of")
	add("audit by the beginning of an action", "?action=freeze.*&before={entry}")
	add("audit by actor", "?actor=person-149@example.org")
	add("audit by part of an actor, deep", "?actor=PERSON-14&before={entry}")
	add("audit by an actor who never was", "?actor=nobody")
	add("audit by target and action", "?target={target}&action=run.destroyed")
	add("audit by action and actor", "?action=run.approved&actor=person-149@example.org")
	add("audit by text", "?text=person-149")
	add("audit by a text that is nowhere", "?text=nowhere")
	add("audit of a target by a text that is nowhere", "?target={target}&text=nowhere")
	return append(out,
		page{route: "GET /api/v1/audit", how: "entries", at: deep("/api/v1/audit?after={entry}")},
		page{route: "GET /api/v1/audit", how: "entries, 500 of them", at: deep("/api/v1/audit?after={entry}&limit=500")},
		page{route: "GET /api/v1/audit/checkpoint", how: "checkpoint", at: fixed("/api/v1/audit/checkpoint")},
		page{route: "GET /audit/checkpoint", how: "checkpoint as text", at: fixed("/audit/checkpoint")},
		page{route: "GET /api/v1/audit/keys", how: "keys", at: fixed("/api/v1/audit/keys")},
		page{route: "GET /api/v1/audit/proof/inclusion", how: "proof of an entry", at: deep("/api/v1/audit/proof/inclusion?index={entry}")},
		page{route: "GET /api/v1/audit/proof/consistency", how: "proof of growth", at: deep("/api/v1/audit/proof/consistency?from={entry}")},
		page{route: "GET /audit/tile/{path...}", how: "tile of hashes", at: func(f facts) string { return fmt.Sprintf("/audit/tile/0/%s", tilePath(f.entry()/256)) }},
		page{route: "GET /audit/tile/{path...}", how: "tile of entries", at: func(f facts) string { return fmt.Sprintf("/audit/tile/entries/%s", tilePath(f.entry()/256)) }})
}

// tilePath is where a full tile is: the last one may be partial.
func tilePath(n int64) string {
	n = max(0, n-1)
	out := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		out = fmt.Sprintf("x%03d/%s", n%1000, out)
	}
	return out
}
