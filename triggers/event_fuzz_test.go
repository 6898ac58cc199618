package triggers

import (
	"encoding/json"
	"slices"
	"testing"
)

// FuzzParseEvent holds that whatever a message says, it is an event that was
// asked for or an error of bounded length.
func FuzzParseEvent(f *testing.F) {
	f.Add(`{"source":"aws.codecommit","detail-type":"CodeCommit Repository State Change","detail":{"event":"referenceCreated","repositoryName":"r","referenceType":"tag"}}`)
	f.Add(`{"Type":"Notification","Message":"{\"source\":\"aws.codecommit\",\"detail-type\":\"CodeCommit Repository State Change\",\"detail\":null}"}`)
	f.Add(`{"source":"aws.codecommit","Message":"{}"}`)
	f.Add(`[{}]`)
	f.Add("\x00")
	f.Fuzz(func(t *testing.T, body string) {
		c, err := parseEvent(body)
		if err != nil {
			if len(err.Error()) > 2000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if !json.Valid([]byte(body)) || !slices.Contains([]string{"tag", "branch"}, c.ReferenceType) {
			t.Errorf("read %+v", c)
		}
	})
}
