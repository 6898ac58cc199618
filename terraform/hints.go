package terraform

import "strings"

// hints are what to do about failures that do not say it themselves: what one
// of the texts in summary or detail means. The first that fits is taken.
// BadRequest is all that S3 says of an expired session to a request for a head.
// Those of a state say nothing about a failure that has a resource's address.
var hints = []struct {
	says    []string
	hint    string
	ofState bool
}{
	{[]string{"Saved plan is stale"}, "the state changed after the plan was made: run it again", false},
	{[]string{"Missing backend configuration"}, "the code has no backend block and its state would be lost", false},
	{[]string{"does not have the expected content", "state data in S3 does not match"},
		"the state object and its digest in the lock table disagree: an earlier write ended between the two, or somebody changed the object. Look at the object's versions, put the right one back or correct the item that ends in -md5, then retry", true},
	{[]string{"which is newer than current", "was created by a newer version", "Unsupported state file format"},
		"the state was written by a newer version of the engine: set engine { version } and install that one; nothing was changed", true},
	{[]string{"NoSuchBucket", "S3 bucket does not exist"},
		"there is no such state bucket: waymark backend bootstrap creates it, waymark backend verify shows what else is missing", true},
	{[]string{"ResourceNotFoundException", "Requested resource not found", "Cannot do operations on a non-existent table"},
		"there is no such lock table: waymark backend bootstrap creates it, waymark backend verify shows what else is missing", true},
	{[]string{"ExpiredToken", "security token included in the request is expired", "credentials have expired", "api error BadRequest"},
		"the session of the run has expired: retry the run; where it needs longer, let the role's maximum session duration cover engine { timeout }", false},
	{[]string{"RequestTimeTooSkewed", "Signature expired", "Signature not yet current", "difference between the request time and the current time"},
		"this machine's clock is wrong: set it by NTP, then retry", false},
	{[]string{"PermanentRedirect", "BucketRegionError", "AuthorizationHeaderMalformed", "requested bucket from"},
		"the state bucket is in another Region than the backend's region says", true},
	{[]string{"BucketAlreadyExists", "bucket owned by another account"}, "the state bucket belongs to somebody else: take another name", true},
	{[]string{"sts:AssumeRole", "Cannot assume IAM Role", "AssumeRole, "},
		"the role cannot be assumed by the run's session: its trust policy must name run_role and allow sts:AssumeRole, sts:SetSourceIdentity and sts:TagSession, and it must lie in the target's own account", false},
	{[]string{"AccessDenied", "UnauthorizedOperation", "is not authorized to perform", "Forbidden"},
		"AWS refuses it to the run's session, which reaches its own state, lock and account alone: look whether run_role itself may do it", true},
}

// hint is what to do about a diagnostic, with the part of its text that tells
// it apart; empty where it says enough by itself.
func (d Diagnostic) hint() string {
	for _, h := range hints {
		if h.ofState && d.Address != "" {
			continue
		}
		for _, says := range h.says {
			if d.Summary == says {
				return h.hint
			}
			if strings.Contains(d.Summary, says) {
				return h.hint
			}
			if strings.Contains(d.Detail, says) {
				return h.hint + " (" + excerpt(d.Detail, says) + ")"
			}
		}
	}
	return ""
}

// excerpt is what a line of the detail says from a text on.
func excerpt(detail, says string) string {
	_, after, _ := strings.Cut(detail, says)
	line, _, _ := strings.Cut(after, "\n")
	return oneLine(says+strings.TrimRight(line, ". "), 160)
}
