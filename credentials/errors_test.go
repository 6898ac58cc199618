package credentials_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"github.com/waymark-cd/waymark/credentials"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// writeFile puts a file where AWS_CONFIG_FILE and its like name it.
func writeFile(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.WriteFile(os.Getenv("HOME")+"/"+name, []byte(text), 0o600))
}

func TestErrorsSayWhatToDo(t *testing.T) {
	fail := func(code string, status int) func(*testing.T, *testkit.AWS) {
		return func(_ *testing.T, a *testkit.AWS) { a.Fail("sts", "AssumeRole", code, status, 100) }
	}
	for name, c := range map[string]struct {
		set  func(*testing.T, *testkit.AWS) // nil: nothing
		edit func(*credentials.Request)
		is   error // nil: none of the sentinels
		says []string
	}{
		"a role that does not trust the service": {func(_ *testing.T, a *testkit.AWS) { a.Role(runRole, testkit.RoleOptions{Trusts: []string{applyRole}}) }, everything, nil,
			[]string{"assuming role " + runRole + " for run 7: AWS refuses it to " + userARN + ": does the role exist? Its trust policy must allow " +
				"sts:AssumeRole, sts:TagSession and sts:SetSourceIdentity to " + userARN + `, with sts:ExternalId "ours" where it asks for one; the caller's own policies must allow the same on the role: AccessDenied: `}},
		"a role that is not there": {nil, func(r *credentials.Request) { r.RunRole += "s" }, nil,
			[]string{"assuming role " + runRole + "s for run 7", "sts:AssumeRole and sts:TagSession to " + userARN + "; the caller's"}},
		"an account's role that does not trust the run's": {func(_ *testing.T, a *testkit.AWS) { a.Role(applyRole, testkit.RoleOptions{Trusts: []string{userARN}}) }, everything, nil,
			[]string{"assuming role " + applyRole + " for run 7: AWS refuses it to arn:aws:sts::111122223333:assumed-role/WaymarkRun/waymark-7-dev_us-east-1-research",
				"sts:SetSourceIdentity to " + runRole + "; the caller's"}},
		"an account's role that takes no source identity": {func(_ *testing.T, a *testkit.AWS) {
			a.Role(applyRole, testkit.RoleOptions{Trusts: []string{runRole}, RefusesSourceIdentity: true})
		}, everything, nil, []string{"sts:SetSourceIdentity to " + runRole, "AccessDenied"}},
		"nobody knows who asks": {func(t *testing.T, a *testkit.AWS) {
			fail("AccessDenied", 403)(t, a)
			a.Fail("sts", "GetCallerIdentity", "AccessDenied", 403, 100)
		}, nil, nil, []string{"AWS refuses it to the service's identity", "to the service's identity; the caller's"}},
		"throttled":           {fail("Throttling", 400), nil, release.ErrUnavailable, []string{"unavailable: STS in us-east-1 is asked too often: Throttling: "}},
		"a failure of AWS":    {fail("InternalFailure", 500), nil, release.ErrUnavailable, []string{"unavailable: STS in us-east-1 has a failure: InternalFailure: "}},
		"AWS in repair":       {fail("ServiceUnavailable", 503), nil, release.ErrUnavailable, []string{"STS in us-east-1 has a failure"}},
		"too many requests":   {fail("SomethingNew", 429), nil, release.ErrUnavailable, []string{"STS in us-east-1 has a failure: SomethingNew"}},
		"packed too large":    {fail("PackedPolicyTooLarge", 400), nil, release.ErrInvalid, []string{"larger than STS takes once packed: shorten the backend's key (40), its bucket (10): PackedPolicyTooLarge"}},
		"Region switched off": {fail("RegionDisabledException", 403), nil, nil, []string{"STS is switched off in us-east-1: switch it on in the account settings of IAM"}},
		"expired":             {fail("ExpiredToken", 403), nil, nil, []string{"the service's own credentials have expired: renew them, or give the service an identity that renews itself"}},
		"an unknown key":      {func(t *testing.T, _ *testkit.AWS) { t.Setenv("AWS_ACCESS_KEY_ID", "AKIANOBODY") }, nil, nil, []string{"STS in us-east-1 does not know the service's own credentials: has the access key been deleted"}},
		"a wrong secret":      {func(t *testing.T, _ *testkit.AWS) { t.Setenv("AWS_SECRET_ACCESS_KEY", "hidden") }, nil, nil, []string{"the secret key of the service's own credentials is wrong"}},
		"something else":      {fail("MalformedPolicyDocument", 400), nil, nil, []string{"assuming role " + runRole + " for run 7: MalformedPolicyDocument: The test asked for MalformedPolicyDocument. (request "}},
		"a clock": {func(t *testing.T, a *testkit.AWS) { a.Clock(-time.Hour); fail("RequestExpired", 400)(t, a) }, nil, nil,
			[]string{"the clock of this machine says " + time.Now().UTC().Format("2006-01-02T15"), ", that of AWS " + time.Now().UTC().Add(-time.Hour).Format("2006-01-02T15"), "set it by NTP: RequestExpired"}},
		"no request for it": {nil, func(r *credentials.Request) { r.RunRole = "" }, release.ErrInvalid, []string{"no run_role"}},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := start(t)
			if c.set != nil {
				c.set(t, a)
			}
			_, err := broker(t, a).Open(t.Context(), request(func(r *credentials.Request) {
				if c.edit != nil {
					c.edit(r)
				}
			}))
			checkError(t, err, c.is, c.says)
		})
	}
}

