// Package identity owns who a caller is and what that person may do: roles, the
// rules that give them, API tokens, and ID tokens of OpenID Connect issuers.
//
// It judges what it is given and speaks to the issuers alone. It must never read
// the record, decide on a run or serve a request; what it is given by a caller is
// hostile until it has verified it.
package identity
