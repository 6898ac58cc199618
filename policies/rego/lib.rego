# What rules on plans often ask, for the bundled rules and for users' own:
# import data.waymark.lib.
package waymark.lib

# The change creates, changes or replaces a managed resource.
changed(change) if {
	change.mode != "data"
	some action in change.actions
	action in {"create", "update"}
}

# The change destroys a managed resource, by itself or as half of a replacement.
destroyed(change) if {
	change.mode != "data"
	"delete" in change.actions
}

replaced(change) if {
	destroyed(change)
	"create" in change.actions
}

# The changes that create, change or replace managed resources of a type.
changed_of(type) := [change |
	some change in input.resource_changes
	change.type == type
	changed(change)
]

# The changes that destroy managed resources of a type.
destroyed_of(type) := [change |
	some change in input.resource_changes
	change.type == type
	destroyed(change)
]

# The resource has the tag after the change, whatever its value: in tags or
# tags_all as a map or a list of keys and values, or in blocks named tag.
has_tag(change, tag) if {
	some name in {"tags", "tags_all"}
	value := change.after[name][tag]
	value != ""
	value != null
}

has_tag(change, tag) if {
	some name in {"tags", "tags_all"}
	change.after_unknown[name][tag] == true
}

has_tag(change, tag) if {
	some name in {"tags", "tags_all", "tag"}
	some entry in change.after[name]
	entry.key == tag
}

# A value that a plan marks as sensitive: nobody can say what it is.
hidden(value) if value == "(sensitive)"
