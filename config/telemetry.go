package config

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// Telemetry says where the traces of runs go. Without an endpoint there are none.
type Telemetry struct {
	Endpoint string // http or https URL of a collector
	Headers  Headers
	Sample   Share
	CAFile   string // absolute path, or empty
}

// IsSet reports whether runs are traced.
func (t Telemetry) IsSet() bool { return t.Endpoint != "" }

// Share is a part of a whole, from 0 to 1.
type Share float64

func telemetryBlock() block {
	return block{
		name:  "telemetry",
		in:    within(func(c *Config, _ string) any { return &c.Telemetry }),
		about: "Send a trace of each run to a collector of OpenTelemetry, by OTLP over HTTP. A collector that is slow or away holds up nothing. See [Traces](telemetry.md).",
		fields: []field{
			{name: "otlp_endpoint", required: true, at: of(func(t *Telemetry) any { return &t.Endpoint }), check: checkEndpoint, example: `"http://127.0.0.1:4318"`,
				meaning: "Address of the collector. `/v1/traces` is added where it does not end with it."},
			{name: "headers", at: of(func(t *Telemetry) any { return &t.Headers }), unset: "none", example: `{ Authorization = env("OTLP_AUTHORIZATION", "") }`,
				meaning: "Further headers of each request."},
			{name: "sample", at: of(func(t *Telemetry) any { return &t.Sample }), fallback: "1.0", example: "0.1",
				meaning: "Which part of all runs is traced, from `0.0` to `1.0`. The same for all that share a database."},
			{name: "ca_file", at: of(func(t *Telemetry) any { return &t.CAFile }), file: true, unset: "the system's own", example: `"/etc/waymark/ca.pem"`,
				meaning: "Certificates that are trusted beside the system's own, as PEM."},
		},
	}
}

// share reads a number from 0 to 1.
func (d *decoder) share(value cty.Value, at hcl.Range, path string) Share {
	v, ok := d.as(value, cty.Number, at, path, "a number from 0.0 to 1.0")
	if !ok {
		return 0
	}
	n := v.AsBigFloat()
	if n.Sign() < 0 || n.Cmp(big.NewFloat(1)) > 0 {
		d.report(at, fmt.Sprintf("%s is not between 0 and 1", path), "write the part of all runs that is traced: 0.1 for each tenth, 1.0 for all")
		return 0
	}
	f, _ := n.Float64()
	return Share(f)
}

// checkDebugListen judges where profiles are served: nowhere but on this machine.
func checkDebugListen(s string) (summary, detail string) {
	if summary, detail = checkListen(s); summary != "" {
		return summary, detail
	}
	if !isLoopback(s) {
		return fmt.Sprintf("is open to the network: %q", short(s)), `profiles have no login: write a loopback address such as "127.0.0.1:6060", and reach it over ssh -L`
	}
	return "", ""
}

// checkDebug finds an address that is taken already.
func (d *decoder) checkDebug(cfg *Config) {
	if s := cfg.Server; s.DebugListen != "" && s.DebugListen == s.Listen && !strings.HasSuffix(s.Listen, ":0") { // 0 is any free port
		d.report(d.at("server", "debug_listen"), fmt.Sprintf("server.debug_listen is the address of server.listen, %s", s.Listen), "write another port")
	}
}
