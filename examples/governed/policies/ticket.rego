# Production changes name their ticket in the tag's message.
package tag

deny contains {
	"rule": "ticket",
	"message": "the tag's message names no ticket such as CHG-1234: write one into the message of a new tag",
	"link": "https://wiki.example.org/changes",
} if {
	input.target.env == "prod"
	not regex.match(`\bCHG-[0-9]+\b`, input.message)
}
