package server

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/page"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// registerInventory adds what there is, as of the last applies.
func (s *Server) registerInventory(a huma.API) {
	register(s, a, get("inventory", "list-inventory", "The resources of all targets, as of their last applies, and which run changed each"), s.listInventory)
	register(s, a, get("targets/{env}/{scope}/{team}/resources", "list-resources", "The resources of one target"), s.listResources)
}

type inventoryInput struct {
	Limit    int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"How many, at most"`
	Cursor   string `query:"cursor" maxLength:"2000" doc:"next of the page before"`
	Target   string `query:"target" maxLength:"100" doc:"Only this target" example:"dev_us-east-1/research"`
	Type     string `query:"type" maxLength:"200" doc:"Only this type" example:"aws_instance"`
	Provider string `query:"provider" maxLength:"200" doc:"Only this provider, whole or by its last part" example:"aws"`
	Text     string `query:"text" maxLength:"200" doc:"Only addresses that hold this, in any case"`
}

func (s *Server) listInventory(ctx context.Context, in *inventoryInput) (api.ResourceList, error) {
	target, err := parseFilter(in.Target)
	if err != nil {
		return api.ResourceList{}, err
	}
	return s.inventory(ctx, target, store.InventoryFilter{Type: in.Type, Provider: in.Provider, Text: in.Text, Limit: in.Limit, Cursor: in.Cursor})
}

type resourcesInput struct {
	Env      string `path:"env" maxLength:"32" example:"dev"`
	Scope    string `path:"scope" maxLength:"32" example:"us-east-1"`
	Team     string `path:"team" maxLength:"32" example:"research"`
	Limit    int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"How many, at most"`
	Cursor   string `query:"cursor" maxLength:"2000" doc:"next of the page before"`
	Type     string `query:"type" maxLength:"200" doc:"Only this type" example:"aws_instance"`
	Provider string `query:"provider" maxLength:"200" doc:"Only this provider, whole or by its last part" example:"aws"`
	Text     string `query:"text" maxLength:"200" doc:"Only addresses that hold this, in any case"`
}

func (s *Server) listResources(ctx context.Context, in *resourcesInput) (api.ResourceList, error) {
	target, err := release.ParseTarget(release.Target{Env: in.Env, Scope: in.Scope, Team: in.Team}.String())
	if err != nil {
		return api.ResourceList{}, err
	}
	return s.inventory(ctx, &target, store.InventoryFilter{Type: in.Type, Provider: in.Provider, Text: in.Text, Limit: in.Limit, Cursor: in.Cursor})
}

func (s *Server) inventory(ctx context.Context, target *release.Target, f store.InventoryFilter) (api.ResourceList, error) {
	within, err := s.narrowed(ctx, target)
	if err != nil {
		return api.ResourceList{}, err
	}
	f.Target, f.Within = target, within
	items, next, err := s.cfg.Store.Inventory(ctx, f)
	return api.ResourceList{Next: next, Resources: mapped(items, func(x release.InventoryItem) api.Resource {
		return api.Resource{Target: api.TargetRef{Env: x.Target.Env, Scope: x.Target.Scope, Team: x.Target.Team},
			Address: x.Address, Type: x.Type, Provider: x.Provider, Mode: x.Mode,
			RunID: release.FormatID(x.RunID), Tag: x.Tag, ChangedAt: utc(x.ChangedAt)}
	})}, err
}

const resourcesShown = 100 // on one page

// inventoryPage shows the resources of all targets that somebody may see, or of one.
func (s *Server) inventoryPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	text := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	filter := page.InventoryFilter{Target: text("target"), Type: text("type"), Provider: text("provider"), Text: text("text")}
	target, err := parseFilter(filter.Target)
	f := s.pageFrame(r, "/inventory", "Inventory")
	var list api.ResourceList
	if err == nil {
		about := url.Values{}
		if target != nil {
			about.Set("target", target.String())
		}
		f.Live, err = s.liveURL(r.Context(), about)
	}
	if err == nil {
		list, err = s.inventory(r.Context(), target, store.InventoryFilter{Type: filter.Type, Provider: filter.Provider,
			Text: filter.Text, Limit: resourcesShown, Cursor: q.Get("cursor")})
	}
	if err != nil {
		s.showError(w, r, err)
		return
	}
	next := ""
	if list.Next != "" {
		q.Set("cursor", list.Next)
		next = "/inventory?" + q.Encode()
	}
	s.render(w, r, http.StatusOK, page.InventoryPage(f, page.Inventory{Filter: filter, Resources: list.Resources, Next: next, Paged: r.URL.Query().Get("cursor") != ""}))
}
