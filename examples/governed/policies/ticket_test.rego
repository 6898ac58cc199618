package tag_test

import data.tag

prod(message) := {"target": {"env": "prod"}, "message": message}

test_a_ticket_is_needed if count(tag.deny) == 1 with input as prod("Release 1.0")

test_a_ticket_is_enough if count(tag.deny) == 0 with input as prod("CHG-42: release 1.0")

test_dev_needs_none if count(tag.deny) == 0 with input as {"target": {"env": "dev"}, "message": "try"}
