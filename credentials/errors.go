package credentials

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/waymark-cd/waymark/release"
)

// skewed is how far clocks may be apart before AWS refuses signatures; it
// allows five minutes.
const skewed = 4 * time.Minute

// whoTimeout bounds the question who is asking, in the middle of another error.
const whoTimeout = 5 * time.Second

// ready finds out whether the service has an identity at all, because the
// SDK's own words for it are about the last place where it looked.
func (b *Broker) ready(ctx context.Context, region string) error {
	if b.cfg.Credentials == nil {
		return b.noIdentity(errors.New("the configuration has no credentials"))
	}
	_, err := b.cfg.Credentials.Retrieve(ctx)
	var op *smithy.OperationError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("looking for the service's AWS identity: %w", err)
	case passing(err) && !(errors.As(err, &op) && op.ServiceID == "ec2imds"):
		return fmt.Errorf("looking for the service's AWS identity in %s: %w: %w", region, release.ErrUnavailable, err)
	}
	return b.noIdentity(err)
}

func (b *Broker) noIdentity(err error) error {
	profile := "the profile of AWS_PROFILE, or default"
	if b.set.Profile != "" {
		profile = fmt.Sprintf("profile %q", b.set.Profile)
	}
	return fmt.Errorf("the service has no AWS identity: the SDK looked at AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE, %s "+
		"in ~/.aws/config and ~/.aws/credentials (or AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE), the container's credentials "+
		"and the instance's metadata: give it one of these: %w", profile, err)
}

// explain turns STS's answer into what somebody can act on. caller is "" for
// the service itself.
func (b *Broker) explain(ctx context.Context, client *sts.Client, in *sts.AssumeRoleInput, r Request, caller string, err error) error {
	role := *in.RoleArn
	doing := fmt.Sprintf("assuming role %s for run %s", role, release.FormatID(r.RunID))
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if text := b.clocks(err); text != "" {
		return fmt.Errorf("%s: %s: %w", doing, text, short(err))
	}
	if passing(err) {
		return fmt.Errorf("%s: %w: %s: %w", doing, release.ErrUnavailable, reach(err, r.Region), short(err))
	}
	whose := "the service's own credentials"
	if caller != "" {
		whose = "the run's session"
	}
	switch code(err) {
	case "AccessDenied", "AccessDeniedException":
		if caller == "" {
			caller = whoAsks(ctx, client)
		}
		return fmt.Errorf("%s: AWS refuses it to %s: %s: %w", doing, caller, r.trust(in, caller), short(err))
	case "ExpiredToken", "ExpiredTokenException":
		return fmt.Errorf("%s: %s have expired: renew them, or give the service an identity that renews itself, such as an instance or container role: %w", doing, whose, short(err))
	case "InvalidClientTokenId", "UnrecognizedClientException":
		return fmt.Errorf("%s: STS in %s does not know %s: has the access key been deleted, is the Region enabled in its account, is the endpoint the right one? %w", doing, r.Region, whose, short(err))
	case "SignatureDoesNotMatch":
		return fmt.Errorf("%s: the secret key of %s is wrong, or a proxy changes requests on their way: %w", doing, whose, short(err))
	case "RegionDisabledException":
		return fmt.Errorf("%s: STS is switched off in %s: switch it on in the account settings of IAM, in the account of the caller: %w", doing, r.Region, short(err))
	case "PackedPolicyTooLarge", "PackedPolicyTooLargeException":
		return fmt.Errorf("%w session: %s: policy and tags are larger than STS takes once packed: shorten %s: %w", release.ErrInvalid, doing, r.longNames(), short(err))
	}
	return fmt.Errorf("%s: %w", doing, short(err))
}

