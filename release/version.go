package release

import "github.com/waymark-cd/waymark/tagparse"

// CompareVersions orders two versions by what they mean: below 0 where a is the
// older. What is no version is older than all that are.
func CompareVersions(a, b string) int {
	left, _ := tagparse.ParseVersion(a) // the zero Version is lower than all
	right, _ := tagparse.ParseVersion(b)
	return tagparse.Compare(left, right)
}
