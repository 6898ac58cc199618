package blobs

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/waymark-cd/waymark/release"
)

// explain says what somebody can do about an answer of S3. action is the one
// that policies know; key is empty where the bucket itself was asked.
func (b *bucket) explain(ctx context.Context, action, key string, err error) error {
	if err == nil {
		return nil
	}
	doing := fmt.Sprintf("%s on bucket %q", action, b.name)
	if key != "" {
		doing = fmt.Sprintf("%s on blob %q in bucket %q", action, key, b.name)
	}
	answer := short(err)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	case throttled(err):
		return fmt.Errorf("%s: %w: S3 in %s is asked too often: %w", doing, release.ErrUnavailable, b.region, answer)
	case passing(err) && code(err) != "":
		return fmt.Errorf("%s: %w: S3 in %s has a failure: %w", doing, release.ErrUnavailable, b.region, answer)
	case passing(err):
		return fmt.Errorf("%s: %w: S3 in %s cannot be reached: look at the network, the proxy, the endpoint and the CA bundle: %w", doing, release.ErrUnavailable, b.region, answer)
	case has(err, "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"), status(err) == http.StatusMovedPermanently:
		return fmt.Errorf("%w blobs: bucket %q is %s, not in %s: correct its Region: %w", release.ErrInvalid, b.name, elsewhere(err), b.region, answer)
	case has(err, "NoSuchBucket"):
		return fmt.Errorf("%w: there is no bucket %q in %s for blobs: make it, or correct its name: %w", release.ErrNotFound, b.name, b.region, answer)
	case has(err, "AccessDenied", "AllAccessDisabled", "AccountProblem", "KMS.AccessDeniedException"):
		return fmt.Errorf("%w by AWS: %s: allow it to the service's role and in the bucket's policy%s: %w", release.ErrRefused, doing, b.keyPermission(action), answer)
	case has(err, "KMS.NotFoundException", "KMS.DisabledException", "KMS.InvalidStateException", "KMS.KMSInvalidStateException"):
		return fmt.Errorf("%w blobs: %s: the key %q cannot be used: correct its name, or enable it: %w", release.ErrInvalid, doing, b.kms, answer)
	case b.lock.For > 0 && has(err, "InvalidRequest"):
		return fmt.Errorf("%w blobs: %s: was bucket %q made with Object Lock? It cannot be turned on by writing: %w", release.ErrInvalid, doing, b.name, answer)
	case has(err, "ExpiredToken", "TokenRefreshRequired"):
		return fmt.Errorf("%s: %w: the session has expired: %w", doing, release.ErrUnavailable, answer)
	case has(err, "RequestTimeTooSkewed"):
		return fmt.Errorf("%s: this machine's clock differs from that of AWS: set it by NTP: %w", doing, answer)
	}
	return fmt.Errorf("%s: %w", doing, answer)
}

// keyPermission names what else AWS asks for.
func (b *bucket) keyPermission(action string) string {
	switch {
	case action == "s3:PutObject" && b.lock.For > 0:
		return ", and s3:PutObjectRetention too"
	case action == "s3:GetObject" && b.kms != "":
		return ", s3:ListBucket too, without which a missing blob looks the same, and kms:Decrypt on " + b.kms
	case action == "s3:GetObject":
		return ", and s3:ListBucket too, without which a missing blob looks the same"
	case action == "s3:PutObject" && b.kms != "":
		return ", and kms:GenerateDataKey and kms:Decrypt on " + b.kms
	}
	return ""
}

func throttled(err error) bool {
	return retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) == aws.TrueTernary || status(err) == http.StatusTooManyRequests
}

// passing reports whether the same request may well succeed later.
func passing(err error) bool {
	var sending *smithyhttp.RequestSendError
	return retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary || errors.As(err, &sending) ||
		status(err) >= http.StatusInternalServerError && status(err) != http.StatusNotImplemented
}

// elsewhere is where a bucket is instead, as far as the answer tells.
func elsewhere(err error) string {
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.Response != nil {
		if region := answer.Response.Header.Get("X-Amz-Bucket-Region"); region != "" {
			return "in " + region
		}
	}
	return "elsewhere"
}

func status(err error) int {
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.Response != nil {
		return answer.HTTPStatusCode()
	}
	return 0
}

// code is the error code of S3's answer; "" where there was none.
func code(err error) string {
	var said smithy.APIError
	if errors.As(err, &said) {
		return said.ErrorCode()
	}
	return ""
}

func has(err error, codes ...string) bool {
	said := code(err)
	for _, c := range codes {
		if said == c {
			return true
		}
	}
	return false
}

// short is S3's own answer, without the SDK's words around it; err itself where
// S3 did not answer.
func short(err error) error {
	var said smithy.APIError
	if errors.As(err, &said) {
		return fmt.Errorf("%s: %s", said.ErrorCode(), said.ErrorMessage())
	}
	return err
}
