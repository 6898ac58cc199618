package release_test

import (
	"errors"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

func TestPlaces(t *testing.T) {
	for _, s := range []string{"prod", "prod_us-east-1", "prod_global", "prod/research", "prod_us-east-1/research"} {
		p, err := release.ParsePlace(s)
		if err != nil || p.Place() != s {
			t.Errorf("%q: %+v prints %q, %v", s, p, p.Place(), err)
		}
	}
	for _, s := range []string{"", "/", "_", "Prod", "prod_", "prod/", "prod_/x", "prod_us-east-1/", "prod_moon/x", "prod/a/b", "prod_us-east-1/research/1.0", "prod_a_b"} {
		if p, err := release.ParsePlace(s); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("%q is %+v, %v", s, p, err)
		}
	}
}

func TestFreezesCover(t *testing.T) {
	target := release.Target{Env: "prod", Scope: "us-east-1", Team: "research"}
	for place, want := range map[string]bool{"prod": true, "prod_us-east-1": true, "prod/research": true, "prod_us-east-1/research": true,
		"dev": false, "prod_global": false, "prod/risk": false, "prod_us-east-1/risk": false} {
		where, err := release.ParsePlace(place)
		if err != nil || (release.Freeze{Where: where}).Covers(target) != want {
			t.Errorf("%s covers %s: want %v, %v", place, target, want, err)
		}
	}
}