// trust says what the role's trust policy and the caller's policy would need.
func (r Request) trust(in *sts.AssumeRoleInput, caller string) string {
	actions := "sts:AssumeRole and sts:TagSession"
	if r.SourceIdentity != "" {
		actions = "sts:AssumeRole, sts:TagSession and sts:SetSourceIdentity"
	}
	with := ""
	if in.ExternalId != nil {
		with = fmt.Sprintf(", with sts:ExternalId %q where it asks for one", *in.ExternalId)
	}
	return fmt.Sprintf("does the role exist? Its trust policy must allow %s to %s%s; the caller's own policies must allow the same on the role",
		actions, principal(caller), with)
}

// principal is how a trust policy names the caller: a session by its role.
func principal(arn string) string {
	account, rest, ok := strings.Cut(strings.TrimPrefix(arn, "arn:"), ":assumed-role/")
	partition, account, found := strings.Cut(account, ":sts::")
	role, _, named := strings.Cut(rest, "/")
	if !ok || !found || !named {
		return arn
	}
	return "arn:" + partition + ":iam::" + account + ":role/" + role
}

// whoAsks asks STS who the client is, which needs no permission.
func whoAsks(ctx context.Context, client *sts.Client) string {
	ctx, cancel := context.WithTimeout(ctx, whoTimeout)
	defer cancel()
	out, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "the service's identity"
	}
	return aws.ToString(out.Arn)
}

// clocks tells where this machine's clock is wrong; "" where it is not that.
func (b *Broker) clocks(err error) string {
	at, known := serverTime(err)
	apart := b.now().Sub(at).Abs()
	switch code(err) {
	case "RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture":
	case "SignatureDoesNotMatch", "InvalidSignatureException":
		var said smithy.APIError
		_ = errors.As(err, &said)
		old := strings.Contains(said.ErrorMessage(), "Signature expired") || strings.Contains(said.ErrorMessage(), "not yet current")
		if !old && !(known && apart > skewed) {
			return ""
		}
	default:
		return ""
	}
	here := b.now().UTC().Format(time.RFC3339)
	if !known {
		return "the clock of this machine is wrong: it says " + here + ": set it by NTP"
	}
	return fmt.Sprintf("the clock of this machine says %s, that of AWS %s: set it by NTP", here, at.UTC().Format(time.RFC3339))
}

// serverTime is when AWS says that it answered.
func serverTime(err error) (time.Time, bool) {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil || answer.Response.Response == nil {
		return time.Time{}, false
	}
	at, err := http.ParseTime(answer.Response.Header.Get("Date"))
	return at, err == nil
}

// passing reports whether the same request may well succeed later: throttled,
// a failure inside AWS, or AWS not reached.
func passing(err error) bool {
	if retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary {
		return true
	}
	var sending *smithyhttp.RequestSendError
	var answer *smithyhttp.ResponseError
	return errors.As(err, &sending) || errors.As(err, &answer) &&
		(answer.HTTPStatusCode() >= http.StatusInternalServerError || answer.HTTPStatusCode() == http.StatusTooManyRequests)
}

// reach says in which way AWS was not there.
func reach(err error, region string) string {
	if retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) == aws.TrueTernary {
		return "STS in " + region + " is asked too often"
	}
	if code(err) != "" {
		return "STS in " + region + " has a failure"
	}
	return "STS in " + region + " cannot be reached: look at the network, the proxy, the endpoint and the CA bundle"
}

// code is the error code of AWS's answer; "" where there was none.
func code(err error) string {
	var said smithy.APIError
	if errors.As(err, &said) {
		return said.ErrorCode()
	}
	return ""
}

// short is AWS's own answer, without the SDK's words around it; err itself
// where AWS did not answer.
func short(err error) error {
	var said smithy.APIError
	if !errors.As(err, &said) {
		return err
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) && answer.ServiceRequestID() != "" {
		return &awsError{said, " (request " + answer.ServiceRequestID() + ")"}
	}
	return &awsError{said, ""}
}

// awsError prints an answer of AWS as "Code: message".
type awsError struct {
	smithy.APIError
	request string
}

func (e *awsError) Error() string { return e.ErrorCode() + ": " + e.ErrorMessage() + e.request }

// Unwrap gives the SDK's error.
func (e *awsError) Unwrap() error { return e.APIError }
