package server

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

const problemSchema = "#/components/schemas/Problem"

// registerAPI puts every operation of the status API onto mux and gives its
// OpenAPI document. The document itself is served elsewhere: huma would make it
// at the first request, without a lock.
func (s *Server) registerAPI(mux *table) *huma.OpenAPI {
	cfg := huma.DefaultConfig("Waymark", s.cfg.Version)
	cfg.Info.Description = "What is deployed where, what runs, and the decisions that wait for a person."
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.CreateHooks = nil // no $schema members in answers
	cfg.RejectUnknownQueryParameters = true
	cfg.AllowAdditionalPropertiesByDefault = true // answers may grow; Decision says otherwise for itself
	cfg.Transformers = []huma.Transformer{ownProblems}
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "An API token, an ID token of a configured issuer, or the service's own token. None on an open service."}}
	cfg.Security = []map[string][]string{{"token": {}}, {}}
	a := humago.New(mux, cfg)
	schemas := a.OpenAPI().Components.Schemas
	schemas.Schema(reflect.TypeFor[api.Problem](), true, "Problem")
	schemas.Schema(reflect.TypeFor[api.WebhookAnswer](), true, "WebhookAnswer")

	register(s, a, get("targets", "list-targets", "Every target: what is deployed, and its latest run"), s.listTargets)
	register(s, a, get("targets/{env}/{scope}/{team}", "get-target", "One target"), s.getTarget)
	register(s, a, get("releases", "list-releases", "Every tag that was seen, newest first"), s.listReleases)
	register(s, a, get("runs", "list-runs", "Runs, newest first"), s.listRuns)
	register(s, a, get("runs/{id}", "get-run", "One run"), s.getRun)
	register(s, a, get("runs/{id}/plan", "get-plan", "The masked summary of a run's plan; 404 before there is one"), s.getPlan)
	register(s, a, get("runs/{id}/findings", "list-findings", "What gates and policies said of a run"), s.listFindings)
	s.registerReports(a)
	s.registerInventory(a)
	huma.Register(a, logsOperation(), s.logs)
	register(s, a, get("runs/{id}/logs/search", "search-log", "The lines of a run's log that hold a text"), s.searchLog)
	huma.Register(a, eventsOperation(), s.events)
	for _, d := range []struct {
		action  release.VerdictAction
		summary string
	}{
		{release.Approve, "Approve the plan of a run that awaits approval"},
		{release.Reject, "Reject the plan of a run that awaits approval; needs a reason"},
		{release.Cancel, "Stop a run"},
		{release.Retry, "Queue a fresh run of the same release"},
		{release.Resolve, "Settle a run whose apply ended unseen; needs as"},
		{release.Override, "Let a run go on that waits for a window or the end of a freeze; needs a reason"},
	} {
		register(s, a, post("runs/{id}/"+string(d.action), string(d.action)+"-run", d.summary), s.decide(d.action))
	}
	register(s, a, post("runs/{id}/evidence", "gather-evidence", "Gather again what can be told of a run whose end is unknown"), s.gatherEvidence)
	s.registerOrders(a)
	register(s, a, get("locks", "list-locks", "Held locks of states, and whose they are"), s.listLocks)
	register(s, a, post("targets/{env}/{scope}/{team}/unlock", "unlock-target", "Release the lock of a state: that of our own dead run, or any other with force and its id"), s.unlock)
	register(s, a, get("instances", "list-instances", "The processes of the service, and what each has in hand"), s.listInstances)
	register(s, a, post("instances/{id}/drain", "drain-instance", "Let an instance take no new work or, with undo, take it again"), s.drainInstance)
	register(s, a, get("notifications", "list-notifications", "The forges, chats and webhooks that are told of runs, and how far each has been told"), s.listNotifications)
	register(s, a, get("audit", "list-audit", "Entries of the audit log from an index on, in order"), s.listAudit)
	s.registerAudit(a)
	register(s, a, get("whoami", "whoami", "Who the service takes the caller for, and what that one may do"), s.whoami)
	register(s, a, get("tokens", "list-tokens", "API tokens, the newest first"), s.listTokens)
	register(s, a, post("tokens", "create-token", "Make an API token, which this answer alone shows"), s.createToken)
	register(s, a, post("tokens/{id}/revoke", "revoke-token", "End an API token at once, and the sessions that began with it"), s.revokeToken)
	a.OpenAPI().AddOperation(webhookOperation())
	// huma registers its own error shapes, which never leave (see ownProblems).
	delete(schemas.Map(), "ErrorModel")
	delete(schemas.Map(), "ErrorDetail")
	return a.OpenAPI()
}

// register adds a handler whose answer is JSON.
func register[I, T any](s *Server, a huma.API, op huma.Operation, handle handler[I, T]) {
	huma.Register(a, op, respond(s, handle))
}

func get(path, id, summary string) huma.Operation {
	return huma.Operation{Method: http.MethodGet, Path: "/api/v1/" + path, OperationID: id, Summary: summary,
		Responses: map[string]*huma.Response{"default": problemResponse("What is wrong, as a problem document")}}
}

func post(path, id, summary string) huma.Operation {
	op := get(path, id, summary)
	op.Method = http.MethodPost
	op.MaxBodyBytes = maxBody
	op.BodyReadTimeout = headerWithin
	op.Responses["403"] = problemResponse("A rule says no")
	op.Responses["409"] = problemResponse("The run's state does not allow it")
	return op
}

func problemResponse(description string) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{
		"application/problem+json": {Schema: &huma.Schema{Ref: problemSchema}}}}
}

func logsOperation() huma.Operation {
	op := get("runs/{id}/logs", "get-logs", "The log of a run as text; with follow until the run ends")
	op.Responses["200"] = &huma.Response{Description: "Lines of text, or events", Content: map[string]*huma.MediaType{
		"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}, "text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}
	return op
}
