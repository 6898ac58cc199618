package store_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/store"
)

// TestRunsBeginAboveARestore runs the statement that the documentation gives for
// a restored Postgres database.
func TestRunsBeginAboveARestore(t *testing.T) {
	doc, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^psql "\$DATABASE_URL" -c "(.*)"$`).FindSubmatch(doc)
	if found == nil {
		t.Fatal("docs/operations.md gives no statement for psql")
	}
	url := testkit.Postgres(t)
	s, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	do(t, raw(t, url), string(found[1])) // of no run
	last := admit(t, s, "dev_us-east-1/research/1.0")
	do(t, raw(t, url), string(found[1]))
	if next := admit(t, s, "dev_us-east-1/research/1.1"); next != last+1001 {
		t.Errorf("after run %d and the restore the next one is %d, want %d", last, next, last+1001)
	}
}
