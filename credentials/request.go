package credentials

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/waymark-cd/waymark/release"
)

// What STS takes.
const (
	maxSessionName = 64
	maxTagValue    = 256
	minSession     = 15 * time.Minute
	maxSession     = 12 * time.Hour
	// hourSession is what every role allows, and all that a chained role gets.
	hourSession = time.Hour
	// slack is what a session is asked to last longer than the phase: the engine
	// may need time to save its state when the phase is over.
	slack = 5 * time.Minute
)

// Request says which run wants sessions, and for what.
type Request struct {
	RunID   int64
	Tag     string // "" where the run has none
	Target  release.Target
	Account string // twelve digits; "" where it is not known
	// Region is the target's: where STS is asked, and AWS_REGION of the run.
	// "": the Region of the service.
	Region  string
	Phase   release.Phase // the state's object can be written in PhaseApply alone
	Backend release.BackendSpec

	RunRole     string // ARN; the session for the state
	AccountRole string // ARN of the plan or apply role of this phase; "" where there is none
	// TwoProfiles says that the other phase of the run has an AccountRole. A saved
	// plan keeps the backend's arguments: the profile that the backend names when
	// it plans must be there when it applies.
	TwoProfiles bool

	ExternalID     string        // that RunRole asks for; "": none is sent
	SourceIdentity string        // "": none is sent
	Lifetime       time.Duration // how long the phase may take from now on; 0: no limit
	// Renewal says that the phase has begun with files, which are to be replaced:
	// the grant is in files too, even if the sessions outlive the phase now.
	Renewal bool
}

// roleARN is the form of a role's ARN. The path and name have what IAM allows;
// nothing of it is a wildcard in a policy.
var roleARN = regexp.MustCompile(`^arn:(aws[a-z-]{0,20}):iam::([0-9]{12}):role/[\w+=,.@/-]{1,576}$`)

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm  = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
)

// check refuses what no session could be opened for, and what would be a
// pattern in a policy.
func (r Request) check() error {
	if r.RunRole == "" {
		return fmt.Errorf("%w session: no run_role is configured: name the role whose session reaches the states", release.ErrInvalid)
	}
	for _, role := range []string{r.RunRole, r.AccountRole} {
		if role != "" && !roleARN.MatchString(role) {
			return fmt.Errorf("%w session: %q is no ARN of a role: write arn:aws:iam::111122223333:role/Name", release.ErrInvalid, role)
		}
	}
	if r.Account != "" && !accountForm.MatchString(r.Account) {
		return fmt.Errorf("%w session: account %q is not twelve digits", release.ErrInvalid, r.Account)
	}
	if r.Region != "" && !regionForm.MatchString(r.Region) {
		return fmt.Errorf("%w session: %q is no Region", release.ErrInvalid, r.Region)
	}
	if r.Phase != release.PhasePlan && r.Phase != release.PhaseApply {
		return fmt.Errorf("%w session: phase %q: want %q or %q", release.ErrInvalid, r.Phase, release.PhasePlan, release.PhaseApply)
	}
	return nil
}

// partition and account of the run role; check has seen it.
func (r Request) partition() string { return roleARN.FindStringSubmatch(r.RunRole)[1] }
func (r Request) home() string      { return roleARN.FindStringSubmatch(r.RunRole)[2] }

// sessionName is what CloudTrail shows: waymark-<run>-<env>_<scope>-<team>, cut
// to what STS takes. The run's number comes first and is never cut.
func (r Request) sessionName() string {
	name := fmt.Sprintf("waymark-%s-%s_%s-%s", release.FormatID(r.RunID), r.Target.Env, r.Target.Scope, r.Target.Team)
	return name[:min(len(name), maxSessionName)]
}

// tags of the session. They are not transitive: each AssumeRole sends them.
func (r Request) tags() []types.Tag {
	var tags []types.Tag
	for _, t := range []struct{ key, value string }{
		{"env", r.Target.Env}, {"scope", r.Target.Scope}, {"team", r.Target.Team},
		{"run", release.FormatID(r.RunID)}, {"tag", r.Tag},
	} {
		if t.value != "" {
			value := strings.ToValidUTF8(t.value[:min(len(t.value), maxTagValue)], "")
			tags = append(tags, types.Tag{Key: aws.String(t.key), Value: aws.String(value)})
		}
	}
	return tags
}

// duration is what the session is asked to last, at most longest.
func (r Request) duration(longest time.Duration) time.Duration {
	if r.Lifetime <= 0 || r.Lifetime > longest-slack {
		return longest
	}
	return max(minSession, (r.Lifetime + slack).Round(time.Second))
}

// inFiles reports whether the grant is handed over in files whatever its
// sessions last.
func (r Request) inFiles() bool { return r.ownProfile() || r.Renewal }

// ownProfile reports whether the backend names a profile of its own, because a
// phase of the run has an account role for the provider.
func (r Request) ownProfile() bool { return r.AccountRole != "" || r.TwoProfiles }
