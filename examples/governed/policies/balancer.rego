# Whoever replaces a load balancer needs one more pair of eyes.
package plan

require_approval contains {
	"rule": "load-balancer",
	"message": sprintf("%s is replaced or removed: traffic stops meanwhile", [change.address]),
	"resource": change.address,
	"count": 1,
	"from": ["group:network"],
} if {
	some change in input.resource_changes
	contains(change.address, "load_balancer")
	"delete" in change.actions
}
