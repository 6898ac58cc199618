package credentials_test

import (
	"maps"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"github.com/waymark-cd/waymark/credentials"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// bare takes from the environment what the SDK would find on this machine.
func bare(t *testing.T) {
	t.Helper()
	home := t.TempDir()
	for name, value := range map[string]string{
		"HOME": home, "AWS_CONFIG_FILE": filepath.Join(home, "config"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(home, "credentials"),
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_CA_BUNDLE": "",
		"AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "",
		"HTTPS_PROXY": "", "https_proxy": "", "NO_PROXY": "", "no_proxy": "",
	} {
		t.Setenv(name, value)
	}
}

// be makes the process somebody whom the SDK's default chain finds.
func be(t *testing.T, id, secret, token string) {
	t.Helper()
	bare(t)
	t.Setenv("AWS_ACCESS_KEY_ID", id)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	t.Setenv("AWS_SESSION_TOKEN", token)
}

// load is what the product does, but waits a millisecond where it waits seconds.
func load(t *testing.T, s credentials.Settings) aws.Config {
	t.Helper()
	cfg, err := credentials.Load(t.Context(), s)
	must(t, err)
	patient := cfg.Retryer
	cfg.Retryer = func() aws.Retryer { return retry.AddWithMaxBackoffDelay(patient(), time.Millisecond) }
	return cfg
}

// start gives an AWS with the usual roles and the service's broker.
func start(t *testing.T) (*testkit.AWS, *credentials.Broker) {
	t.Helper()
	a := testkit.StartAWS(t)
	a.Role(runRole, testkit.RoleOptions{Trusts: []string{userARN}, MaxDuration: 12 * time.Hour})
	a.Role(applyRole, testkit.RoleOptions{Trusts: []string{runRole}, MaxDuration: 12 * time.Hour})
	id, secret := a.Service()
	be(t, id, secret, "")
	return a, broker(t, a)
}

func broker(t *testing.T, a *testkit.AWS) *credentials.Broker {
	s := credentials.Settings{Region: "eu-west-1", Endpoints: a.Endpoints()}
	return credentials.New(load(t, s), s)
}

// everything is a request that uses every parameter.
func everything(r *credentials.Request) {
	r.AccountRole, r.ExternalID, r.SourceIdentity, r.Lifetime = applyRole, "ours", "waymark-run-7", 30*time.Minute
}

// calls are the AssumeRole calls without what the kit made up.
func calls(a *testkit.AWS) []testkit.AssumeRoleCall {
	all := a.AssumeRoles()
	for i := range all {
		all[i].AccessKeyID = ""
	}
	return all
}

func TestOpenSendsEveryParameterInOrder(t *testing.T) {
	a, b := start(t)
	a.Role(runRole, testkit.RoleOptions{Trusts: []string{userARN}, ExternalID: "ours"})
	r := request(everything)
	g, err := b.Open(t.Context(), r)
	must(t, err)
	policy, err := credentials.SessionPolicy(r)
	must(t, err)
	tags := map[string]string{"env": "dev", "scope": "us-east-1", "team": "research", "run": "7", "tag": "dev_us-east-1/research/1.0+a"}
	want := []testkit.AssumeRoleCall{
		{Caller: userARN, RoleARN: runRole, SessionName: "waymark-7-dev_us-east-1-research", Policy: policy, Tags: tags,
			SourceIdentity: "waymark-run-7", ExternalID: "ours", Duration: 35 * time.Minute, Region: "us-east-1"},
		{Caller: "arn:aws:sts::111122223333:assumed-role/WaymarkRun/waymark-7-dev_us-east-1-research", RoleARN: applyRole,
			SessionName: "waymark-7-dev_us-east-1-research", Tags: tags, Duration: 35 * time.Minute, Region: "us-east-1"},
	}
	if got := calls(a); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	all := a.AssumeRoles()
	if g.Run.AccessKeyID != all[0].AccessKeyID || g.Account == nil || g.Account.AccessKeyID != all[1].AccessKeyID || g.Account.RoleARN != applyRole {
		t.Errorf("got %v", g)
	}
}

func TestOpenSendsNothingThatIsNotConfigured(t *testing.T) {
	a, b := start(t)
	_, err := b.Open(t.Context(), request(planning, func(r *credentials.Request) {
		r.Tag, r.Region, r.Lifetime = "", "", time.Minute
		r.Target = release.Target{Env: strings.Repeat("e", 32), Scope: "global", Team: "research"}
	}))
	must(t, err)
	policy, err := credentials.SessionPolicy(request(planning))
	must(t, err)
	want := []testkit.AssumeRoleCall{{Caller: userARN, RoleARN: runRole, Policy: policy, Duration: 15 * time.Minute, Region: "eu-west-1",
		SessionName: "waymark-7-" + strings.Repeat("e", 32) + "_global-research",
		Tags:        map[string]string{"env": strings.Repeat("e", 32), "scope": "global", "team": "research", "run": "7"}}}
	if got := calls(a); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestTheLongestNamesMakeASession(t *testing.T) {
	a, b := start(t)
	_, err := b.Open(t.Context(), request(longest, func(r *credentials.Request) {
		r.RunID, r.Tag = 1<<62, r.Target.String()+"/1.0.0-"+strings.Repeat("x", 300)
	}))
	must(t, err)
	call := a.AssumeRoles()[0]
	if len(call.SessionName) != 64 || !strings.HasPrefix(call.SessionName, "waymark-4611686018427387904-xxx") || len(call.Tags["tag"]) != 256 {
		t.Errorf("got %+v", call)
	}
}

// TestSessionsLastLongEnough tells what is asked for, and what is done where
// AWS gives less.
func TestSessionsLastLongEnough(t *testing.T) {
	const h, m = time.Hour, time.Minute
	chain := func(r *credentials.Request) { r.AccountRole = applyRole }
	for name, c := range map[string]struct {
		lifetime time.Duration
		longest  time.Duration // that the run role allows
		edit     func(*credentials.Request)
		asked    []time.Duration
		refresh  time.Duration // after which; 0: never
		inFiles  bool
	}{
		"a short phase":             {5 * m, 12 * h, nil, []time.Duration{15 * m}, 0, false},
		"a long phase":              {3 * h, 12 * h, nil, []time.Duration{3*h + 5*m}, 0, false},
		"just within an hour":       {55 * m, h, nil, []time.Duration{h}, 0, false},
		"the role allows an hour":   {3 * h, h, nil, []time.Duration{3*h + 5*m, h}, 45 * m, true},
		"an hour is just too short": {h, h, nil, []time.Duration{h + 5*m, h}, 45 * m, true},
		"no limit":                  {0, 12 * h, nil, []time.Duration{12 * h}, 11*h + 45*m, true},
		"longer than any session":   {20 * h, 12 * h, nil, []time.Duration{12 * h}, 11*h + 45*m, true},
		"a short chain":             {30 * m, 12 * h, chain, []time.Duration{35 * m, 35 * m}, 0, true},
		"a long chain":              {3 * h, 12 * h, chain, []time.Duration{3*h + 5*m, h}, 45 * m, true},
		"the other phase chains":    {30 * m, 12 * h, func(r *credentials.Request) { r.TwoProfiles = true }, []time.Duration{35 * m}, 0, true},
		"a renewal":                 {5 * m, 12 * h, func(r *credentials.Request) { r.Renewal = true }, []time.Duration{15 * m}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := start(t)
			a.Role(runRole, testkit.RoleOptions{Trusts: []string{userARN}, MaxDuration: c.longest})
			r := request(func(r *credentials.Request) { r.Lifetime = c.lifetime })
			if c.edit != nil {
				c.edit(&r)
			}
			before := time.Now()
			g, err := b.Open(t.Context(), r)
			must(t, err)
			var asked []time.Duration
			for _, call := range a.AssumeRoles() {
				asked = append(asked, call.Duration)
			}
			if !reflect.DeepEqual(asked, c.asked) {
				t.Errorf("asked for %v, want %v", asked, c.asked)
			}
			if c.refresh == 0 != g.RefreshAt().IsZero() {
				t.Errorf("refresh at %v, want after %v", g.RefreshAt(), c.refresh)
			} else if d := g.RefreshAt().Sub(before) - c.refresh; c.refresh != 0 && d.Abs() > m {
				t.Errorf("refresh after %v, want %v", g.RefreshAt().Sub(before), c.refresh)
			}
			files, err := g.Files("/sessions/7")
			must(t, err)
			if (len(files) > 0) != c.inFiles {
				t.Errorf("files %v, want any: %v", maps.Keys(files), c.inFiles)
			}
		})
	}
}

// A service that is itself a session of a role, as on an instance or in a
// container, gets an hour at most.
func TestAServiceWithARoleGetsAnHour(t *testing.T) {
	a, b := start(t)
	const own = "arn:aws:iam::111122223333:role/WaymarkService"
	a.Role(own, testkit.RoleOptions{Trusts: []string{userARN}})
	a.Role(runRole, testkit.RoleOptions{Trusts: []string{own}, MaxDuration: 12 * time.Hour})
	g, err := b.Open(t.Context(), request(func(r *credentials.Request) { r.RunRole, r.Lifetime = own, time.Minute }))
	must(t, err)
	be(t, g.Run.AccessKeyID, g.Run.SecretAccessKey, g.Run.SessionToken)
	_, err = broker(t, a).Open(t.Context(), request(func(r *credentials.Request) { r.Lifetime = 2 * time.Hour }))
	if err == nil || !strings.Contains(err.Error(), "does the role exist?") { // its session policy names no role of its own account
		t.Errorf("got %v", err)
	}
	id, secret := a.Principal("arn:aws:iam::111122223333:user/waymark")
	be(t, id, secret, "")
	config := "[profile base]\naws_access_key_id = " + id + "\naws_secret_access_key = " + secret +
		"\n[profile service]\nrole_arn = " + own + "\nsource_profile = base\n"
	writeFile(t, "config", config)
	s := credentials.Settings{Profile: "service", Endpoints: a.Endpoints()}
	before := len(a.AssumeRoles())
	_, err = credentials.New(load(t, s), s).Open(t.Context(), request(func(r *credentials.Request) { r.Lifetime = 2 * time.Hour }))
	must(t, err)
	var asked []time.Duration
	for _, call := range a.AssumeRoles()[before+1:] {
		asked = append(asked, call.Duration)
	}
	if want := []time.Duration{2*time.Hour + 5*time.Minute, time.Hour}; !reflect.DeepEqual(asked, want) {
		t.Errorf("asked for %v, want %v", asked, want)
	}
}
