package release

// Order is a run that a person asks for.
type Order struct {
	Kind   Kind // any but Deploy, which tags alone ask for
	Target Target
	// Version is what a rollback goes back to; empty: what was deployed before.
	Version string
	// Tag or Ref is what is planned: a tag, or a branch or commit.
	Tag, Ref string
	// Repository is where Ref or Tag is; empty: the one that there is.
	Repository string
	// Of is the unknown run to whose evidence a look for drift belongs; 0: to none.
	Of int64
	// Confirm repeats the target that a destroy removes.
	Confirm string
	Actor   string
	Reason  string // a rollback and a destroy need one
}
