package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	sessionCookie = "waymark_session"
	sessionLasts  = 12 * time.Hour
)

// A session is its own proof: the second at which it ends, and a MAC over it
// under the token. Nothing is stored, the cookie does not hold the token, and a
// new token ends every session.

func (s *Server) newSession() string {
	end := strconv.FormatInt(s.now().Add(sessionLasts).Unix(), 10)
	return end + "." + s.sessionMAC(end)
}

func (s *Server) sessionMAC(end string) string {
	mac := hmac.New(sha256.New, []byte(s.cfg.Token))
	mac.Write([]byte("waymark session until " + end))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (s *Server) hasSession(r *http.Request) bool {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil || s.cfg.Token == "" {
		return false
	}
	end, mac, _ := strings.Cut(cookie.Value, ".")
	if !hmac.Equal([]byte(mac), []byte(s.sessionMAC(end))) {
		return false
	}
	until, err := strconv.ParseInt(end, 10, 64)
	return err == nil && s.now().Unix() < until
}

func (s *Server) setSession(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"})
}

// loginForm shows the form, or the board where there is nothing to ask.
func (s *Server) loginForm(w http.ResponseWriter, r *http.Request) {
	if s.knows(r) {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	s.showLogin(w, r, http.StatusOK, "")
}

// login begins a session for whoever knows the token.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Token != "" && !s.isToken(r.PostFormValue("token")) {
		s.showLogin(w, r, http.StatusUnauthorized, "That is not this service's token. It is the value that its configuration gives.")
		return
	}
	if s.cfg.Token != "" {
		s.setSession(w, r, s.newSession(), int(sessionLasts/time.Second))
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// logout takes the session away.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	s.setSession(w, r, "", -1)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
