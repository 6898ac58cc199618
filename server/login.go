package server

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/page"
	"github.com/waymark-cd/waymark/release"
)

const (
	attemptCookie = "waymark_login"
	attemptPath   = "/login/"
	attemptLasts  = 10 * time.Minute
)

// attempt is what a browser keeps while its person is at the issuer.
type attempt struct {
	identity.Attempt
	Issuer string `json:"i"`
	Next   string `json:"next"`
	End    int64  `json:"e"`
}

// nextForm is a page that somebody may be sent to after a login.
var nextForm = regexp.MustCompile(`^/(runs/[1-9][0-9]{0,18}|targets/[a-z0-9-]{1,32}/[a-z0-9-]{1,32}/[a-z0-9-]{1,32}|releases|inventory|audit)?$`)

// nextOf is where a login leads to: never to another site.
func nextOf(next string) string {
	if nextForm.MatchString(next) {
		return next
	}
	return "/"
}

// loginForm shows the form, or the board where there is nothing to ask.
func (s *Server) loginForm(w http.ResponseWriter, r *http.Request) {
	if s.person(r.Context()).Name != "" {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	s.showLogin(w, r, http.StatusOK, "")
}

func (s *Server) showLogin(w http.ResponseWriter, r *http.Request, status int, wrong string) {
	next := r.URL.Path
	if given := r.FormValue("next"); given != "" {
		next = given
	}
	l := page.Login{Wrong: wrong, Next: nextOf(next)}
	for _, i := range s.cfg.Issuers {
		l.Issuers = append(l.Issuers, page.Issuer{Name: i.Name(), Start: loginLink(i.Name(), l.Next)})
	}
	f := s.pageFrame(r, "", "Log in")
	f.Public = true // whoever is not in yet is led nowhere else
	s.render(w, r, status, page.LoginPage(f, l))
}

// refuseLogin shows the form again, with why the login failed.
func (s *Server) refuseLogin(w http.ResponseWriter, r *http.Request, err error) {
	p := s.problemOf(r.Context(), err)
	if limited := new(tooMany); errors.As(err, &limited) {
		w.Header().Set("Retry-After", limited.seconds())
	}
	s.showLogin(w, r, p.Status, p.Detail)
}

// login begins a session for whoever has a token.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	next := nextOf(r.PostFormValue("next"))
	if !s.closed() {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	token := r.PostFormValue("token")
	p, err := s.byToken(r.Context(), r, token)
	var kept int64
	switch {
	case err != nil:
	case p.Kind == identity.KindOIDC: // it would outlive what the issuer gave
		err = &identity.Failure{Why: identity.Login, Detail: "an ID token begins no session: sign in with " + p.Via}
	case p.Kind == identity.KindToken:
		hash, _ := identity.TokenHash(token) // it was one a moment ago
		found, lost := s.cfg.Store.TokenByHash(r.Context(), hash)
		kept, err = found.ID, lost
	}
	if err == nil {
		err = s.beginSession(w, r, p, kept)
	}
	if err != nil {
		s.refuseLogin(w, r, err)
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// startLogin sends a browser to an issuer.
func (s *Server) startLogin(w http.ResponseWriter, r *http.Request) {
	issuer := s.issuer(r.PathValue("oidc"))
	if issuer == nil {
		s.showError(w, r, fmt.Errorf("issuer %.40q: %w", r.PathValue("oidc"), release.ErrNotFound))
		return
	}
	back, err := s.callback(r, issuer)
	if err != nil {
		s.refuseLogin(w, r, err)
		return
	}
	address, begun, err := issuer.Begin(r.Context(), back)
	var value string
	if err == nil {
		value, err = s.sealed(r.Context(), "login", issuer.Fingerprint(), attempt{Attempt: begun, Issuer: issuer.Name(),
			Next: nextOf(r.FormValue("next")), End: s.now().Add(attemptLasts).Unix()})
	}
	if err != nil {
		s.refuseLogin(w, r, s.failed(r.Context(), r, err))
		return
	}
	s.setCookie(w, r, attemptCookie, attemptPath, value, attemptLasts)
	http.Redirect(w, r, address, http.StatusSeeOther)
}

// callback is the address that an issuer sends a browser back to.
func (s *Server) callback(r *http.Request, i *identity.Issuer) (string, error) {
	base := s.cfg.URL
	if base == "" && isLoopback(r.Host) {
		base = "http://" + r.Host
	}
	if base == "" {
		return "", fmt.Errorf("%w: this service does not know its own address: set server { url }", release.ErrUnavailable)
	}
	return base + "/login/callback/" + i.Name(), nil
}

// finishLogin takes a browser that comes back from an issuer, and begins its
// session.
func (s *Server) finishLogin(w http.ResponseWriter, r *http.Request) {
	p, next, err := s.returned(r)
	s.setCookie(w, r, attemptCookie, attemptPath, "", 0) // a login ends once, in whatever way
	if err == nil {
		err = s.beginSession(w, r, p, 0)
	}
	if err != nil {
		s.refuseLogin(w, r, s.failed(r.Context(), r, err))
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// returned gives the person of a login that this browser began here.
func (s *Server) returned(r *http.Request) (p identity.Person, next string, err error) {
	notHere := &identity.Failure{Why: identity.Login, Detail: "this login was not begun in this browser, or too long ago, or in another of its windows since: log in again"}
	issuer := s.issuer(r.PathValue("oidc"))
	cookie, err := r.Cookie(attemptCookie)
	if issuer == nil || err != nil {
		return p, "", notHere
	}
	var a attempt
	ok, err := s.opened(r.Context(), "login", cookie.Value, &a, func() (string, bool) {
		return issuer.Fingerprint(), a.Issuer == issuer.Name()
	})
	q, now := r.URL.Query(), s.now().Unix()
	iss := q.Get("iss") // RFC 9207: who answers says who it is, where it can
	switch {
	case err != nil:
		return p, "", err
	case !ok || now >= a.End || now < a.End-int64(attemptLasts/time.Second)-60,
		a.State == "" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(a.State)) != 1,
		iss != "" && iss != issuer.URL():
		return p, "", notHere
	case q.Get("error") != "":
		return p, "", &identity.Failure{Why: identity.Login, Detail: fmt.Sprintf("%s let nobody in: %.100q", issuer.Name(), q.Get("error"))}
	}
	back, err := s.callback(r, issuer)
	if err != nil {
		return p, "", err
	}
	p, err = issuer.Finish(r.Context(), back, q.Get("code"), a.Attempt)
	return p, nextOf(a.Next), err
}

// loginLink is where a login with an issuer begins.
func loginLink(issuer, next string) string {
	return "/login/start/" + url.PathEscape(issuer) + "?" + url.Values{"next": {next}}.Encode()
}
