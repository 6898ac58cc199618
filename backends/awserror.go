package backends

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/waymark-cd/waymark/release"
)

// explain turns AWS's answer into what somebody can act on. action is the one
// that policies know, resource an ARN. It wraps release.ErrUnavailable for what
// may well work later, ErrNotFound for a missing bucket or table, ErrRefused
// for a lacking permission and ErrInvalid for a wrong Region.
func (c *connection) explain(err error, action, resource string) error {
	var said *alreadySaid
	if errors.As(err, &said) {
		return said.error
	}
	what, name := "bucket", bucketOf(resource)
	if strings.HasPrefix(action, "dynamodb:") {
		what, name = "table", strings.TrimPrefix(resource[strings.LastIndex(resource, ":")+1:], "table/")
	}
	what = fmt.Sprintf("%s %q", what, name)
	doing := action + " on " + what
	switch answer := short(err); {
	case isLate(err):
		return fmt.Errorf("%s: this machine's clock differs from that of AWS%s: set it by NTP: %w", doing, clocks(err), answer)
	case passing(err):
		return fmt.Errorf("%s: %w: %s: %w", doing, release.ErrUnavailable, c.reach(err), answer)
	case c.isWrongRegion(err):
		return fmt.Errorf("%w backend: %s is %s, not in %s: correct region in the backend block: %w", release.ErrInvalid, what, elsewhere(err), c.region, answer)
	case has(err, "NoSuchBucket", "ResourceNotFoundException", "TableNotFoundException"), action == listBucket && has(err, "NotFound"):
		return fmt.Errorf("%w: there is no %s in %s: make it with `waymark backend bootstrap`, or correct its name: %w", release.ErrNotFound, what, c.region, answer)
	case isDenied(err):
		return fmt.Errorf("%w by AWS: %s is not allowed: allow it on %s in the caller's policies%s: %w", release.ErrRefused, action, resource, orElsewhere(action), answer)
	case has(err, "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"):
		return fmt.Errorf("%s: the session has expired: try again with a new one: %w", doing, answer)
	case has(err, "InvalidAccessKeyId", "InvalidToken", "UnrecognizedClientException", "InvalidClientTokenId"):
		return fmt.Errorf("%s: AWS does not know the credentials: have they been deleted, is the endpoint the right one? %w", doing, answer)
	case has(err, "SignatureDoesNotMatch", "InvalidSignatureException"):
		return fmt.Errorf("%s: the secret key is wrong, or a proxy changes requests on their way: %w", doing, answer)
	default:
		return fmt.Errorf("%s: %w", doing, answer)
	}
}

// orElsewhere names what else may forbid an action.
func orElsewhere(action string) string {
	switch {
	case strings.HasPrefix(action, "dynamodb:"):
		return ""
	case action == "s3:GetObject":
		return " and in the bucket's own; s3:ListBucket too, without which a missing object looks the same, and kms:Decrypt where a key of yours encrypts it"
	}
	return " and in the bucket's own"
}

// bucketOf is the name in the ARN of a bucket or an object.
func bucketOf(arn string) string {
	name, _, _ := strings.Cut(arn[strings.LastIndex(arn, ":::")+3:], "/")
	return name
}

// reach says in which way AWS was not there.
func (c *connection) reach(err error) string {
	switch {
	case retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) == aws.TrueTernary:
		return "AWS in " + c.region + " is asked too often"
	case code(err) != "":
		return "AWS in " + c.region + " has a failure"
	}
	return "AWS in " + c.region + " cannot be reached: look at the network, the proxy, the endpoint and the CA bundle"
}

// isLate reports whether the signature's time is what AWS does not take.
func isLate(err error) bool {
	if has(err, "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture") {
		return true
	}
	var said smithy.APIError
	return has(err, "InvalidSignatureException", "SignatureDoesNotMatch") && errors.As(err, &said) &&
		(strings.Contains(said.ErrorMessage(), "Signature expired") || strings.Contains(said.ErrorMessage(), "not yet current"))
}

// passing reports whether the same request may well succeed later.
func passing(err error) bool {
	if retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary {
		return true
	}
	var sending *smithyhttp.RequestSendError
	status := statusOf(err)
	return errors.As(err, &sending) || status == http.StatusTooManyRequests ||
		status >= http.StatusInternalServerError && status != http.StatusNotImplemented
}

// has reports whether AWS answered with one of the codes.
func has(err error, codes ...string) bool {
	said := code(err)
	for _, c := range codes {
		if said == c {
			return true
		}
	}
	return false
}

func isMissingObject(err error) bool { return has(err, "NoSuchKey") }

// isDenied reports whether a policy forbids it. An answer to HEAD has no code
// but its status's name.
func isDenied(err error) bool {
	return has(err, "AccessDenied", "AccessDeniedException", "Forbidden", "AllAccessDisabled", "AccountProblem", "KMS.AccessDeniedException")
}

func (c *connection) isWrongRegion(err error) bool {
	region := bucketRegion(err)
	return has(err, "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException") ||
		statusOf(err) == http.StatusMovedPermanently || statusOf(err) == http.StatusBadRequest && region != "" && region != c.region
}

// elsewhere is where a bucket is instead, as far as the answer tells.
func elsewhere(err error) string {
	if region := bucketRegion(err); region != "" {
		return "in " + region
	}
	return "elsewhere"
}

// bucketRegion is where AWS says that a bucket is; empty where it does not say.
func bucketRegion(err error) string {
	if answer := responseOf(err); answer != nil {
		return answer.Header.Get("X-Amz-Bucket-Region")
	}
	return ""
}

// clocks tells both times, as far as the answer tells that of AWS.
func clocks(err error) string {
	answer := responseOf(err)
	if answer == nil {
		return ""
	}
	at, failed := http.ParseTime(answer.Header.Get("Date"))
	if failed != nil {
		return ""
	}
	return fmt.Sprintf(" (here %s, there %s)", time.Now().UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
}

func responseOf(err error) *smithyhttp.Response {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil || answer.Response.Response == nil {
		return nil
	}
	return answer.Response
}

func statusOf(err error) int {
	if answer := responseOf(err); answer != nil {
		return answer.StatusCode
	}
	return 0
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

// partition is the part of AWS that a Region belongs to, as ARNs name it.
func partition(region string) string {
	for prefix, name := range map[string]string{"cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-iso-": "aws-iso", "us-isob-": "aws-iso-b",
		"eu-isoe-": "aws-iso-e", "us-isof-": "aws-iso-f", "eusc-": "aws-eusc"} {
		if strings.HasPrefix(region, prefix) {
			return name
		}
	}
	return "aws"
}

func bucketARN(region, bucket string) string { return "arn:" + partition(region) + ":s3:::" + bucket }

func (p s3Place) objectARN(region, key string) string { return bucketARN(region, p.bucket) + "/" + key }

// tableARN names a table of the caller's account.
func tableARN(region, table string) string {
	return "arn:" + partition(region) + ":dynamodb:" + region + ":*:table/" + table
}
