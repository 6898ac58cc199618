package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/config"
)

func TestSecretsNeverPrintThemselves(t *testing.T) {
	c := parse(t, minimal+`
server {
  token    = "hunter2"
  database = "postgres://u:hunter2@h/d"
}
engine { env = { AWS_SECRET = "hunter2" } }
repository "x" {
  url      = "https://h/x"
  password = "hunter2"
  webhook { secret = "hunter2" }
}`)
	if c.Server.Token.Reveal() != "hunter2" || c.Engine.Env["AWS_SECRET"].Reveal() != "hunter2" {
		t.Fatal("the secrets were not decoded")
	}
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("x", "token", c.Server.Token, "server", c.Server, "pointer", &c.Server.Token)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", c.Server.Token, "server", c.Server)
	asJSON, err := json.Marshal([]any{c.Server, c.Engine.Env, c.Repositories})
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(asJSON) + fmt.Sprint(c.Server, c.Repositories, c.Engine) +
		fmt.Sprintf("%v %+v %#v %s %q %x", c.Server, c.Server, c.Server, c.Server.Token, c.Server.Token, c.Server.Token)
	if strings.Contains(all, "hunter2") || strings.Contains(all, fmt.Sprintf("%x", "hunter2")) {
		t.Errorf("a secret is in %s", all)
	}
	if !strings.Contains(all, "(redacted)") {
		t.Error("nothing says that there is a secret")
	}
	if (config.Secret{}).String() != "" || config.NewSecret("").IsSet() {
		t.Error("an empty secret claims to be one")
	}
}