// checkError wants this sentinel and no other, and these parts.
func checkError(t *testing.T, err, is error, says []string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, s := range []error{release.ErrUnavailable, release.ErrInvalid, release.ErrRefused} {
		if errors.Is(err, s) != (s == is) {
			t.Errorf("is %v: %v", s, errors.Is(err, s))
		}
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), "secret/of+") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("a secret in: %v", err)
	}
}

func TestAServiceThatIsNobody(t *testing.T) {
	a, _ := start(t)
	bare(t)
	_, err := broker(t, a).Open(t.Context(), request())
	checkError(t, err, nil, []string{"the service has no AWS identity: the SDK looked at AWS_ACCESS_KEY_ID", "the profile of AWS_PROFILE, or default in ~/.aws/config"})
	if calls := a.AssumeRoles(); len(calls) > 0 {
		t.Errorf("asked %+v", calls)
	}
	writeFile(t, "config", "[profile service]\nregion = us-east-1\n")
	s := credentials.Settings{Profile: "service", Endpoints: a.Endpoints()}
	_, err = credentials.New(load(t, s), s).Open(t.Context(), request())
	checkError(t, err, nil, []string{`profile "service" in ~/.aws/config`})
	_, err = credentials.Load(t.Context(), credentials.Settings{Profile: "nobody"})
	checkError(t, err, release.ErrInvalid, []string{"AWS settings", "nobody"})
}

func TestAServiceWhoseOwnRoleFails(t *testing.T) {
	a, _ := start(t)
	bare(t)
	id, secret := a.Service()
	writeFile(t, "config", "[profile base]\naws_access_key_id = "+id+"\naws_secret_access_key = "+secret+
		"\n[profile service]\nrole_arn = arn:aws:iam::111122223333:role/WaymarkService\nsource_profile = base\n")
	s := credentials.Settings{Profile: "service", Endpoints: a.Endpoints()}
	_, err := credentials.New(load(t, s), s).Open(t.Context(), request())
	checkError(t, err, nil, []string{"the service has no AWS identity", "AccessDenied"})
	a.Fail("sts", "AssumeRole", "TooMany", 429, 1) // which the SDK does not wait for
	_, err = credentials.New(load(t, s), s).Open(t.Context(), request())
	checkError(t, err, release.ErrUnavailable, []string{"looking for the service's AWS identity", "TooMany"})
}

func TestAnUnreachableAWSIsUnavailable(t *testing.T) {
	_, _ = start(t)
	s := credentials.Settings{Endpoints: map[string]string{"sts": "http://127.0.0.1:1"}}
	_, err := credentials.New(load(t, s), s).Open(t.Context(), request())
	checkError(t, err, release.ErrUnavailable, []string{"STS in us-east-1 cannot be reached: look at the network, the proxy, the endpoint and the CA bundle"})
}

func TestThrottlingIsWaitedFor(t *testing.T) {
	a, b := start(t)
	a.Fail("sts", "AssumeRole", "Throttling", 400, 5)
	_, err := b.Open(t.Context(), request())
	must(t, err)
	if n := len(a.AssumeRoles()); n != 6 {
		t.Errorf("asked %d times, want 6", n)
	}
	a.Fail("sts", "AssumeRole", "Throttling", 400, 100)
	_, err = b.Open(t.Context(), request())
	var said smithy.APIError
	if !errors.Is(err, release.ErrUnavailable) || !errors.As(err, &said) || said.ErrorCode() != "Throttling" {
		t.Errorf("got %v", err)
	}
	if n := len(a.AssumeRoles()) - 6; n != 8 {
		t.Errorf("asked %d times, want 8", n)
	}
}

// The SDK finds out by itself how far its machine's clock is off.
func TestAWrongClockIsAllowedFor(t *testing.T) {
	a, b := start(t)
	a.Clock(time.Hour)
	_, err := b.Open(t.Context(), request(everything))
	must(t, err)
}

func TestACancelledRunIsNotUnavailable(t *testing.T) {
	a, b := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Open(ctx, request())
	if !errors.Is(err, context.Canceled) || errors.Is(err, release.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if calls := a.AssumeRoles(); len(calls) > 0 {
		t.Errorf("asked %+v", calls)
	}
}
