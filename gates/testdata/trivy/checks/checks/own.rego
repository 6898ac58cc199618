# METADATA
# title: Team buckets have a name
# description: Own check
# schemas:
#   - input: schema["cloud"]
# custom:
#   id: USR-0001
#   severity: MEDIUM
#   input:
#     selector:
#       - type: cloud
package user.own

import rego.v1

deny contains res if {
	some lb in input.aws.elb.loadbalancers
	res := result.new("own rule", lb)
}
