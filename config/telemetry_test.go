package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/config"
)

func TestTelemetryIsDecoded(t *testing.T) {
	if cfg := parse(t, minimal); cfg.Telemetry.IsSet() || cfg.Server.DebugListen != "" {
		t.Errorf("without a block: %+v, %q", cfg.Telemetry, cfg.Server.DebugListen)
	}
	cfg := parse(t, minimal+`
server { debug_listen = "[::1]:6060" }
telemetry {
  otlp_endpoint = "https://collector.example.org:4318"
  headers       = { authorization = "Bearer hunter2", x-empty = "" }
}
`)
	got := cfg.Telemetry
	if !got.IsSet() || got.Endpoint != "https://collector.example.org:4318" || got.Sample != 1 || len(got.Headers) != 1 || got.Headers["Authorization"].Reveal() != "Bearer hunter2" {
		t.Errorf("telemetry %+v", got)
	}
	if strings.Contains(fmt.Sprintf("%+v %#v", got, got), "hunter2") {
		t.Error("a header is shown")
	}
	if cfg.Server.DebugListen != "[::1]:6060" {
		t.Errorf("debug_listen %q", cfg.Server.DebugListen)
	}
	for _, sample := range []struct {
		text string
		want config.Share
	}{{"0", 0}, {"0.25", 0.25}, {"1", 1}} {
		if got := parse(t, minimal+"telemetry {\n otlp_endpoint = \"http://127.0.0.1:4318\"\n sample = "+sample.text+"\n}\n").Telemetry.Sample; got != sample.want {
			t.Errorf("sample = %s is %v", sample.text, got)
		}
	}
}

func TestProblemsOfTelemetry(t *testing.T) {
	block := func(text string) string { return minimal + "telemetry {\n" + text + "\n}\n" }
	server := func(text string) string { return minimal + "server {\n" + text + "\n}\n" }
	for name, c := range map[string]struct{ text, want string }{
		"no endpoint":        {block(``), "otlp_endpoint"},
		"no URL":             {block(`otlp_endpoint = "localhost:4318"`), "is no URL"},
		"a password":         {block(`otlp_endpoint = "http://me:hunter2@collector:4318"`), "holds a user name or password"},
		"too much":           {block("otlp_endpoint = \"http://c:4318\"\nsample = 1.5"), "is not between 0 and 1"},
		"less than nothing":  {block("otlp_endpoint = \"http://c:4318\"\nsample = -0.1"), "is not between 0 and 1"},
		"a word":             {block("otlp_endpoint = \"http://c:4318\"\nsample = \"some\""), "must be a number from 0.0 to 1.0"},
		"our own header":     {block("otlp_endpoint = \"http://c:4318\"\nheaders = { Content-Type = \"text/plain\" }"), "cannot set Content-Type"},
		"open profiles":      {server(`debug_listen = "0.0.0.0:6060"`), "is open to the network"},
		"every address":      {server(`debug_listen = ":6060"`), "is open to the network"},
		"a name":             {server(`debug_listen = "debug.example.org:6060"`), "is open to the network"},
		"no port":            {server(`debug_listen = "127.0.0.1"`), "is no address"},
		"the same as listen": {server("listen = \"127.0.0.1:6060\"\ndebug_listen = \"127.0.0.1:6060\""), "is the address of server.listen"},
	} {
		_, err := config.Parse("waymark.hcl", []byte(c.text), func(string) (string, bool) { return "", false })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the problem shows a password: %v", name, err)
		}
	}
}
