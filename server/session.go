package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/identity"
)

const (
	sessionCookie = "waymark_session"
	sessionLasts  = 12 * time.Hour
	maxCookie     = 3800 // bytes; browsers keep 4096 with the name and the attributes
)

// session is what a browser keeps of who it is. It is its own proof: it carries a
// MAC under a key that the instances share, so that each of them knows it, and
// nothing is stored. What its person may do is asked anew at each request.
type session struct {
	Kind identity.Kind `json:"k"`
	End  int64         `json:"e"` // in seconds since 1970
	// Token is the id of the API token that it began with: it ends with it.
	Token int64 `json:"t,omitempty"`
	// The rest is of a person whom an issuer has named.
	Issuer  string   `json:"i,omitempty"`
	Subject string   `json:"s,omitempty"`
	Name    string   `json:"n,omitempty"`
	Emails  []string `json:"m,omitempty"`
	Groups  []string `json:"g,omitempty"`
}

// sealed makes text of v that only this service can have made. What binds it must
// be the same when it is opened.
func (s *Server) sealed(ctx context.Context, purpose, binding string, v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	mac, err := s.mac(ctx, purpose, binding, data)
	return base64.RawURLEncoding.EncodeToString(data) + "." + base64.RawURLEncoding.EncodeToString(mac), err
}

// opened reads what sealed has made into v, and reports whether it did. binding
// is asked once v is filled and before any of it counts.
func (s *Server) opened(ctx context.Context, purpose, text string, v any, binding func() (string, bool)) (bool, error) {
	body, sum, _ := strings.Cut(text, ".")
	data, err1 := base64.RawURLEncoding.Strict().DecodeString(body)
	mac, err2 := base64.RawURLEncoding.Strict().DecodeString(sum)
	if err1 != nil || err2 != nil || len(mac) != sha256.Size || json.Unmarshal(data, v) != nil {
		return false, nil
	}
	bound, ok := binding()
	if !ok {
		return false, nil
	}
	want, err := s.mac(ctx, purpose, bound, data)
	return err == nil && hmac.Equal(mac, want), err
}

// mac is a MAC under a key for one purpose: whoever has a copy of the database
// alone cannot make one that is bound to a secret of the configuration.
func (s *Server) mac(ctx context.Context, purpose, binding string, data []byte) ([]byte, error) {
	root, err := s.sealKey(ctx)
	if err != nil {
		return nil, err
	}
	derive := hmac.New(sha256.New, root)
	fmt.Fprintf(derive, "waymark %s\x00%s", purpose, binding)
	mac := hmac.New(sha256.New, derive.Sum(nil))
	mac.Write(data)
	return mac.Sum(nil), nil
}

// sealKey reads the key that the instances share, once.
func (s *Server) sealKey(ctx context.Context) ([]byte, error) {
	s.sealing.Lock()
	defer s.sealing.Unlock()
	if s.sealWith == nil {
		key, err := s.cfg.Store.Secret(ctx, "sessions")
		if err != nil {
			return nil, err
		}
		s.sealWith = key
	}
	return s.sealWith, nil
}

// binding is what a session must still be bound to: the service's token, or the
// issuer as it was configured.
func (s *Server) binding(in *session) (string, bool) {
	switch in.Kind {
	case identity.KindMaster:
		return s.cfg.Token, s.cfg.Token != ""
	case identity.KindToken:
		return "", true
	case identity.KindOIDC:
		if i := s.issuer(in.Issuer); i != nil {
			return i.Fingerprint(), true
		}
	}
	return "", false
}

// issuer finds a configured one by its name; nil for none.
func (s *Server) issuer(name string) *identity.Issuer {
	for _, i := range s.cfg.Issuers {
		if i.Name() == name {
			return i
		}
	}
	return nil
}

// bySession says whose session a request carries; nobody where it has none that
// counts.
func (s *Server) bySession(ctx context.Context, r *http.Request) (identity.Person, error) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return identity.Person{}, nil
	}
	var in session
	ok, err := s.opened(ctx, "session", cookie.Value, &in, func() (string, bool) { return s.binding(&in) })
	now := s.now().Unix()
	if err != nil || !ok || now >= in.End || now < in.End-int64(sessionLasts/time.Second)-60 { // a clock that was set back does not prolong it
		return identity.Person{}, err
	}
	switch in.Kind {
	case identity.KindMaster: // whoever holds the token is nobody in particular: nothing is decided in such a name by a click
		p := identity.Master()
		p.Decides = false
		return p, nil
	case identity.KindToken:
		p, err := holder(s.cfg.Store.Token(ctx, in.Token))
		return p, s.failed(ctx, r, err)
	}
	return s.issuer(in.Issuer).Granted(identity.Person{Name: in.Name, Kind: in.Kind, Emails: in.Emails, Groups: in.Groups,
		Via: in.Issuer, Subject: in.Subject, Decides: true}), nil
}

// beginSession gives a browser a session for a person. That a person logs in is
// written into the audit log first; the holder of the service's token is none.
func (s *Server) beginSession(w http.ResponseWriter, r *http.Request, p identity.Person, token int64) error {
	in := session{Kind: p.Kind, End: s.now().Add(sessionLasts).Unix(), Token: token}
	if p.Kind == identity.KindOIDC {
		in.Issuer, in.Subject, in.Name, in.Emails, in.Groups = p.Via, p.Subject, p.Name, p.Emails, p.Groups
	}
	binding, _ := s.binding(&in)
	value, err := s.sealed(r.Context(), "session", binding, in)
	if err == nil && len(value) > maxCookie { // groups that no rule names go first
		in.Groups = nil
		for _, g := range p.Groups {
			if s.issuer(in.Issuer).Named(g) {
				in.Groups = append(in.Groups, g)
			}
		}
		value, err = s.sealed(r.Context(), "session", binding, in)
	}
	if err == nil && len(value) > maxCookie {
		err = &identity.Failure{Why: identity.Claims, Detail: fmt.Sprintf("%s is in %d groups that the configuration names, more than a browser can keep", p.Name, len(in.Groups))}
	}
	if err == nil && p.Kind != identity.KindMaster {
		err = s.cfg.Store.Log(r.Context(), audit.Entry{Actor: p.Name, Action: "session.started", Details: map[string]any{
			"kind": string(p.Kind), "via": p.Via, "subject": p.Subject, "groups": in.Groups, "address": s.clientAddr(r).String()}})
	}
	if err != nil {
		return err
	}
	s.setCookie(w, r, sessionCookie, "/", value, sessionLasts)
	return nil
}

// setCookie gives a browser a cookie, or takes it away where it lasts for no
// time. Another site's page may lead here with it, and may send nothing with it.
func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, name, path, value string, lasts time.Duration) {
	age := int(lasts / time.Second)
	if age <= 0 {
		age = -1
	}
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: path, MaxAge: age,
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" || strings.HasPrefix(s.cfg.URL, "https:")})
}

// logout takes the session away.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	s.setCookie(w, r, sessionCookie, "/", "", 0)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// ownPage reports whether a browser says that one of this service's own pages has
// sent a request. One that says nothing is not believed.
func (s *Server) ownPage(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	_, host, ok := strings.Cut(r.Header.Get("Origin"), "://")
	return ok && host == r.Host
}
