package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/waymark-cd/waymark/release"
)

// hugePlan is a plan of about so many bytes of JSON.
func hugePlan(t testing.TB, size int) *tfjson.Plan {
	t.Helper()
	var b strings.Builder
	b.WriteString(`{"format_version": "1.2", "resource_changes": [`)
	for i := 0; b.Len() < size; i++ {
		if i > 0 {
			b.WriteString(",")
		}
		values := fmt.Sprintf(`{"arn": "arn:aws:s3:eu-central-1:111111111111:x%d", "name": "bucket-%[1]d", "tags": {"owner": "a"}, "list": [1, 2, {"a": true}], "policy": %q}`,
			i, strings.Repeat("x", 300))
		fmt.Fprintf(&b, `{"address": "aws_s3_bucket.b[%d]", "mode": "managed", "type": "aws_s3_bucket", "name": "b", "provider_name": "registry.terraform.io/hashicorp/aws",
			"change": {"actions": ["update"], "before": %[2]s, "after": %[2]s, "after_unknown": {"id": true}}}`, i, values)
	}
	b.WriteString("]}")
	p := new(tfjson.Plan)
	p.UseJSONNumber(true)
	if err := json.Unmarshal([]byte(b.String()), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// A plan that is too large for the memory that users' rules may take is denied,
// and the answer says what to do; given enough, it is judged.
func TestAHugePlan(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time")
	}
	p := hugePlan(t, 20<<20)
	spec := release.PolicySpec{Account: "111111111111", RequiredTags: []string{"owner"}, Timeout: 2 * time.Minute, Memory: 128 << 20,
		Files: rules("plan.rego", "package plan\nimport data.waymark.lib\nwarn contains \"many\" if count(lib.changed_of(\"aws_s3_bucket\")) > 10000")}
	if _, err := engine(t, spec).Plan(t.Context(), p); !errors.Is(err, release.ErrRefused) ||
		!strings.Contains(err.Error(), "the input of package plan needed more than 128 MiB of memory: write the rules so that they need less, or raise policy { memory }") {
		t.Errorf("got %v", err)
	}
	spec.Memory = 0
	if v, err := engine(t, spec).Plan(t.Context(), p); err != nil || said(v) != "warning plan.warn  many" {
		t.Errorf("got %s, %v", said(v), err)
	}
}
